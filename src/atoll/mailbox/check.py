"""Faults of a mailbox database that its own rows show.

In     a connection (a snapshot).
Out    one sentence for each fault.
Spec   STORE 6 (invariants).
"""

from __future__ import annotations

from atoll.sql import Connection

COUNTERS = ("SELECT f.fid, f.total, f.unread, f.bytes, f.deleted, count(i.uid),"
            " coalesce(sum(CASE WHEN i.flags & 1 = 0 THEN 1 ELSE 0 END), 0), coalesce(sum(i.size), 0),"
            " coalesce(sum(CASE WHEN i.flags & 8 = 8 THEN 1 ELSE 0 END), 0)"
            " FROM folder f LEFT JOIN item i ON i.fid = f.fid GROUP BY f.fid, f.total, f.unread, f.bytes, f.deleted"
            " ORDER BY f.fid")


def structure_faults(connection: Connection) -> list[str]:
    """What has to hold before a migrated copy is switched in."""
    faults = []
    for fid, total, unread, octets, deleted, *counted in connection.all(COUNTERS):
        if [total, unread, octets, deleted] != [int(value) for value in counted]:
            faults.append(f"folder {fid}: counters {[total, unread, octets, deleted]}, counted {counted}")
    return faults
