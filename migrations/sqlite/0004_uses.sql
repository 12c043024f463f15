-- How often a join token was spent, and the key it was spent on last: a use reads no other.
ALTER TABLE join_token ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE join_token ADD COLUMN last_key BLOB;
UPDATE join_token SET
    used = (SELECT count(*) FROM redemption WHERE evidence = secret_hash),
    last_key = (SELECT key_digest FROM redemption WHERE evidence = secret_hash ORDER BY at DESC LIMIT 1);

-- A renewal moves not_after, so what stands in an index beside it is written anew each time: it stands in none.
DROP INDEX lineage_not_after;
DROP INDEX lineage_holder;
CREATE INDEX lineage_holder ON lineage (kind, name);
