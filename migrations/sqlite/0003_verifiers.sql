-- Replicas of services that verify. Written when one is first seen, deleted when it is long gone; not in between.
CREATE TABLE verifier (
    lineage        BLOB    PRIMARY KEY,
    service        TEXT    NOT NULL,
    first_seen_at  INTEGER NOT NULL
) WITHOUT ROWID;
