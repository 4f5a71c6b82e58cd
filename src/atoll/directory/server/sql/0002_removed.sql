-- When a mailbox was removed (NULL: before this was noted; such ones are never purged by their age). It can be restored
-- while its state is 'soft-deleted'; after that it is 'purged'.
ALTER TABLE mailbox ADD COLUMN removed BIGINT;
CREATE INDEX mailbox_removed ON mailbox (db, state) WHERE deleted = 1;
UPDATE schema_version SET min_writer = 2 WHERE one = 1;
