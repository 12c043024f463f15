-- Certificates stand in blocks of 1,024, as they were issued, and are found by their holder in each: what one commit adds to
-- the index stands together, however many holders there are. Who asks for valid ones looks where one may be.
CREATE TABLE certificate_block (
    number     INTEGER PRIMARY KEY,      -- key / 1024
    not_after  INTEGER NOT NULL          -- of the certificate in it that lasts longest
);
INSERT INTO certificate_block SELECT key / 1024, max(not_after) FROM certificate GROUP BY key / 1024;
CREATE INDEX certificate_block_not_after ON certificate_block (not_after);
DROP INDEX certificate_not_after;
DROP INDEX certificate_holder;
CREATE INDEX certificate_holder ON certificate ((key / 1024), kind, name, not_after);
