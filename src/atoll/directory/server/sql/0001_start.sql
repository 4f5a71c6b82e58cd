-- The directory database (STORE 4's common SQL; ISLANDS 11.4, 11.13, 11.16). Every row of the organization carries its id
-- and the change number of its last change. Nothing is removed: a deleted row stays with deleted = 1, so ids are never
-- used again and a reader that was away learns of it. Times are milliseconds since 1970, UTC.

CREATE TABLE schema_version (one INTEGER PRIMARY KEY, version INTEGER NOT NULL, min_reader INTEGER NOT NULL,
    min_writer INTEGER NOT NULL);
INSERT INTO schema_version VALUES (1, 1, 1, 1);

CREATE TABLE owner (one INTEGER PRIMARY KEY, owner_epoch BIGINT NOT NULL, process TEXT NOT NULL,
    restored INTEGER NOT NULL);
INSERT INTO owner VALUES (1, 0, '', 0);

CREATE TABLE counter (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO counter VALUES ('change', 0);

CREATE TABLE organization (id BLOB PRIMARY KEY, name TEXT NOT NULL, change BIGINT NOT NULL);

CREATE TABLE domain (id BLOB PRIMARY KEY, org BLOB NOT NULL, change BIGINT NOT NULL, deleted INTEGER NOT NULL,
    name TEXT NOT NULL, catch_all BLOB, created BIGINT NOT NULL);
CREATE UNIQUE INDEX domain_name ON domain (name) WHERE deleted = 0;
CREATE INDEX domain_change ON domain (change);

-- epoch: the credential epoch; sessions opened under a lower one end. epoch_change: the change number of its last raise.
CREATE TABLE person (id BLOB PRIMARY KEY, org BLOB NOT NULL, change BIGINT NOT NULL, deleted INTEGER NOT NULL,
    display TEXT NOT NULL, hash TEXT, app_only INTEGER NOT NULL, protocols TEXT NOT NULL, disabled INTEGER NOT NULL,
    epoch BIGINT NOT NULL, epoch_change BIGINT NOT NULL, epoch_kind TEXT NOT NULL, created BIGINT NOT NULL);
CREATE INDEX person_epoch ON person (epoch_change);
CREATE INDEX person_change ON person (change);

CREATE TABLE mailbox (id BLOB PRIMARY KEY, org BLOB NOT NULL, change BIGINT NOT NULL, deleted INTEGER NOT NULL,
    kind TEXT NOT NULL, person BLOB NOT NULL, db TEXT NOT NULL, state TEXT NOT NULL, address TEXT NOT NULL,
    display TEXT NOT NULL, quota_warn BIGINT, quota_send BIGINT, quota_receive BIGINT, created BIGINT NOT NULL);
CREATE INDEX mailbox_person ON mailbox (person);
CREATE INDEX mailbox_change ON mailbox (change);
CREATE INDEX mailbox_address ON mailbox (address);
CREATE INDEX mailbox_home ON mailbox (db, deleted);

CREATE TABLE address (id BLOB PRIMARY KEY, org BLOB NOT NULL, change BIGINT NOT NULL, deleted INTEGER NOT NULL,
    local TEXT NOT NULL, domain BLOB NOT NULL, mailbox BLOB NOT NULL, is_primary INTEGER NOT NULL,
    created BIGINT NOT NULL);
CREATE UNIQUE INDEX address_name ON address (domain, local) WHERE deleted = 0;
CREATE INDEX address_mailbox ON address (mailbox);
CREATE INDEX address_change ON address (change);

CREATE TABLE app_password (id BLOB PRIMARY KEY, org BLOB NOT NULL, change BIGINT NOT NULL, deleted INTEGER NOT NULL,
    person BLOB NOT NULL, name TEXT NOT NULL, protocols TEXT NOT NULL, digest BLOB NOT NULL, created BIGINT NOT NULL);
CREATE INDEX app_password_person ON app_password (person, digest);
CREATE INDEX app_password_change ON app_password (change);

-- owner_epoch: the high-water mark of owner epochs given out for a mailbox database (ISLANDS 11.2).
CREATE TABLE mailbox_db (id BLOB PRIMARY KEY, org BLOB NOT NULL, change BIGINT NOT NULL, deleted INTEGER NOT NULL,
    name TEXT NOT NULL, backend TEXT NOT NULL, island TEXT NOT NULL, owner_epoch BIGINT NOT NULL,
    mounted INTEGER NOT NULL, created BIGINT NOT NULL);
CREATE UNIQUE INDEX mailbox_db_name ON mailbox_db (name) WHERE deleted = 0;
CREATE INDEX mailbox_db_change ON mailbox_db (change);

CREATE TABLE setting (id BLOB PRIMARY KEY, org BLOB NOT NULL, change BIGINT NOT NULL, deleted INTEGER NOT NULL,
    name TEXT NOT NULL, value TEXT NOT NULL);
CREATE UNIQUE INDEX setting_name ON setting (name) WHERE deleted = 0;
CREATE INDEX setting_change ON setting (change);
