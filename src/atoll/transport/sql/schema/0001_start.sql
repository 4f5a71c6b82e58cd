-- The queue database (ISLANDS 11.14): what was accepted and is not yet in a mailbox. Times: milliseconds since 1970, UTC.

CREATE TABLE schema_version (one INTEGER PRIMARY KEY, version INTEGER NOT NULL, min_reader INTEGER NOT NULL,
    min_writer INTEGER NOT NULL);
INSERT INTO schema_version VALUES (1, 1, 1, 1);

CREATE TABLE owner (one INTEGER PRIMARY KEY, owner_epoch BIGINT NOT NULL, process TEXT NOT NULL,
    restored INTEGER NOT NULL);
INSERT INTO owner VALUES (1, 0, '', 0);

CREATE TABLE message (id BLOB PRIMARY KEY, envelope BLOB NOT NULL, content BLOB NOT NULL, size BIGINT NOT NULL,
    received BIGINT NOT NULL);

-- One row for each recipient that waits. address: as it was accepted. queue: its next hop, a mailbox process.
-- tries: attempts so far. last: what the last one said.
CREATE TABLE job (id BLOB NOT NULL, address TEXT NOT NULL, queue TEXT NOT NULL, due BIGINT NOT NULL,
    tries INTEGER NOT NULL, last TEXT NOT NULL, PRIMARY KEY (id, address));
CREATE INDEX job_due ON job (due);
