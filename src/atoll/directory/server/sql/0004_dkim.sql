-- Keys that sign what leaves (RFC 6376). record: what the DNS is to say of the key; private: PKCS #8, empty once the key
-- was removed. A selector is never used again.
CREATE TABLE dkim_key (id BLOB PRIMARY KEY, org BLOB NOT NULL, change BIGINT NOT NULL, deleted INTEGER NOT NULL,
    domain BLOB NOT NULL, selector TEXT NOT NULL, kind TEXT NOT NULL, record TEXT NOT NULL, private BLOB NOT NULL,
    created BIGINT NOT NULL);
CREATE UNIQUE INDEX dkim_key_selector ON dkim_key (domain, selector);
CREATE INDEX dkim_key_change ON dkim_key (change);
