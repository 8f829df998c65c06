-- Records that are found, that lead to others, and that sessions leave.

-- Parked, and waiting or being sent for it: when the record is looked for again. Null if it is not.
ALTER TABLE deliveries ADD COLUMN look_at INTEGER;
-- Where several records fit: those that were seen, as JSON.
ALTER TABLE deliveries ADD COLUMN candidates TEXT;
-- The record that former versions of the session went to, where this one names another.
ALTER TABLE deliveries ADD COLUMN moved_from TEXT;
CREATE INDEX deliveries_look ON deliveries (destination, look_at) WHERE state = 'parked';

-- How a delivery came to another record than the one that its session names.
CREATE TABLE moves (
    delivery    INTEGER NOT NULL REFERENCES deliveries (id),
    place       INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    -- Null: there was none.
    from_record TEXT,
    to_record   TEXT    NOT NULL,
    how         TEXT    NOT NULL,
    PRIMARY KEY (delivery, place)
) STRICT, WITHOUT ROWID;
