-- What a delivery has done before its end, so that a restart goes on inside it.

-- One row per step that is done or, of effect `once`, under way. Gone with the end of the delivery.
CREATE TABLE progress (
    delivery INTEGER NOT NULL REFERENCES deliveries (id),
    step     TEXT    NOT NULL,
    digest   TEXT    NOT NULL,
    -- Null: under way, written down before its request went out.
    done_at  INTEGER,
    applied  INTEGER NOT NULL,
    -- JSON; null where the answer was never seen.
    captures TEXT,
    -- Why it was done in part only.
    reason   TEXT,
    detail   TEXT,
    PRIMARY KEY (delivery, step)
) STRICT, WITHOUT ROWID;

-- The delivery of the session whose end nobody knows and that may have replaced what was applied.
ALTER TABLE applied ADD COLUMN in_doubt INTEGER;

-- Lanes in which a request may still be under way in the CRM, until when nothing else goes out in them.
CREATE TABLE graces (
    destination TEXT    NOT NULL,
    lane        TEXT    NOT NULL,
    until       INTEGER NOT NULL,
    PRIMARY KEY (destination, lane)
) STRICT, WITHOUT ROWID;
