-- What only PostgreSQL has, made before the numbered files: those are written for SQLite and translated.

-- One row: how far the schema is, the oldest program that may work with it, and the key of all instances.
CREATE TABLE ledger (
    id           BIGINT PRIMARY KEY CHECK (id = 1),
    version      BIGINT NOT NULL,
    oldest       BIGINT NOT NULL,
    instance_key TEXT   NOT NULL
);

-- Who reads a source that only one may read. `fence` counts the takings over.
CREATE TABLE readers (
    source TEXT   PRIMARY KEY,
    holder TEXT   NOT NULL,
    fence  BIGINT NOT NULL,
    until  BIGINT NOT NULL
);

-- Locked in place of a lane (`lock.rs`). Never changed.
CREATE TABLE lane_locks (id BIGINT PRIMARY KEY);
INSERT INTO lane_locks (id) SELECT generate_series(0, 65535);
