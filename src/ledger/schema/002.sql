-- What stands behind the rules: a brake on repeats, an end for raw mail, an account of what was erased.

-- Why the raw bytes are gone (`retention`, `erased`), and when. Null while they are there.
ALTER TABLE messages ADD COLUMN raw_removed TEXT;
ALTER TABLE messages ADD COLUMN raw_removed_at INTEGER;

-- Whether a session had a content before. Most sessions have one version and cost nothing here.
CREATE INDEX versions_content ON versions (session, digest) WHERE number > 1;

-- Deliveries that the brake looked at: those that repeat a content, and those that it held back (`held`). A row
-- is of no use once it is older than the brake's window.
CREATE TABLE repeats (
    destination TEXT    NOT NULL,
    lane        TEXT    NOT NULL,
    held        INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    delivery    INTEGER NOT NULL REFERENCES deliveries (id),
    -- Digest of the address that the mail names as its author.
    sender      TEXT,
    PRIMARY KEY (destination, lane, held, at, delivery)
) STRICT, WITHOUT ROWID;
CREATE INDEX repeats_sender ON repeats (sender, held, at);
CREATE INDEX repeats_delivery ON repeats (delivery);

-- One row per session that a person had erased: how much there was, and nothing of what.
CREATE TABLE erasures (
    id         INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    versions   INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    messages   INTEGER NOT NULL
) STRICT;
