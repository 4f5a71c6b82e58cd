"""The uid maps of folders, shared by all sessions.

In     a reader connection inside a snapshot; the folder's row in the same snapshot.
Out    the UidMap of that moment; derived from the last one where possible.
Spec   PERFORMANCE: a folder whose uids are one run needs no rows.
Not    thread-safe: the loop's only.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from atoll.mailbox.uidmap import UidMap
from atoll.sql import Connection

KEPT = 4096


@dataclass(frozen=True, slots=True)
class FolderNow:
    """A folder's row as a snapshot has it."""

    cn_high: int
    total: int
    uidnext: int
    trim_cn: int


@dataclass(frozen=True, slots=True)
class _Kept:
    cn: int
    uidnext: int
    uids: UidMap


class MapCache:
    """The latest map of each folder that somebody looked at."""

    def __init__(self, reader: Connection) -> None:
        self._reader = reader
        self._kept: OrderedDict[int, _Kept] = OrderedDict()

    def clear(self) -> None:
        self._kept.clear()

    def now(self, fid: int) -> FolderNow | None:
        """Call inside a snapshot."""
        row = self._reader.one("SELECT cn_high, total, uidnext, trim_cn FROM folder WHERE fid = ? AND gone = 0", (fid,))
        return FolderNow(*row) if row is not None else None

    def at(self, fid: int, now: FolderNow) -> UidMap:
        """The map that belongs to `now`; inside the same snapshot."""
        kept = self._kept.get(fid)
        if kept is not None and kept.cn == now.cn_high:
            return kept.uids
        if kept is not None and now.trim_cn <= kept.cn < now.cn_high:
            uids = self._derive(fid, kept)
        else:
            uids = self._build(fid, now)
        if len(uids) != now.total:
            uids = UidMap.of(uid for (uid,) in self._reader.all("SELECT uid FROM item WHERE fid = ? ORDER BY uid",
                                                                (fid,)))
        self._kept[fid] = _Kept(now.cn_high, now.uidnext, uids)
        self._kept.move_to_end(fid)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return uids

    def _derive(self, fid: int, kept: _Kept) -> UidMap:
        gone = [uid for (uid,) in self._reader.all("SELECT uid FROM tomb WHERE fid = ? AND cn > ? AND uid < ?"
                                                   " ORDER BY cn", (fid, kept.cn, kept.uidnext))]
        came = [uid for (uid,) in self._reader.all("SELECT uid FROM item WHERE fid = ? AND uid >= ? ORDER BY uid",
                                                   (fid, kept.uidnext))]
        return kept.uids.without(gone).plus(came)

    def _build(self, fid: int, now: FolderNow) -> UidMap:
        """One run, or everything ever given less what went: no row of an item is read. May be wrong (a fork skips uids,
        a trimmed log forgets removals): the caller compares the length."""
        if not now.total:
            return UidMap()
        first = self._reader.one("SELECT uid FROM item WHERE fid = ? ORDER BY uid LIMIT 1", (fid,))
        last = self._reader.one("SELECT uid FROM item WHERE fid = ? ORDER BY uid DESC LIMIT 1", (fid,))
        if first is None or last is None:
            return UidMap()
        whole = UidMap([(first[0], last[0] - first[0] + 1)])
        missing = len(whole) - now.total
        if not 0 < missing <= now.total:
            return whole
        gone = self._reader.all("SELECT uid FROM tomb WHERE fid = ? ORDER BY cn LIMIT ?", (fid, 4 * now.total))
        return whole.without(uid for (uid,) in gone)
