-- A copy carries the EMAILID of the message that it was made of [RFC 8474 §5.1]: its number (NULL: the item's own id)
-- and, when that was in another mailbox, the tag of that mailbox's object ids.
ALTER TABLE item ADD COLUMN email BIGINT;
ALTER TABLE item ADD COLUMN email_of TEXT;

-- Names that somebody is subscribed to and that are no folder any more [RFC 9051 §6.3.7]. who: empty for the owner.
CREATE TABLE subscription (mid INTEGER NOT NULL, who BLOB NOT NULL, name TEXT NOT NULL, PRIMARY KEY (mid, who, name))
    WITHOUT ROWID;
