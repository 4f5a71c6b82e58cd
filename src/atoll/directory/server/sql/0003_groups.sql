-- Distribution groups. Their addresses are rows of `address`, whose column mailbox holds the group's id. who: who may
-- send to it. A member is an address: a mailbox's, another group's, or somebody's elsewhere.
CREATE TABLE grp (id BLOB PRIMARY KEY, org BLOB NOT NULL, change BIGINT NOT NULL, deleted INTEGER NOT NULL,
    address TEXT NOT NULL, display TEXT NOT NULL, who TEXT NOT NULL, created BIGINT NOT NULL);
CREATE INDEX grp_change ON grp (change);

-- role: member, owner, sender (may send to it when who is 'listed').
CREATE TABLE member (id BLOB PRIMARY KEY, org BLOB NOT NULL, change BIGINT NOT NULL, deleted INTEGER NOT NULL,
    grp BLOB NOT NULL, role TEXT NOT NULL, address TEXT NOT NULL, created BIGINT NOT NULL);
CREATE UNIQUE INDEX member_address ON member (grp, role, address) WHERE deleted = 0;
CREATE INDEX member_of ON member (address) WHERE deleted = 0;
CREATE INDEX member_change ON member (change);
