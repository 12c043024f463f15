-- What a renewal changes of a lineage stands by itself: rows are short, and a commit of many touches few pages.
CREATE TABLE newest (
    lineage      BLOB    PRIMARY KEY,
    serial       BLOB    NOT NULL,         -- the certificate that may be renewed
    not_after    INTEGER NOT NULL,         -- its end
    session_end  INTEGER,
    ended        INTEGER NOT NULL          -- 1: stopped for good, frees its place among max_instances
) WITHOUT ROWID;
INSERT INTO newest SELECT id, serial, not_after, session_end, ended FROM lineage;

-- Which certificate of its lineage it followed: that one's renewal may be asked for again, with the key of this one.
ALTER TABLE certificate ADD COLUMN previous BLOB;
UPDATE certificate SET previous = lineage.previous_serial FROM lineage WHERE lineage.serial = certificate.serial;

ALTER TABLE lineage DROP COLUMN serial;
ALTER TABLE lineage DROP COLUMN key_digest;
ALTER TABLE lineage DROP COLUMN previous_serial;
ALTER TABLE lineage DROP COLUMN not_after;
ALTER TABLE lineage DROP COLUMN session_end;
ALTER TABLE lineage DROP COLUMN ended;
