-- The sequence as the feed sends it: each revocation and each resume, one line of JSON that is never written anew, and
-- the hash chain up to it. Written in the transaction of the entry.
CREATE TABLE feed_entry (
    n        INTEGER PRIMARY KEY,
    epoch    INTEGER NOT NULL,
    over_at  INTEGER NOT NULL,           -- from then on it can hit nothing that is valid
    line     TEXT    NOT NULL,
    chain    BLOB    NOT NULL
);

-- Up to the newest number; NULL: not chained yet.
ALTER TABLE head ADD COLUMN chain BLOB;
-- Entries up to the floor can hit nothing any more; those that stay all the same are counted and have a chain of their own.
ALTER TABLE head ADD COLUMN floor INTEGER NOT NULL DEFAULT 0;
ALTER TABLE head ADD COLUMN floor_chain BLOB;
ALTER TABLE head ADD COLUMN standing INTEGER NOT NULL DEFAULT 0;
ALTER TABLE head ADD COLUMN standing_chain BLOB;

-- The keys that sign heads, each announced from its making on.
CREATE TABLE head_key (
    key_id       BLOB    PRIMARY KEY,
    signs_from   INTEGER NOT NULL,
    certificate  BLOB    NOT NULL,
    sealed_key   BLOB    NOT NULL
);

-- The logs of earlier epochs, as they were found when the next one began.
CREATE TABLE past_log_entry (
    epoch       INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    action      TEXT    NOT NULL,
    salt        BLOB,
    record      BLOB,
    commitment  BLOB    NOT NULL,
    PRIMARY KEY (epoch, position)
);
