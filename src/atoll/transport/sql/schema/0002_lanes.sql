-- Each next hop has a queue of its own (transport.lanes): what is due there is found by its name, whatever waits elsewhere.
-- received, size: of the message. priority: 0 goes first. noticed: 1 once the sender knows that it is late.
-- origin: the group that the address stands for.

ALTER TABLE job ADD COLUMN priority INTEGER NOT NULL DEFAULT 1;
ALTER TABLE job ADD COLUMN received BIGINT NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN size BIGINT NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN noticed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN origin TEXT NOT NULL DEFAULT '';
UPDATE job SET received = (SELECT received FROM message m WHERE m.id = job.id),
    size = (SELECT size FROM message m WHERE m.id = job.id);
DROP INDEX job_due;
CREATE INDEX job_next ON job (queue, priority, due);
CREATE INDEX job_age ON job (queue, noticed, received);

-- Queues that an administrator has stopped.
CREATE TABLE suspended (queue TEXT PRIMARY KEY, since BIGINT NOT NULL);
UPDATE schema_version SET min_writer = 2 WHERE one = 1;
