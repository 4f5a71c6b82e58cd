"""Rows, changes and looks, from one short snapshot each.

In     a mounted database, a folder, whose read state is to be shown.
Out    Row, Changes, Look.
Spec   STORE 1 (IMAP row of the table) and 7 (plans); own read state: STORE 0.9.
Fails  StoreError(NO_FOLDER) when the folder has gone meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from atoll.base.ids import UserId
from atoll.mailbox import blobs
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import no_folder
from atoll.mailbox.listing import BLOCK, BLOCK_BITS, FEWEST
from atoll.mailbox.memory import MailboxMemory
from atoll.mailbox.model import EPOCH_SHIFT, Changes, Flag, Look, Row, Want
from atoll.mailbox.uidmap import UidMap
from atoll.mailbox.uidset import UidSet
from atoll.sql import Connection, Reads
from atoll.sql.engine import Record

HOT = "i.uid, i.flags, i.kw, i.cn, i.id, i.conv, i.received, i.size, i.blob"
_BLOB = " LEFT JOIN blob b ON b.blob = i.blob"


def _columns(want: Want) -> str:
    """What is read of item i, item_meta m and blob b."""
    columns = HOT
    if want & (Want.META | Want.BODY):
        columns += ", m.envelope, m.structure" if want & Want.META else ", NULL, NULL"
        columns += ", m.preview" if want & Want.PREVIEW else ", NULL"
    if want & Want.BODY:
        columns += ", b.codec, b.data"
    return (f"SELECT {columns} FROM item i{' CROSS JOIN item_meta m' if want & Want.META else ''}"
            f"{_BLOB if want & Want.BODY else ''}")


_FROM = {want: _columns(want) for want in (
    Want.HOT, Want.META, Want.BODY, Want.META | Want.BODY, Want.META | Want.PREVIEW,
    Want.META | Want.PREVIEW | Want.BODY)}
_JOIN = " m.place = i.fid * 4294967296 + i.uid AND"
# CROSS JOIN keeps item outside: after ANALYZE the planner drove it from the wrong side (STORE 4, traps)
SELECT_RANGE = {want: f"{text} WHERE{_JOIN if want & Want.META else ''} i.fid = ? AND i.uid BETWEEN ? AND ?"
                      " ORDER BY i.uid LIMIT ?" for want, text in _FROM.items()}
SELECT_RANGE[Want.LISTED] = ("SELECT m.place - ?, m.envelope, m.structure FROM item_meta m"
                             " WHERE m.place BETWEEN ? AND ? ORDER BY m.place LIMIT ?")
"""Its values are of `place`."""
SELECT_RANGE[Want.MARKS] = ("SELECT i.uid, i.flags, i.kw FROM item i WHERE i.fid = ? AND i.uid BETWEEN ? AND ?"
                            " ORDER BY i.uid LIMIT ?")
SELECT_CHANGED = f"SELECT {HOT} FROM item i WHERE i.fid = ? AND i.cn > ? ORDER BY i.cn"
SPAN = 16
"""A set of many ranges is read as one span when it covers at least a SPAN-th of it."""


def spans(uids: UidSet) -> tuple[tuple[int, int], ...]:
    """The ranges to read for a set: its own, or one that holds them all when they are many and dense."""
    ranges = uids.ranges
    if len(ranges) > 8 and (ranges[-1][1] - ranges[0][0] + 1) <= SPAN * len(uids):
        return ((ranges[0][0], ranges[-1][1]),)
    return ranges


def records(connection: Reads, fid: int, uids: UidSet, want: Want, limit: int) -> list[Record]:
    """Raw rows of a set in uid order, at most `limit`."""
    text = SELECT_RANGE[want]
    ranges = spans(uids)
    base, lead = (fid << 32, fid << 32) if want == Want.LISTED else (0, fid)
    if len(ranges) == 1:
        first, last = ranges[0]
        if ranges is uids.ranges:
            return connection.all(text, (lead, base + first, base + last, limit))
        found: list[Record] = []
        while len(found) < limit and first <= last:
            rows = connection.all(text, (lead, base + first, base + last, limit))
            found += [row for row in rows if row[0] in uids]
            if len(rows) < limit:
                break
            first = rows[-1][0] + 1
        return found[:limit]
    found = []
    for first, last in ranges:
        found += connection.all(text, (lead, base + first, base + last, limit - len(found)))
        if len(found) >= limit:
            break
    return found


def rows(database: MailboxDatabase, fid: int, uids: UidSet, want: Want, limit: int, own: UserId | None) -> list[Row]:
    """See Access.rows. own: whose read state to show instead of the common one."""
    if want == Want.MARKS and own is not None:
        want = Want.HOT  # begins with the same columns
    found = records(database.reader, fid, uids, want, limit)
    if want in (Want.MARKS, Want.LISTED):
        return cast("list[Row]", found)
    if want & Want.BODY:
        found = [_with_body(record) for record in found]
    if own is not None:
        found = with_own_seen(database.reader, fid, own, found)
    return list(map(Row, found))


def listed(database: MailboxDatabase, view: MailboxMemory, fid: int, lo: int, hi: int) -> Sequence[Row]:
    """See Access.listed. A stretch of uids that is asked for whole and gets no more arrivals comes from its block."""
    uids = uid_map(database, fid)
    while (position := uids.seq_at_least(lo)) <= len(uids) and (first := uids.uid(position)) <= hi:
        start = first >> BLOCK_BITS << BLOCK_BITS
        end = start + BLOCK - 1
        if first - start < BLOCK // 2 and end <= min(hi, uids.last_uid):
            present = list(uids.within(start, end))
            found = _block(database, view, fid, start, present)
            if present[0][0] < lo:
                found = [record for record in found if record[0] >= lo]
        else:
            found = records(database.reader, fid, UidSet(((first, min(hi, end)),)), Want.LISTED, BLOCK)
        if found:
            return cast("Sequence[Row]", found)
        lo = end + 1
    return []


def _block(database: MailboxDatabase, view: MailboxMemory, fid: int, start: int,
           present: list[tuple[int, int]]) -> Sequence[Record]:
    key = view.guid, view.folders[fid].uidv, start >> BLOCK_BITS
    many = sum(count for _, count in present) >= FEWEST
    ready = database.listings.get(*key, present) if many else None
    if ready is not None:
        return ready
    found = records(database.reader, fid, UidSet(((start, start + BLOCK - 1),)), Want.LISTED, BLOCK)
    if many and list(UidMap.of(record[0] for record in found).runs()) == present:
        database.listings.put(*key, found, database.clock.now_ms())
    return found


def _with_body(record: Record) -> Record:
    codec, data = record[12], record[13]
    if data is None:
        return (*record[:12], None)
    try:
        return (*record[:12], blobs.decode(codec, data, record[7]))
    except ValueError:
        return (*record[:12], None)  # reading it by itself then says what is wrong


def seen_rows(connection: Reads, fid: int, who: UserId, lo: int, hi: int) -> dict[int, tuple[int, int]]:
    """uid -> (seen, cn) of one person's own read state."""
    return {uid: (seen, cn) for uid, seen, cn in connection.all(
        "SELECT uid, seen, cn FROM seen WHERE fid = ? AND who = ? AND uid BETWEEN ? AND ? ORDER BY uid",
        (fid, who, lo, hi))}


def with_own_seen(connection: Reads, fid: int, who: UserId, found: list[Record]) -> list[Record]:
    """The records with this person's read state and its change numbers."""
    if not found:
        return found
    uids = [record[0] for record in found]
    mine = seen_rows(connection, fid, who, min(uids), max(uids))
    return [_overlaid(record, *mine.get(record[0], (0, 0))) for record in found]


def _overlaid(record: Record, seen: int, cn: int) -> Record:
    flags = (record[1] & ~Flag.SEEN) | (Flag.SEEN if seen else 0)
    return (record[0], int(flags), record[2], max(record[3], cn), *record[4:])


def reaches(view: MailboxMemory, trim_cn: int, since: int) -> bool:
    """Can "changes after since" be answered from the log? Not if it was trimmed past it or is of a lost future."""
    if since < trim_cn or since > view.cn:
        return False
    epoch = since >> EPOCH_SHIFT
    return all(since <= fork for begun, fork in view.epochs if begun > epoch) or since == 0


def uid_map(database: MailboxDatabase, fid: int) -> UidMap:
    """The folder's map as committed now."""
    with database.snapshot():
        now = database.maps.now(fid)
        if now is None:
            raise no_folder()
        return database.maps.at(fid, now)


def changes(database: MailboxDatabase, view: MailboxMemory, fid: int, since: int, known: UidMap | None,
            own: UserId | None) -> Changes:
    """See Access.changes."""
    with database.snapshot() as reader:
        now = database.maps.now(fid)
        if now is None:
            raise no_folder()
        cn = max(now.cn_high, _own_high(reader, fid, own))
        reached = reaches(view, now.trim_cn, since)
        if reached:
            changed = _changed(reader, fid, since, own)
            vanished = _vanished(reader, fid, since, known)
        else:
            changed = _all(reader, fid, own)
            uids = database.maps.at(fid, now)
            vanished = [uid for uid in known if uid not in uids] if known is not None else []
    return Changes(cn, changed, vanished, whole=not reached)


def look(database: MailboxDatabase, view: MailboxMemory, fid: int, since: int, uids: UidMap,
         own: UserId | None) -> Look:
    """See Access.look; the caller has seen that something changed."""
    with database.snapshot() as reader:
        now = database.maps.now(fid)
        if now is None:
            raise no_folder()
        cn = max(now.cn_high, _own_high(reader, fid, own))
        after = database.maps.at(fid, now)
        if reaches(view, now.trim_cn, since):
            found = _changed(reader, fid, since, own)
            vanished = _vanished(reader, fid, since, uids)
        else:
            found = _all(reader, fid, own)
            vanished = [uid for uid in uids if uid not in after]
    if after is uids:  # nothing came and nothing went
        return Look(cn, after, vanished, found, [])
    changed = [row for row in found if row.uid in uids]
    arrived = [row for row in found if row.uid not in uids] if len(changed) != len(found) else []
    return Look(cn, after, vanished, changed, arrived)


def _own_high(reader: Connection, fid: int, own: UserId | None) -> int:
    if own is None:
        return 0
    row = reader.one("SELECT cn_seen FROM folder_user WHERE fid = ? AND who = ?", (fid, own))
    return int(row[0]) if row is not None else 0


def _changed(reader: Connection, fid: int, since: int, own: UserId | None) -> list[Row]:
    found = reader.all(SELECT_CHANGED, (fid, since))
    if own is not None:
        known = {record[0] for record in found}
        read = [uid for (uid,) in reader.all("SELECT uid FROM seen WHERE fid = ? AND who = ? AND cn > ? ORDER BY cn",
                                             (fid, own, since)) if uid not in known]
        if read:
            found += records(reader, fid, UidSet.of(read), Want.HOT, len(read))
        found = with_own_seen(reader, fid, own, found)
    found.sort()
    return list(map(Row, found))


def _all(reader: Connection, fid: int, own: UserId | None) -> list[Row]:
    found = records(reader, fid, UidSet.all(), Want.HOT, 1 << 31)
    return list(map(Row, found if own is None else with_own_seen(reader, fid, own, found)))


def _vanished(reader: Connection, fid: int, since: int, known: UidMap | None) -> list[int]:
    gone = {uid for (uid,) in reader.all("SELECT uid FROM tomb WHERE fid = ? AND cn > ? ORDER BY cn", (fid, since))}
    return sorted(gone if known is None else (uid for uid in gone if uid in known))


def first_unseen(reader: Reads, mid: int, fid: int) -> int:
    """The lowest uid of an unread message, 0 when there is none: one step into the partial index (ADR 0004)."""
    found = reader.one("SELECT uid FROM item WHERE mid = ? AND fid = ? AND flags & 1 = 0 ORDER BY uid LIMIT 1",
                       (mid, fid))
    return int(found[0]) if found is not None else 0


def sort_records(reader: Reads, fid: int, lo: int, hi: int, limit: int) -> list[Record]:
    """(uid, received, size, packed sort keys) in uid order."""
    return reader.all("SELECT i.uid, i.received, i.size, m.sort FROM item i CROSS JOIN item_meta m"
                      " WHERE m.place = i.fid * 4294967296 + i.uid AND i.fid = ? AND i.uid BETWEEN ? AND ?"
                      " ORDER BY i.uid LIMIT ?", (fid, lo, hi, limit))
