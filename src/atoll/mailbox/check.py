"""Faults of a mailbox database that its own rows show.

In     a connection (a snapshot).
Out    one sentence for each fault; what is derivable can be repaired from the rows.
Spec   STORE 6 (invariants 1, 2, 3, 10, 11).
Not    the engine's own structure check and the digests of contents: see upkeep.check.
"""

from __future__ import annotations

from atoll.sql import Reads

COUNTERS = ("SELECT f.fid, f.total, f.unread, f.bytes, f.deleted, count(i.uid),"
            " coalesce(sum(CASE WHEN i.flags & 1 = 0 THEN 1 ELSE 0 END), 0), coalesce(sum(i.size), 0),"
            " coalesce(sum(CASE WHEN i.flags & 8 = 8 THEN 1 ELSE 0 END), 0)"
            " FROM folder f LEFT JOIN item i ON i.fid = f.fid GROUP BY f.fid, f.total, f.unread, f.bytes, f.deleted"
            " ORDER BY f.fid")
QUOTA = ("SELECT m.mid, m.items, m.bytes, m.bytes_recoverable,"
         " coalesce(sum(CASE WHEN f.hidden = 0 THEN f.total ELSE 0 END), 0),"
         " coalesce(sum(CASE WHEN f.hidden = 0 THEN f.bytes ELSE 0 END), 0),"
         " coalesce(sum(CASE WHEN f.hidden = 1 THEN f.bytes ELSE 0 END), 0)"
         " FROM mailbox m LEFT JOIN folder f ON f.mid = m.mid"
         " GROUP BY m.mid, m.items, m.bytes, m.bytes_recoverable ORDER BY m.mid")
CONVERSATIONS = ("SELECT c.mid, c.conv, c.items, count(f.fid) FROM conversation c"
                 " LEFT JOIN item i ON i.mid = c.mid AND i.conv = c.conv"
                 " LEFT JOIN folder f ON f.fid = i.fid AND f.hidden = 0"
                 " GROUP BY c.mid, c.conv, c.items HAVING c.items <> count(f.fid) ORDER BY c.mid, c.conv LIMIT 1000")
NUMBERS = (
    ("a conversation of several items has no row", "SELECT i.mid, i.conv FROM item i JOIN folder f ON f.fid = i.fid"
     " AND f.hidden = 0 LEFT JOIN conversation c ON c.mid = i.mid AND c.conv = i.conv WHERE c.conv IS NULL"
     " GROUP BY i.mid, i.conv HAVING count(*) > 1 ORDER BY i.mid, i.conv LIMIT 100"),
    ("an item's number is above its folder's", "SELECT i.fid, i.uid FROM item i JOIN folder f ON f.fid = i.fid"
     " WHERE i.cn > f.cn_high ORDER BY i.fid, i.uid LIMIT 100"),
    ("a folder's number is above its mailbox's", "SELECT f.fid, f.cn_high FROM folder f JOIN mailbox m ON m.mid = f.mid"
     " WHERE f.cn_high > m.cn OR f.cn_props > m.cn ORDER BY f.fid LIMIT 100"),
    ("a uid is not below its folder's next", "SELECT i.fid, i.uid FROM item i JOIN folder f ON f.fid = i.fid"
     " WHERE i.uid >= f.uidnext ORDER BY i.fid, i.uid LIMIT 100"),
    ("an item and a tombstone share a number", "SELECT i.fid, i.cn FROM item i JOIN tomb t ON t.fid = i.fid"
     " AND t.cn = i.cn ORDER BY i.fid, i.cn LIMIT 100"),
    ("an item is of no folder of its mailbox", "SELECT i.fid, i.uid FROM item i LEFT JOIN folder f ON f.fid = i.fid"
     " AND f.mid = i.mid WHERE f.fid IS NULL ORDER BY i.fid, i.uid LIMIT 100"),
    ("an item has no cold half", "SELECT i.fid, i.uid FROM item i LEFT JOIN item_meta m"
     " ON m.place = i.fid * 4294967296 + i.uid WHERE m.place IS NULL ORDER BY i.fid, i.uid LIMIT 100"),
    ("a cold half has no item", "SELECT m.place / 4294967296, m.place % 4294967296 FROM item_meta m LEFT JOIN item i"
     " ON i.fid = m.place / 4294967296 AND i.uid = m.place % 4294967296 WHERE i.fid IS NULL"
     " ORDER BY m.place LIMIT 100"),
    ("an item's content is missing", "SELECT i.fid, i.uid FROM item i LEFT JOIN blob b ON b.blob = i.blob"
     " WHERE b.blob IS NULL ORDER BY i.fid, i.uid LIMIT 100"),
)


def counter_faults(connection: Reads) -> list[str]:
    """Counters that differ from a recount; derivable."""
    found = []
    for fid, total, unread, octets, deleted, *counted in connection.all(COUNTERS):
        if [total, unread, octets, deleted] != [int(value) for value in counted]:
            found.append(f"folder {fid}: total, unread, bytes, deleted are {[total, unread, octets, deleted]},"
                         f" counted {counted}")
    for mid, items, octets, recoverable, *counted in connection.all(QUOTA):
        if [items, octets, recoverable] != [int(value) for value in counted]:
            found.append(f"mailbox {mid}: items, bytes, recoverable are {[items, octets, recoverable]},"
                         f" counted {counted}")
    for mid, conv, items, counted in connection.all(CONVERSATIONS):
        found.append(f"mailbox {mid}: conversation {conv} has {items} items, counted {counted}")
    return found


def faults(connection: Reads) -> list[str]:
    """Everything that the rows themselves show."""
    found = counter_faults(connection)
    for sentence, text in NUMBERS:
        found += [f"folder {fid}, {value}: {sentence}" for fid, value in connection.all(text)]
    return found
