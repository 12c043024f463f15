-- One row: what the writer goes on from. It is read and written in the transaction of every decision.
CREATE TABLE head (
    one               BIGINT PRIMARY KEY CHECK (one = 1),
    epoch             BIGINT NOT NULL,
    frontier          BYTEA   NOT NULL,  -- size and right edge of the log's tree
    at                BIGINT NOT NULL,  -- of the newest entry; never falls
    revocation        BIGINT NOT NULL,  -- the newest number
    bundle_version    BIGINT NOT NULL,
    certificate       BIGINT NOT NULL,  -- the newest key
    lease_holder      TEXT,
    lease_fence       BIGINT NOT NULL,  -- rises with each holder
    lease_expires_at  BIGINT NOT NULL   -- by the database's clock
);

INSERT INTO head VALUES (1, 1, '\x0000000000000000', 0, 0, 0, 0, NULL, 0, 0);

-- What one certificate says is in its DER; the columns beside it are what it is found by.
CREATE TABLE certificate (
    key        BIGINT PRIMARY KEY,      -- rises with each one issued
    serial     BYTEA   NOT NULL UNIQUE,  -- over all authorities
    authority  BYTEA   NOT NULL,
    kind       BIGINT NOT NULL,         -- holder: 1 agent, 2 service, 3 administrator, 4 the issuer
    name       TEXT    NOT NULL,
    lineage    BYTEA,
    delegated  BIGINT NOT NULL,         -- 1: descends from another
    not_after  BIGINT NOT NULL,
    log_index  BIGINT NOT NULL,
    der        BYTEA   NOT NULL
);
CREATE INDEX certificate_holder ON certificate (kind, name, not_after);
CREATE INDEX certificate_delegated ON certificate (kind, name, not_after) WHERE delegated = 1;
CREATE INDEX certificate_not_after ON certificate (not_after);

-- Where a chain of renewals stands. Purged when it is over.
CREATE TABLE lineage (
    id                  BYTEA   PRIMARY KEY,
    kind                BIGINT NOT NULL,
    name                TEXT    NOT NULL,
    instance            BYTEA,
    serial              BYTEA   NOT NULL,  -- the one that may be renewed
    key_digest          BYTEA   NOT NULL,  -- SHA-256 of its SPKI
    previous_serial     BYTEA,              -- whose renewal may be asked for again, with the current key
    not_after           BIGINT NOT NULL,
    session_end         BIGINT,
    ended               BIGINT NOT NULL,  -- 1: stopped for good, frees its place among max_instances
    created_at          BIGINT NOT NULL,
    method              TEXT    NOT NULL,
    evidence            BYTEA   NOT NULL,  -- SHA-256
    selectors           TEXT    NOT NULL   -- JSON
);
CREATE INDEX lineage_holder ON lineage (kind, name, not_after, ended);
CREATE INDEX lineage_instance ON lineage (instance);
CREATE INDEX lineage_key ON lineage (key_digest);
CREATE INDEX lineage_not_after ON lineage (not_after);

-- Evidence that was spent, and on what: a lost reply can be asked for again by the same key.
CREATE TABLE redemption (
    evidence    BYTEA   NOT NULL,          -- SHA-256
    key_digest  BYTEA   NOT NULL,
    serial      BYTEA   NOT NULL,
    at          BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,          -- may be forgotten then
    peer        TEXT,
    PRIMARY KEY (evidence, key_digest)
);
CREATE INDEX redemption_expires_at ON redemption (expires_at);

CREATE TABLE log_entry (
    position    BIGINT PRIMARY KEY,
    at          BIGINT NOT NULL,
    action      TEXT    NOT NULL,
    salt        BYTEA,                      -- NULL with its record: deleted, provable all the same
    record      BYTEA,
    commitment  BYTEA   NOT NULL
);

-- The nodes of the tree above level 0 that tiles hold, each once complete.
CREATE TABLE log_node (
    level     BIGINT NOT NULL,
    position  BIGINT NOT NULL,
    hash      BYTEA   NOT NULL,
    PRIMARY KEY (level, position)
);

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
    id           BYTEA   PRIMARY KEY,
    secret_hash  BYTEA   NOT NULL UNIQUE,
    uses         BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    log_index    BIGINT NOT NULL UNIQUE,
    document     TEXT    NOT NULL
);
CREATE TABLE api_token (
    id           BYTEA   PRIMARY KEY,
    secret_hash  BYTEA   NOT NULL UNIQUE,
    expires_at   BIGINT NOT NULL,
    log_index    BIGINT NOT NULL UNIQUE,
    document     TEXT    NOT NULL
);

-- The sequence. The document is the wire form; entries are never deleted, a resume is written into what it ends.
CREATE TABLE revocation (
    n          BIGINT PRIMARY KEY,
    id         BYTEA    NOT NULL UNIQUE,
    target     TEXT    NOT NULL,
    effect     TEXT    NOT NULL,
    resumed_n  BIGINT UNIQUE,             -- the number of the resume that ended it
    document   TEXT    NOT NULL
);
CREATE INDEX revocation_target ON revocation (target);

CREATE TABLE authority (
    key_id       BYTEA   PRIMARY KEY,
    kind         TEXT    NOT NULL,
    log_index    BIGINT NOT NULL,
    certificate  BYTEA   NOT NULL,
    sealed_key   BYTEA,                     -- NULL: the key is elsewhere
    crl_number   BIGINT,
    crl          BYTEA
);
