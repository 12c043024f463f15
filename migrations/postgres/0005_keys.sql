-- Which lineage a key belongs to is known in memory, and the lineage's row decides: a renewal moves no index.
DROP INDEX lineage_key;
