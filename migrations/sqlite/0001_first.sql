-- One row: what the writer goes on from. It is read and written in the transaction of every decision.
CREATE TABLE head (
    one               INTEGER PRIMARY KEY CHECK (one = 1),
    epoch             INTEGER NOT NULL,
    frontier          BLOB    NOT NULL,  -- size and right edge of the log's tree
    at                INTEGER NOT NULL,  -- of the newest entry; never falls
    revocation        INTEGER NOT NULL,  -- the newest number
    bundle_version    INTEGER NOT NULL,
    certificate       INTEGER NOT NULL,  -- the newest key
    lease_holder      TEXT,
    lease_fence       INTEGER NOT NULL,  -- rises with each holder
    lease_expires_at  INTEGER NOT NULL   -- by the database's clock
);

INSERT INTO head VALUES (1, 1, x'0000000000000000', 0, 0, 0, 0, NULL, 0, 0);

-- What one certificate says is in its DER; the columns beside it are what it is found by.
CREATE TABLE certificate (
    key        INTEGER PRIMARY KEY,      -- rises with each one issued
    serial     BLOB    NOT NULL UNIQUE,  -- over all authorities
    authority  BLOB    NOT NULL,
    kind       INTEGER NOT NULL,         -- holder: 1 agent, 2 service, 3 administrator, 4 the issuer
    name       TEXT    NOT NULL,
    lineage    BLOB,
    delegated  INTEGER NOT NULL,         -- 1: descends from another
    not_after  INTEGER NOT NULL,
    log_index  INTEGER NOT NULL,
    der        BLOB    NOT NULL
);
CREATE INDEX certificate_holder ON certificate (kind, name, not_after);
CREATE INDEX certificate_delegated ON certificate (kind, name, not_after) WHERE delegated = 1;
CREATE INDEX certificate_not_after ON certificate (not_after);

-- Where a chain of renewals stands. Purged when it is over.
CREATE TABLE lineage (
    id                  BLOB    PRIMARY KEY,
    kind                INTEGER NOT NULL,
    name                TEXT    NOT NULL,
    instance            BLOB,
    serial              BLOB    NOT NULL,  -- the one that may be renewed
    key_digest          BLOB    NOT NULL,  -- SHA-256 of its SPKI
    previous_serial     BLOB,              -- whose renewal may be asked for again, with the current key
    not_after           INTEGER NOT NULL,
    session_end         INTEGER,
    ended               INTEGER NOT NULL,  -- 1: stopped for good, frees its place among max_instances
    created_at          INTEGER NOT NULL,
    method              TEXT    NOT NULL,
    evidence            BLOB    NOT NULL,  -- SHA-256
    selectors           TEXT    NOT NULL   -- JSON
) WITHOUT ROWID;
CREATE INDEX lineage_holder ON lineage (kind, name, not_after, ended);
CREATE INDEX lineage_instance ON lineage (instance);
CREATE INDEX lineage_key ON lineage (key_digest);
CREATE INDEX lineage_not_after ON lineage (not_after);

-- Evidence that was spent, and on what: a lost reply can be asked for again by the same key.
CREATE TABLE redemption (
    evidence    BLOB    NOT NULL,          -- SHA-256 of it
    key_digest  BLOB    NOT NULL,
    serial      BLOB    NOT NULL,
    at          INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,          -- may be forgotten then
    peer        TEXT,
    PRIMARY KEY (evidence, key_digest)
) WITHOUT ROWID;
CREATE INDEX redemption_expires_at ON redemption (expires_at);

CREATE TABLE log_entry (
    position    INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    action      TEXT    NOT NULL,
    salt        BLOB,                      -- NULL with its record: deleted, provable all the same
    record      BLOB,
    commitment  BLOB    NOT NULL
);

-- The nodes of the tree above level 0 that tiles hold, each once complete.
CREATE TABLE log_node (
    level     INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    hash      BLOB    NOT NULL,
    PRIMARY KEY (level, position)
) WITHOUT ROWID;

-- Records: the document is the wire form, the columns beside it are what it is found by. All are held in memory.
CREATE TABLE agent (
    name      TEXT PRIMARY KEY,
    document  TEXT NOT NULL
);
CREATE TABLE service (
    name      TEXT PRIMARY KEY,
    document  TEXT NOT NULL
);
CREATE TABLE admin (
    name      TEXT PRIMARY KEY,
    document  TEXT NOT NULL
);
-- A system and a DNS name have one service that answers for them.
CREATE TABLE system (
    name     TEXT PRIMARY KEY,
    service  TEXT NOT NULL REFERENCES service (name)
);
CREATE TABLE dns_name (
    name     TEXT PRIMARY KEY,
    service  TEXT NOT NULL REFERENCES service (name)
);
CREATE TABLE join_token (
    id           BLOB    PRIMARY KEY,
    secret_hash  BLOB    NOT NULL UNIQUE,
    uses         INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    log_index    INTEGER NOT NULL UNIQUE,
    document     TEXT    NOT NULL
);
CREATE TABLE api_token (
    id           BLOB    PRIMARY KEY,
    secret_hash  BLOB    NOT NULL UNIQUE,
    expires_at   INTEGER NOT NULL,
    log_index    INTEGER NOT NULL UNIQUE,
    document     TEXT    NOT NULL
);

-- The sequence. The document is the wire form; entries are never deleted, a resume is written into what it ends.
CREATE TABLE revocation (
    n          INTEGER PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE,
    target     TEXT    NOT NULL,
    effect     TEXT    NOT NULL,
    resumed_n  INTEGER UNIQUE,             -- the number of the resume that ended it
    document   TEXT    NOT NULL
);
CREATE INDEX revocation_target ON revocation (target);

CREATE TABLE authority (
    key_id       BLOB    PRIMARY KEY,
    kind         TEXT    NOT NULL,
    log_index    INTEGER NOT NULL,
    certificate  BLOB    NOT NULL,
    sealed_key   BLOB,                     -- NULL: the key is elsewhere
    crl_number   INTEGER,
    crl          BLOB
);
