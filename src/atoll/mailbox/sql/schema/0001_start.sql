-- A mailbox database (STORE 4). WITHOUT ROWID = clustered by the primary key. mid, fid and blob are local to this
-- database and appear in nothing that a client or another database sees; fno, uid, id and conv travel with a move.

CREATE TABLE schema_version (one INTEGER PRIMARY KEY, version INTEGER NOT NULL, min_reader INTEGER NOT NULL,
    min_writer INTEGER NOT NULL);
INSERT INTO schema_version VALUES (1, 1, 1, 1);

-- The fence (ISLANDS 4). restored: set in a copy made from a backup, so that its first mount begins a new epoch.
CREATE TABLE owner (one INTEGER PRIMARY KEY, owner_epoch BIGINT NOT NULL, process TEXT NOT NULL,
    restored INTEGER NOT NULL);
INSERT INTO owner VALUES (1, 0, '', 0);

-- Counters of this database: the next mid, fid and blob.
CREATE TABLE counter (name TEXT PRIMARY KEY, next BIGINT NOT NULL);
INSERT INTO counter VALUES ('mid', 1), ('fid', 1), ('blob', 1);

-- uidv: the last UIDVALIDITY given; uidv_base: the first, from which those of a new epoch are counted.
CREATE TABLE mailbox (mid INTEGER PRIMARY KEY, guid BLOB NOT NULL UNIQUE, cn BIGINT NOT NULL, uidv BIGINT NOT NULL,
    uidv_base BIGINT NOT NULL,    fno_next BIGINT NOT NULL, items BIGINT NOT NULL, bytes BIGINT NOT NULL, bytes_recoverable BIGINT NOT NULL,
    state INTEGER NOT NULL, conv_trim BIGINT NOT NULL, token_key BLOB NOT NULL);

-- fork_cn: the last number in the restored copy; tokens above it from before `epoch` are of a lost future.
CREATE TABLE mailbox_epoch (mid INTEGER NOT NULL, epoch BIGINT NOT NULL, fork_cn BIGINT NOT NULL,
    PRIMARY KEY (mid, epoch)) WITHOUT ROWID;

CREATE TABLE folder (fid INTEGER PRIMARY KEY, mid INTEGER NOT NULL, fno BIGINT NOT NULL, parent INTEGER NOT NULL,
    name TEXT NOT NULL, class TEXT NOT NULL, wellknown INTEGER NOT NULL, hidden INTEGER NOT NULL,
    own_seen INTEGER NOT NULL, gone INTEGER NOT NULL, uidv BIGINT NOT NULL, uidnext BIGINT NOT NULL,
    recent_uid BIGINT NOT NULL, cn_born BIGINT NOT NULL, cn_props BIGINT NOT NULL, cn_high BIGINT NOT NULL,
    trim_cn BIGINT NOT NULL, total BIGINT NOT NULL, unread BIGINT NOT NULL, bytes BIGINT NOT NULL,
    deleted BIGINT NOT NULL);
CREATE UNIQUE INDEX folder_fno ON folder (mid, fno);

-- Hot half: 60 to 80 octets, rewritten by every flag. cn: any change; cn_item: any but read state; cn_body: content.
CREATE TABLE item (fid INTEGER NOT NULL, uid BIGINT NOT NULL, mid INTEGER NOT NULL, id BIGINT NOT NULL,
    cn BIGINT NOT NULL, cn_item BIGINT NOT NULL, cn_body BIGINT NOT NULL, flags INTEGER NOT NULL,
    received BIGINT NOT NULL, size BIGINT NOT NULL, blob BIGINT NOT NULL, conv BIGINT NOT NULL, kw BLOB, name TEXT,
    PRIMARY KEY (fid, uid)) WITHOUT ROWID;
CREATE UNIQUE INDEX item_log ON item (fid, cn);
CREATE INDEX item_date ON item (fid, received, uid);
CREATE UNIQUE INDEX item_id ON item (mid, id);
CREATE INDEX item_conv ON item (mid, conv);
CREATE INDEX item_blob ON item (blob);
CREATE UNIQUE INDEX item_name ON item (fid, name) WHERE name IS NOT NULL;
CREATE INDEX item_unseen ON item (mid, fid, uid) WHERE flags & 1 = 0;

--postgresql: ALTER TABLE item SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

-- Cold half. sort: msgpack of the keys that SORT and THREAD read; props: msgpack, NULL for most.
CREATE TABLE item_meta (fid INTEGER NOT NULL, uid BIGINT NOT NULL, envelope BLOB NOT NULL, structure BLOB NOT NULL,
    preview TEXT NOT NULL, sort BLOB NOT NULL, props BLOB, PRIMARY KEY (fid, uid)) WITHOUT ROWID;

CREATE TABLE tomb (fid INTEGER NOT NULL, cn BIGINT NOT NULL, uid BIGINT NOT NULL, mid INTEGER NOT NULL,
    id BIGINT NOT NULL, received BIGINT NOT NULL, to_fid INTEGER NOT NULL, to_uid BIGINT NOT NULL, name TEXT,
    PRIMARY KEY (fid, cn)) WITHOUT ROWID;

--postgresql: ALTER TABLE item_meta SET (autovacuum_vacuum_scale_factor = 0.02);
--postgresql: ALTER TABLE tomb SET (autovacuum_vacuum_scale_factor = 0.02);

-- items = live members outside hidden folders; 0 = the tombstone of a conversation. A conversation gets its row with
-- its second member: without one it has a single item, whose own changes tell all.
CREATE TABLE conversation (mid INTEGER NOT NULL, conv BIGINT NOT NULL, cn BIGINT NOT NULL, items BIGINT NOT NULL,
    last_received BIGINT NOT NULL, PRIMARY KEY (mid, conv)) WITHOUT ROWID;
CREATE UNIQUE INDEX conversation_log ON conversation (mid, cn);
CREATE TABLE thread_key (mid INTEGER NOT NULL, hash BIGINT NOT NULL, conv BIGINT NOT NULL,
    PRIMARY KEY (mid, hash)) WITHOUT ROWID;

CREATE TABLE keyword (mid INTEGER NOT NULL, no INTEGER NOT NULL, name TEXT NOT NULL, colour INTEGER NOT NULL,
    PRIMARY KEY (mid, no)) WITHOUT ROWID;

-- codec: 0 as it is, 1 zstd. chunks: 0 = data holds all, else rows of blob_chunk, 1 MiB each before compression.
CREATE TABLE blob (blob INTEGER PRIMARY KEY, digest BLOB NOT NULL, size BIGINT NOT NULL, codec INTEGER NOT NULL,
    chunks INTEGER NOT NULL, data BLOB);
CREATE TABLE blob_chunk (blob INTEGER NOT NULL, seq INTEGER NOT NULL, codec INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (blob, seq));
--postgresql: ALTER TABLE blob ALTER COLUMN data SET STORAGE EXTERNAL;
--postgresql: ALTER TABLE blob_chunk ALTER COLUMN data SET STORAGE EXTERNAL;
-- Candidates: swept when no item names them an hour after `since`.
CREATE TABLE blob_sweep (blob INTEGER PRIMARY KEY, since BIGINT NOT NULL);

CREATE TABLE seen (fid INTEGER NOT NULL, who BLOB NOT NULL, uid BIGINT NOT NULL, cn BIGINT NOT NULL,
    seen INTEGER NOT NULL, PRIMARY KEY (fid, who, uid)) WITHOUT ROWID;
CREATE UNIQUE INDEX seen_log ON seen (fid, who, cn);
-- address: what the grantor called `who`. seen_items: rows of `seen` that say yes, for those with own read state.
CREATE TABLE folder_user (fid INTEGER NOT NULL, who BLOB NOT NULL, address TEXT NOT NULL, rights INTEGER NOT NULL,
    cn_rights BIGINT NOT NULL, cn_seen BIGINT NOT NULL, subscribed INTEGER NOT NULL, cn_sub BIGINT NOT NULL,
    seen_items BIGINT NOT NULL, PRIMARY KEY (fid, who)) WITHOUT ROWID;
CREATE INDEX folder_user_who ON folder_user (who, fid);

CREATE TABLE delivery_key (mid INTEGER NOT NULL, key BLOB NOT NULL, fid INTEGER NOT NULL, uid BIGINT NOT NULL,
    id BIGINT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (mid, key)) WITHOUT ROWID;

-- Which number the mailbox had on which day: the log is trimmed by age.
CREATE TABLE log_day (mid INTEGER NOT NULL, day BIGINT NOT NULL, cn BIGINT NOT NULL, PRIMARY KEY (mid, day)) WITHOUT ROWID;
