-- Unique ids that the POP3 server of before gave to messages that were imported [RFC 1939 §7]. id: the item's, so that
-- they stay with it when it is moved.
CREATE TABLE uidl (mid INTEGER NOT NULL, uidl TEXT NOT NULL, id BIGINT NOT NULL, PRIMARY KEY (mid, uidl))
    WITHOUT ROWID;
