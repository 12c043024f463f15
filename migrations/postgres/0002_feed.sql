-- The sequence as the feed sends it: each revocation and each resume, one line of JSON that is never written anew, and
-- the hash chain up to it. Written in the transaction of the entry.
CREATE TABLE feed_entry (
    n        BIGINT PRIMARY KEY,
    epoch    BIGINT NOT NULL,
    over_at  BIGINT NOT NULL,           -- from then on it can hit nothing that is valid
    line     TEXT    NOT NULL,
    chain    BYTEA    NOT NULL
);

-- Up to the newest number; NULL: not chained yet.
ALTER TABLE head ADD COLUMN chain BYTEA;
-- Entries up to the floor can hit nothing any more; those that stay all the same are counted and have a chain of their own.
ALTER TABLE head ADD COLUMN floor BIGINT NOT NULL DEFAULT 0;
ALTER TABLE head ADD COLUMN floor_chain BYTEA;
ALTER TABLE head ADD COLUMN standing BIGINT NOT NULL DEFAULT 0;
ALTER TABLE head ADD COLUMN standing_chain BYTEA;

-- The keys that sign heads, each announced from its making on.
CREATE TABLE head_key (
    key_id       BYTEA    PRIMARY KEY,
    signs_from   BIGINT NOT NULL,
    certificate  BYTEA    NOT NULL,
    sealed_key   BYTEA    NOT NULL
);

-- The logs of earlier epochs, as they were found when the next one began.
CREATE TABLE past_log_entry (
    epoch       BIGINT NOT NULL,
    position    BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    action      TEXT    NOT NULL,
    salt        BYTEA,
    record      BYTEA,
    commitment  BYTEA    NOT NULL,
    PRIMARY KEY (epoch, position)
);
