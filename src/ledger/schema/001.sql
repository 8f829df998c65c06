-- The first ledger. Times are milliseconds since 1970 (UTC); `updated_us` is microseconds, because it
-- orders versions and documents write fractions. JSON is text. Indexes over what is still to be done are
-- partial: their size, and so the cost of a claim, does not depend on what is already done.

CREATE TABLE messages (
    id          INTEGER PRIMARY KEY,
    source      TEXT    NOT NULL,
    input       TEXT    NOT NULL,
    raw_digest  TEXT    NOT NULL,
    message_id  TEXT,
    is_document INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('processed', 'ignored', 'quarantined', 'discarded')),
    reason      TEXT,
    detail      TEXT,
    note        TEXT,
    -- The same name with other bytes (a file written anew) is another message.
    UNIQUE (source, input, raw_digest)
) STRICT;
CREATE INDEX messages_quarantined ON messages (id) WHERE state = 'quarantined';

-- Apart from its message, so that lists never read it.
CREATE TABLE raws (
    message INTEGER PRIMARY KEY REFERENCES messages (id),
    bytes   BLOB NOT NULL
) STRICT;

CREATE TABLE sessions (
    id         INTEGER PRIMARY KEY,
    instance   TEXT    NOT NULL,
    channel    TEXT    NOT NULL,
    session_id TEXT    NOT NULL,
    -- Number of the version that counts; its instant, which a duplicate with a later one moves forward.
    newest     INTEGER NOT NULL,
    updated_us INTEGER,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    UNIQUE (instance, channel, session_id)
) STRICT;

-- Distinct contents of a session, in the order of their recording. Never changed.
CREATE TABLE versions (
    id           INTEGER PRIMARY KEY,
    session      INTEGER NOT NULL REFERENCES sessions (id),
    number       INTEGER NOT NULL,
    updated_us   INTEGER,
    -- Of `document`; and of what the message held, which differs if that was merged.
    digest       TEXT    NOT NULL,
    found_digest TEXT    NOT NULL,
    standing     TEXT    NOT NULL CHECK (standing IN ('first', 'newer', 'supplement', 'older')),
    message      INTEGER NOT NULL REFERENCES messages (id),
    legs         INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    document     TEXT    NOT NULL,
    UNIQUE (session, number)
) STRICT;

-- What a message held: one row per session in it, duplicates too, each with the version it amounts to.
CREATE TABLE found (
    message  INTEGER NOT NULL REFERENCES messages (id),
    place    INTEGER NOT NULL,
    session  INTEGER NOT NULL REFERENCES sessions (id),
    version  INTEGER NOT NULL REFERENCES versions (id),
    standing TEXT    NOT NULL CHECK (standing IN ('first', 'newer', 'supplement', 'duplicate', 'older')),
    evidence TEXT    NOT NULL,
    warnings TEXT    NOT NULL,
    PRIMARY KEY (message, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX found_session ON found (session);

CREATE TABLE deliveries (
    id           INTEGER PRIMARY KEY,
    session      INTEGER NOT NULL REFERENCES sessions (id),
    version      INTEGER NOT NULL REFERENCES versions (id),
    destination  TEXT    NOT NULL,
    record       TEXT,
    -- What goes in order and one at a time: the record, or the session while there is none.
    lane         TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('waiting', 'sending', 'parked', 'delivered', 'unchanged',
                                                   'superseded', 'dead', 'discarded')),
    -- 1: the first waiting one of its lane, while none of the lane is being sent.
    head         INTEGER NOT NULL DEFAULT 0,
    attempts     INTEGER NOT NULL DEFAULT 0,
    -- Waiting: not before. Parked: its deadline. Otherwise null.
    next_at      INTEGER,
    -- How often it was claimed: fences the results of older claims.
    lease        INTEGER NOT NULL DEFAULT 0,
    leased_at    INTEGER,
    leased_until INTEGER,
    uncertain    INTEGER NOT NULL DEFAULT 0,
    reason       TEXT,
    detail       TEXT,
    created_at   INTEGER NOT NULL,
    -- The retry horizon counts from here: made, or retried by hand.
    since        INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX deliveries_session ON deliveries (session);
CREATE INDEX deliveries_fresh ON deliveries (destination, next_at, id) WHERE state = 'waiting' AND head = 1 AND attempts = 0;
CREATE INDEX deliveries_again ON deliveries (destination, next_at, id) WHERE state = 'waiting' AND head = 1 AND attempts > 0;
CREATE INDEX deliveries_lane ON deliveries (destination, lane, id) WHERE state = 'waiting';
-- Two updates of one record at once can't even be written down.
CREATE UNIQUE INDEX deliveries_sending ON deliveries (destination, lane) WHERE state = 'sending';
CREATE INDEX deliveries_leased ON deliveries (leased_until) WHERE state = 'sending';
CREATE INDEX deliveries_parked ON deliveries (next_at) WHERE state = 'parked';
CREATE INDEX deliveries_dead ON deliveries (id) WHERE state = 'dead';

-- One row per try that ended, under the lease it had.
CREATE TABLE attempts (
    delivery    INTEGER NOT NULL REFERENCES deliveries (id),
    lease       INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    outcome     TEXT    NOT NULL CHECK (outcome IN ('delivered', 'deferred', 'failed')),
    reason      TEXT    NOT NULL,
    detail      TEXT    NOT NULL,
    exchanges   TEXT    NOT NULL,
    PRIMARY KEY (delivery, lease)
) STRICT, WITHOUT ROWID;

-- The last applied request of each step: what is the same is not sent again.
CREATE TABLE applied (
    session     INTEGER NOT NULL REFERENCES sessions (id),
    destination TEXT    NOT NULL,
    step        TEXT    NOT NULL,
    digest      TEXT    NOT NULL,
    delivery    INTEGER NOT NULL REFERENCES deliveries (id),
    PRIMARY KEY (session, destination, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE positions (
    source     TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (source, key)
) STRICT, WITHOUT ROWID;

-- Every destination that ever had a delivery or a pause.
CREATE TABLE destinations (
    name          TEXT PRIMARY KEY,
    paused_at     INTEGER,
    -- Null while paused: until a person resumes it.
    paused_until  INTEGER,
    paused_reason TEXT,
    paused_detail TEXT
) STRICT, WITHOUT ROWID;
