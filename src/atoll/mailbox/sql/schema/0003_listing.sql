-- The cold half is keyed by one integer, fid * 2^32 + uid: on SQLite a table tree, whose rows may fill a page. As an
-- index tree (WITHOUT ROWID) a row of more than 1,002 octets had a page of its own, as every third one did.
CREATE TABLE listing (place INTEGER PRIMARY KEY, envelope BLOB NOT NULL, structure BLOB NOT NULL,
    preview TEXT NOT NULL, sort BLOB NOT NULL, props BLOB);
INSERT INTO listing (place, envelope, structure, preview, sort, props)
    SELECT fid * 4294967296 + uid, envelope, structure, preview, sort, props FROM item_meta ORDER BY fid, uid;
DROP TABLE item_meta;
ALTER TABLE listing RENAME TO item_meta;
--postgresql: ALTER TABLE item_meta SET (autovacuum_vacuum_scale_factor = 0.02);
UPDATE schema_version SET min_reader = 3, min_writer = 3 WHERE one = 1;
