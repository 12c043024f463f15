-- Certificates are found by their holder in blocks of 1,024: what one commit adds to the index stands together, however many
-- holders there are. Who asks looks into each block, or into those where one may be valid.
CREATE TABLE certificate_block (
    number     BIGINT PRIMARY KEY,       -- key / 1024
    not_after  BIGINT  NOT NULL          -- of the certificate in it that lasts longest
);
INSERT INTO certificate_block SELECT key / 1024, max(not_after) FROM certificate GROUP BY key / 1024;
DROP INDEX certificate_holder;
CREATE INDEX certificate_holder ON certificate ((key / 1024), kind, name, not_after);
