"""One group's transaction as the units of work see it.

In     a writer connection, the writer's memory of mailboxes.
Out    buffered inserts (one executemany per table), counters written once, a notice per mailbox after the commit.
Spec   STORE 0.5 and 0.6, 5; the Context of sql.group.
Fails  StoreError(UNAVAILABLE) when the mailbox is in a state that takes no writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from atoll.base.ids import MailboxId
from atoll.mailbox.errors import no_folder, unavailable
from atoll.mailbox.memory import FolderState, Grant, MailboxMemory, load
from atoll.mailbox.model import WellKnown
from atoll.sql import Connection
from atoll.sql.engine import Record, Value

LOCAL_BLOCK = 1000
INSERT_ITEM = ("INSERT INTO item (fid, uid, mid, id, cn, cn_item, cn_body, flags, received, size, blob, conv, kw, name)"
               " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)")
INSERT_META = "INSERT INTO item_meta (place, envelope, structure, preview, sort) VALUES (?, ?, ?, ?, ?)"
INSERT_BLOB = "INSERT INTO blob (blob, digest, size, codec, chunks, data) VALUES (?, ?, ?, ?, ?, ?)"
INSERT_TOMB = ("INSERT INTO tomb (fid, cn, uid, mid, id, received, to_fid, to_uid, name)"
               " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
INSERT_KEY = "INSERT INTO delivery_key (mid, key, fid, uid, id, at) VALUES (?, ?, ?, ?, ?, ?)"
INSERT_THREAD = "INSERT INTO thread_key (mid, hash, conv) VALUES (?, ?, ?) ON CONFLICT (mid, hash) DO NOTHING"
PUT_CONVERSATION = ("INSERT INTO conversation (mid, conv, cn, items, last_received) VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (mid, conv) DO UPDATE SET cn = excluded.cn, items = excluded.items,"
                    " last_received = excluded.last_received")
SWEEP = "INSERT INTO blob_sweep (blob, since) VALUES (?, ?) ON CONFLICT (blob) DO NOTHING"
PUT_SEEN = ("INSERT INTO seen (fid, who, uid, cn, seen) VALUES (?, ?, ?, ?, ?) ON CONFLICT (fid, who, uid)"
            " DO UPDATE SET cn = excluded.cn, seen = excluded.seen")
PUT_GRANT = ("INSERT INTO folder_user (fid, who, address, rights, cn_rights, cn_seen, subscribed, cn_sub, seen_items)"
             " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (fid, who) DO UPDATE SET address = excluded.address,"
             " rights = excluded.rights, cn_rights = excluded.cn_rights, cn_seen = excluded.cn_seen,"
             " subscribed = excluded.subscribed, cn_sub = excluded.cn_sub, seen_items = excluded.seen_items")
UPDATE_FOLDER = ("UPDATE folder SET parent = ?, name = ?, wellknown = ?, own_seen = ?, gone = ?, uidv = ?, uidnext = ?,"
                 " recent_uid = ?, cn_props = ?, cn_high = ?, trim_cn = ?, total = ?, unread = ?, bytes = ?,"
                 " deleted = ? WHERE fid = ?")
UPDATE_MAILBOX = ("UPDATE mailbox SET cn = ?, uidv = ?, fno_next = ?, items = ?, bytes = ?, bytes_recoverable = ?,"
                  " state = ?, conv_trim = ? WHERE mid = ?")


class Home(Protocol):
    """What a transaction shares with the mounted database that it is of."""

    memory: dict[MailboxId, MailboxMemory]
    counters: dict[str, int]
    reserved: dict[str, int]
    counters_dirty: set[str]

    def forget(self) -> None:
        """The group was rolled back."""

    def publish(self, touched: dict[MailboxId, set[int]], restructured: set[MailboxId]) -> None:
        """The group is durable."""


class Tx:
    """Handed to units of work; the Context of a GroupWriter."""

    def __init__(self, database: Home, connection: Connection) -> None:
        self._database = database
        self._connection = connection
        self._counters = database.counters
        self._marks = 0
        self._buffers: dict[str, list[Sequence[Value]]] = {}
        self._mailboxes: dict[int, MailboxMemory] = {}
        self._folders: dict[int, FolderState] = {}
        self._grants: dict[tuple[int, bytes], Grant] = {}
        self._touched: dict[MailboxId, set[int]] = {}
        self._restructured: set[MailboxId] = set()
        self._after: list[Callable[[], None]] = []

    # -- reading and writing ------------------------------------------------------------------------------------
    def all(self, text: str, values: Sequence[Value] = ()) -> list[Record]:
        """Rows, this group's own changes included."""
        if self._buffers:
            self._write_buffers()
        return self._connection.all(text, values)

    def one(self, text: str, values: Sequence[Value] = ()) -> Record | None:
        if self._buffers:
            self._write_buffers()
        return self._connection.one(text, values)

    def run(self, text: str, values: Sequence[Value] = ()) -> int:
        """Write now; rows changed."""
        self._marks += 1
        if self._buffers:
            self._write_buffers()
        return self._connection.run(text, values)

    def many(self, text: str, rows: Sequence[Sequence[Value]]) -> None:
        """Write a set now."""
        if rows:
            self._marks += 1
            if self._buffers:
                self._write_buffers()
            self._connection.many(text, rows)

    def add(self, text: str, row: Sequence[Value]) -> None:
        """Write with all others of the same statement, later in this group."""
        self._marks += 1
        self._buffers.setdefault(text, []).append(row)

    def write_out(self) -> None:
        """Write what is buffered so far: keeps one slice of the loop short."""
        if self._buffers:
            self._write_buffers()

    def _write_buffers(self) -> None:
        buffers, self._buffers = self._buffers, {}
        for text, rows in buffers.items():
            self._connection.many(text, rows)

    # -- numbers ------------------------------------------------------------------------------------------------
    def mailbox(self, guid: MailboxId, *, any_state: bool = False) -> MailboxMemory:
        """The writer's memory of a mailbox; NO_FOLDER, UNAVAILABLE."""
        memory = self._database.memory.get(guid)
        if memory is None:
            memory = load(self._connection, guid)
            if memory is None:
                raise no_folder()
            self._database.memory[guid] = memory
        if not any_state and not memory.writable:
            raise unavailable(f"mailbox state {memory.state}")
        return memory

    def local(self, name: str) -> int:
        """The next mid, fid or blob of this database."""
        number = self._counters[name]
        self._counters[name] = number + 1
        if number >= self._database.reserved[name]:
            # written a block ahead: a crash leaves out the rest of the block, and most groups write no counter
            self._database.reserved[name] = number + LOCAL_BLOCK
            self._database.counters_dirty.add(name)
        self._marks += 1
        return number

    def skip_to(self, name: str, number: int) -> None:
        """Leave local numbers below this one out."""
        self._counters[name] = max(self._counters[name], number)
        self._database.reserved[name] = 0
        self.local(name)

    def number(self, mailbox: MailboxMemory) -> int:
        """The next change number; each changed row takes one of its own."""
        mailbox.cn += 1
        return mailbox.cn

    def touch(self, mailbox: MailboxMemory, folder: FolderState | None = None) -> None:
        """Its counters have changed: write them with the group, tell the listeners after it."""
        self._marks += 1
        self._mailboxes[mailbox.mid] = mailbox
        fids = self._touched.setdefault(mailbox.guid, set())
        if folder is not None:
            self._folders[folder.fid] = folder
            fids.add(folder.fid)

    def grant_changed(self, mailbox: MailboxMemory, grant: Grant) -> None:
        """Write this row of folder_user with the group."""
        self._grants[grant.fid, grant.who] = grant
        self.touch(mailbox, mailbox.folders[grant.fid])
        self._restructured.add(mailbox.guid)

    def restructured(self, mailbox: MailboxMemory) -> None:
        """Folders, keywords or rights changed: committed views are made anew."""
        mailbox.restructured()
        self._restructured.add(mailbox.guid)
        self.touch(mailbox)

    def after_commit(self, call: Callable[[], None]) -> None:
        """Memory-only consequences of a commit (caches)."""
        self._after.append(call)

    def wellknown(self, mailbox: MailboxMemory, which: WellKnown) -> FolderState:
        folder = mailbox.wellknown(which)
        if folder is None:
            raise no_folder()
        return folder

    # -- the group's life ---------------------------------------------------------------------------------------
    def mark(self) -> int:
        return self._marks

    def flush(self) -> None:
        """Buffers, then counters."""
        self._write_buffers()
        if self._folders:
            self._connection.many(UPDATE_FOLDER, [
                (f.parent, f.name, f.wellknown, f.own_seen, f.gone, f.uidv, f.uidnext, f.recent_uid, f.cn_props,
                 f.cn_high, f.trim_cn, f.total, f.unread, f.octets, f.deleted, f.fid) for f in self._folders.values()])
            self._folders = {}
        if self._grants:
            self._connection.many(PUT_GRANT, [
                (g.fid, g.who, g.address, g.rights, g.cn_rights, g.cn_seen, g.subscribed, g.cn_sub, g.seen_items)
                for g in self._grants.values()])
            self._grants = {}
        if self._mailboxes:
            self._connection.many(UPDATE_MAILBOX, [
                (m.cn, m.uidv, m.fno_next, m.items, m.octets, m.bytes_recoverable, m.state, m.conv_trim, m.mid)
                for m in self._mailboxes.values()])
            self._mailboxes = {}
        if self._database.counters_dirty:
            reserved = self._database.reserved
            self._connection.many("UPDATE counter SET next = ? WHERE name = ?",
                                  [(reserved[name], name) for name in sorted(self._database.counters_dirty)])
            self._database.counters_dirty.clear()

    def abandon(self) -> None:
        self._buffers.clear()
        self._mailboxes.clear()
        self._folders.clear()
        self._grants.clear()
        self._after.clear()
        self._database.forget()
        self._counters = self._database.counters

    def committed(self) -> None:
        for call in self._after:
            call()
        self._database.publish(self._touched, self._restructured)
