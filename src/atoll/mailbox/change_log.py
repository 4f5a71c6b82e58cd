"""Views of the one change log: pages for clients with a window, ids for those without, the hierarchy.

In     tokens (STORE 2), a limit, the edge of the wanted window.
Out    Page (adds, changes, deletes, soft deletes, the next token), EmailChanges, FolderChanges.
Spec   STORE 0 to 2, 6 (invariants 5 to 8), 8 (faults 1, 3, 5, 7, 8, 10): the order of a page's parts is part of it.
Fails  StoreError(GONE): the token cannot be gone on from; start again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeVar

from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import StoreCode, StoreError, no_folder
from atoll.mailbox.memory import MailboxMemory
from atoll.mailbox.model import EPOCH_SHIFT, Row
from atoll.mailbox.reading import HOT
from atoll.mailbox.tokens import NEWEST, FolderToken, MailboxToken
from atoll.sql import Reads

T = TypeVar("T")
LIVE, TOMB = 0, 1
_CHANGED = f"SELECT i.cn, i.cn_item, {HOT} FROM item i WHERE i.fid = ? AND i.cn > ? ORDER BY i.cn LIMIT ?"
_GONE = "SELECT cn, uid, id, received, to_fid FROM tomb WHERE fid = ? AND cn > ? ORDER BY cn LIMIT ?"
_ARRIVED = f"SELECT {HOT} FROM item i WHERE i.fid = ? AND i.uid >= ? ORDER BY i.uid LIMIT ?"
_UPWARDS = (f"SELECT {HOT} FROM item i WHERE i.fid = ? AND (i.received, i.uid) >= (?, ?)"
            " AND (i.received, i.uid) < (?, ?) AND i.uid < ? ORDER BY i.received, i.uid LIMIT ?")
_DOWNWARDS = (f"SELECT {HOT} FROM item i WHERE i.fid = ? AND (i.received, i.uid) < (?, ?)"
              " AND (i.received, i.uid) >= (?, ?) AND i.uid < ? ORDER BY i.received DESC, i.uid DESC LIMIT ?")


class Told(Enum):
    """What a page tells of an item."""

    ADD = "add"
    CHANGE = "change"
    READ = "read"
    DELETE = "delete"
    SOFT_DELETE = "soft-delete"


@dataclass(frozen=True, slots=True)
class Op:
    """One operation; row is None for deletions."""

    told: Told
    uid: int
    id: int
    row: Row | None = None


@dataclass(slots=True)
class Page:
    """ops in the order in which they are to be applied; more: the client is not complete yet."""

    ops: list[Op]
    token: FolderToken
    more: bool


@dataclass(slots=True)
class EmailChanges:
    """Ids; an id is in one list only."""

    token: MailboxToken
    created: list[int] = field(default_factory=list)
    updated: list[int] = field(default_factory=list)
    destroyed: list[int] = field(default_factory=list)
    more: bool = False


def gone() -> StoreError:
    return StoreError(StoreCode.GONE, "Synchronization has to start again")


def opened(decode: Callable[[str, bytes], T], text: str, view: MailboxMemory) -> T:
    """A token that this mailbox gave out; GONE for any other text."""
    try:
        return decode(text, view.token_key)
    except ValueError:
        raise gone() from None


def still_valid(view: MailboxMemory, asof: int) -> bool:
    """Is `asof` a number of our past? Not above the fork of any later epoch, in an epoch that we know, not ahead."""
    if asof > view.cn:
        return False
    epoch = asof >> EPOCH_SHIFT
    known = asof == 0 or any(begun == epoch for begun, _ in view.epochs)
    return known and all(asof <= fork for begun, fork in view.epochs if begun > epoch)


def first_token(view: MailboxMemory, fid: int) -> FolderToken:
    """Holds nothing: the first pages come newest first."""
    folder = view.folders[fid]
    return FolderToken(folder.fno, folder.uidv, view.cn, folder.uidnext, *NEWEST, view.cn, 0)


def page(database: MailboxDatabase, view: MailboxMemory, fid: int, token: FolderToken, limit: int,
         edge: tuple[int, int]) -> Page:
    """At most `limit` operations that bring the client nearer to "everything with (received, uid) >= edge"."""
    with database.snapshot() as reader:
        now = database.maps.now(fid)
        row = reader.one("SELECT cn FROM mailbox WHERE mid = ?", (view.mid,))
        if now is None or row is None:
            raise no_folder()
        folder = view.folders[fid]
        same = (token.fno, token.uidv) == (folder.fno, folder.uidv)
        if not same or token.cn < now.trim_cn or not still_valid(view, token.asof):
            raise gone()
        made = _Maker(reader, fid, token, limit, edge, int(row[0]), now.uidnext)
        made.make()
    return Page(made.ops, made.token, made.more)


class _Maker:
    """One page being made; the four parts come always in this order (STORE 2)."""

    def __init__(self, reader: Reads, fid: int, token: FolderToken, limit: int, edge: tuple[int, int], now: int,
                 uidnext: int) -> None:
        self.reader = reader
        self.fid = fid
        self.token = replace(token, asof=now)
        self.base = token.base
        self.limit = limit
        self.edge = edge
        self.now = now
        self.uidnext = uidnext
        self.ops: list[Op] = []
        self.more = False

    @property
    def room(self) -> int:
        return self.limit - len(self.ops)

    def make(self) -> None:
        for part in (self.log, self.arrivals, self.narrow, self.widen):
            if not part():
                self.more = True
                return
        self.token = replace(self.token, base=self.now)

    def holds(self, received: int, uid: int) -> bool:
        return uid < self.token.next_uid and (received, uid) >= self.token.low

    def log(self) -> bool:
        """Changes and removals by number, of what is held."""
        while True:
            if not self.room:
                return False
            at, size = self.token.cn, self.room + 1
            live = [(row[0], LIVE, row) for row in self.reader.all(_CHANGED, (self.fid, at, size))]
            tombs = [(row[0], TOMB, row) for row in self.reader.all(_GONE, (self.fid, at, size))]
            read = list(heapq.merge(live, tombs))[:size]
            for cn, kind, row in read:
                if not self.room:
                    return False
                self.token = replace(self.token, cn=cn)
                if kind == TOMB:
                    _, uid, id_, received, _ = row
                    if self.holds(received, uid):
                        self.ops.append(Op(Told.DELETE, uid, id_))
                else:
                    hot = Row(row[2:])
                    if self.holds(hot.received, hot.uid):
                        told = Told.READ if row[1] <= self.base else Told.CHANGE
                        self.ops.append(Op(told, hot.uid, hot.id, hot))
            if len(read) < size:  # the rows of both kinds are used up, not only those read
                self.token = replace(self.token, cn=self.now)
                return True

    def arrivals(self) -> bool:
        """New uids inside the part of the window that is held already."""
        while self.token.next_uid < self.uidnext:
            if not self.room:
                return False
            found = self.reader.all(_ARRIVED, (self.fid, self.token.next_uid, self.room))
            for row in map(Row, found):
                if (row.received, row.uid) >= self.token.low:
                    self.ops.append(Op(Told.ADD, row.uid, row.id, row))
                self.token = replace(self.token, next_uid=row.uid + 1)
            if not found:
                self.token = replace(self.token, next_uid=self.uidnext)
        return True

    def narrow(self) -> bool:
        """Soft deletes from the low edge upwards."""
        while self.token.low < self.edge:
            if not self.room:
                return False
            size = self.room
            found = self.reader.all(_UPWARDS, (self.fid, *self.token.low, *self.edge, self.token.next_uid, size))
            for row in map(Row, found):
                self.ops.append(Op(Told.SOFT_DELETE, row.uid, row.id))
                self._low((row.received, row.uid + 1))
            if len(found) < size:
                self._low(self.edge)
        return True

    def widen(self) -> bool:
        """Adds from the low edge downwards: also how everything comes at first, newest first."""
        while self.token.low > self.edge:
            if not self.room:
                return False
            size = self.room
            found = self.reader.all(_DOWNWARDS, (self.fid, *self.token.low, *self.edge, self.token.next_uid, size))
            for row in map(Row, found):
                self.ops.append(Op(Told.ADD, row.uid, row.id, row))
                self._low((row.received, row.uid))
            if len(found) < size:
                self._low(self.edge)
        return True

    def _low(self, low: tuple[int, int]) -> None:
        self.token = replace(self.token, low_received=low[0], low_uid=low[1])


def email_changes(database: MailboxDatabase, view: MailboxMemory, token: MailboxToken, limit: int) -> EmailChanges:
    """For a client that knows items by id, in all visible folders: a move is an update, entering a hidden folder is a
    destruction. limit: ids in the answer."""
    if not still_valid(view, token.asof):
        raise gone()
    with database.snapshot() as reader:
        row = reader.one("SELECT cn FROM mailbox WHERE mid = ?", (view.mid,))
        if row is None:
            raise no_folder()
        folders = reader.all("SELECT fid, cn_high, trim_cn FROM folder WHERE mid = ? AND hidden = 0 ORDER BY fid",
                             (view.mid,))
        if any(trim > token.cn for _, _, trim in folders):
            raise gone()
        found = EmailChanges(token=replace(token, asof=int(row[0])))
        changed = [fid for fid, high, _ in folders if high > token.cn]
        found.more = not (_known_changes(reader, changed, found, token, limit, int(row[0]))
                          and _new_ids(reader, view.mid, {fid for fid, _, _ in folders}, found, limit))
    return found


def _known_changes(reader: Reads, fids: list[int], found: EmailChanges, token: MailboxToken, limit: int,
                   now: int) -> bool:
    size = limit + 1
    at = token.cn
    told: set[int] = set()
    while True:
        log = []
        for fid in fids:
            log.append([(cn, id_, True) for cn, id_ in reader.all(
                "SELECT cn, id FROM item WHERE fid = ? AND cn > ? ORDER BY cn LIMIT ?", (fid, at, size))])
            log.append([(cn, id_ if not to_fid else 0, False) for cn, id_, to_fid in reader.all(
                "SELECT cn, id, to_fid FROM tomb WHERE fid = ? AND cn > ? ORDER BY cn LIMIT ?", (fid, at, size))])
        read = list(heapq.merge(*log))[:size]
        for cn, id_, lives in read:
            if len(told) >= limit:
                return False
            at = cn
            found.token = replace(found.token, cn=cn)
            # a tombstone that points to a visible folder (0 here) tells nothing: the moved row has its own number
            if 0 < id_ <= token.born and id_ not in told:
                told.add(id_)
                (found.updated if lives else found.destroyed).append(id_)
        if len(read) < size:
            found.token = replace(found.token, cn=now)
            return True


def _new_ids(reader: Reads, mid: int, visible: set[int], found: EmailChanges, limit: int) -> bool:
    while True:
        room = limit - len(found.created) - len(found.updated) - len(found.destroyed)
        if room <= 0:
            return False
        rows = reader.all("SELECT id, fid FROM item WHERE mid = ? AND id > ? ORDER BY id LIMIT ?",
                          (mid, found.token.born, room))
        for id_, fid in rows:
            if fid in visible:
                found.created.append(id_)
            found.token = replace(found.token, born=id_)
        if len(rows) < room:
            return True


@dataclass(frozen=True, slots=True)
class FolderChange:
    """A folder that was made, renamed, moved or removed."""

    fid: int
    fno: int
    gone: bool


def folder_changes(view: MailboxMemory, since: int) -> list[FolderChange]:
    """The hierarchy's log; counters do not touch it."""
    if not still_valid(view, since):
        raise gone()
    return [FolderChange(folder.fid, folder.fno, bool(folder.gone)) for folder in view.folders.values()
            if folder.cn_props > since and not folder.hidden]


def conversation_changes(database: MailboxDatabase, view: MailboxMemory, since: int,
                         limit: int) -> tuple[list[tuple[int, int]], int]:
    """([(conversation, members)], up to which number): 0 members = it is gone."""
    if since < view.conv_trim or not still_valid(view, since):
        raise gone()
    with database.snapshot() as reader:
        now = reader.one("SELECT cn FROM mailbox WHERE mid = ?", (view.mid,))
        rows = reader.all("SELECT conv, items, cn FROM conversation WHERE mid = ? AND cn > ? ORDER BY cn LIMIT ?",
                          (view.mid, since, limit))
    if len(rows) == limit:
        return [(conv, items) for conv, items, _ in rows], rows[-1][2]
    return [(conv, items) for conv, items, _ in rows], int(now[0]) if now else since
