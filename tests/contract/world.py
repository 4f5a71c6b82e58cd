"""A store, a model of what it must hold, and clients of several kinds that keep copies of it.

The model knows every message by a tag of its own, and every (uidvalidity, uid) that was ever given out. Clients lose
answers, ask again, stay away over crashes and restores; after its last page a client's copy must be the server's view.
"""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import tempfile
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from atoll.base.failpoints import Failpoints
from atoll.mailbox import Access, Flag, Folder, Right, Row, Store, StoreCode, StoreError, UidMap, UidSet, Want
from atoll.mailbox.backup import backup, restore_database
from atoll.mailbox.change_log import Op, Told
from atoll.mailbox.check import faults
from atoll.mailbox.tokens import OLDEST
from atoll.mailbox.upkeep import trim_folder
from atoll.sql import group
from atoll.sql.engine import Engine
from atoll.sql.postgres import PostgresEngine
from atoll.sql.sqlite import SqliteEngine
from tests.mailbox.kit import ALICE, ALICES, BOB, T0, Directory, StillClock, delivery
from tests.postgres import copy as copy_of_schema

T = TypeVar("T")
PATHS = ("INBOX", "Archive", "Sent")


def tag_of(access: Access, row: Row) -> bytes:
    """What tells one message from every other: its Message-ID line."""
    return access.row_blob(row).partition(b"Message-ID: ")[2].partition(b"\r\n")[0]


def lawfully_refused(error: StoreError, future: bool) -> None:
    """Only a token that was trimmed past or is of a lost future may be."""
    assert error.code is StoreCode.GONE
    assert future, "a token was refused without a lawful reason"


@dataclass
class ImapClient:
    """QRESYNC: one number per folder, VANISHED by the known set."""

    who: bytes
    uidv: dict[str, int] = field(default_factory=dict)
    cn: dict[str, int] = field(default_factory=dict)
    copy: dict[str, dict[int, tuple[int, bytes]]] = field(default_factory=dict)

    def sync(self, access: Access, path: str) -> None:
        folder = access.folder(path)
        if self.uidv.get(path) != folder.uidv:
            self.uidv[path], self.cn[path], self.copy[path] = folder.uidv, 0, {}
        mine = self.copy[path]
        found = access.changes(folder, self.cn[path], UidMap.of(sorted(mine)))
        for uid in found.vanished:
            del mine[uid]
        for row in found.changed:
            tag = mine[row.uid][1] if row.uid in mine else tag_of(access, row)
            assert tag == tag_of(access, row), "a uid names another message than before"
            mine[row.uid] = (row.flags, tag)
        self.cn[path] = found.cn
        assert {uid: flags for uid, (flags, _) in mine.items()} == {
            row.uid: row.flags for row in access.rows(folder, 1, 1 << 32, Want.HOT, 10_000)}
        assert list(access.uid_map(folder)) == sorted(mine)


@dataclass
class PagedClient:
    """A window, pages, lost answers: as EWS and EAS clients are."""

    path: str
    token: str = ""
    edge: tuple[int, int] = OLDEST
    held: dict[int, int] = field(default_factory=dict)
    future: bool = False
    """Its token is of a future that a restore took back, or was trimmed past: it may be refused, once."""

    def step(self, access: Access, limit: int, *, lose: bool) -> bool:
        """One page; True when complete."""
        folder = access.folder(self.path)
        try:
            ops, token, more = access.page(folder, self.token, limit, self.edge)
        except StoreError as error:
            lawfully_refused(error, self.future)
            self.token, self.held, self.future = "", {}, False
            return False
        assert len(ops) <= limit
        if lose:
            return False
        for op in ops:
            self._apply(op)
        self.token = token
        if more:
            return False
        assert self.held == {row.uid: row.flags for row in access.rows(folder, 1, 1 << 32, Want.HOT, 10_000)
                             if (row.received, row.uid) >= self.edge}
        self.future = False
        return True

    def _apply(self, op: Op) -> None:
        if op.told is Told.ADD:
            assert op.uid not in self.held, "told to add what it holds"
            assert op.row is not None
            self.held[op.uid] = op.row.flags
        elif op.told in (Told.CHANGE, Told.READ):
            assert op.uid in self.held, "told to change what it does not hold"
            assert op.row is not None
            if op.told is Told.READ:
                assert self.held[op.uid] & ~Flag.SEEN == op.row.flags & ~Flag.SEEN, "more changed than the read state"
            self.held[op.uid] = op.row.flags
        else:
            assert op.uid in self.held, "told to delete what it does not hold"
            del self.held[op.uid]


@dataclass
class IdClient:
    """Knows the mailbox by ids, as JMAP clients do."""

    token: str = ""
    held: dict[int, tuple[int, int]] = field(default_factory=dict)
    future: bool = False

    def step(self, access: Access, limit: int, *, lose: bool) -> bool:
        try:
            found, token = access.email_changes(self.token, limit)
        except StoreError as error:
            lawfully_refused(error, self.future)
            self.token, self.held, self.future = "", {}, False
            return False
        assert len(found.created) + len(found.updated) + len(found.destroyed) <= limit
        if lose:
            return False
        now = visible(access)
        for id_ in found.created:
            assert id_ not in self.held
            self.held[id_] = now.get(id_, (0, 0))
        for id_ in found.updated:
            assert id_ in self.held
            self.held[id_] = now.get(id_, (0, 0))
        for id_ in found.destroyed:
            assert id_ in self.held
            del self.held[id_]
        self.token = token
        if found.more:
            return False
        assert self.held == now
        self.future = False
        return True


def visible(access: Access) -> dict[int, tuple[int, int]]:
    """id -> (folder number, flags) of everything that is in no hidden folder."""
    return {row.id: (folder.fno, row.flags) for folder in access.folders()
            for row in access.rows(folder, 1, 1 << 32, Want.HOT, 10_000)}


@dataclass
class Session:
    """A live session that is told what happens."""

    path: str
    cn: int
    uids: UidMap
    flags: dict[int, int]


class World:
    """Everything of one example; `close` leaves nothing behind."""

    def __init__(self, engine: Engine) -> None:
        self.loop = asyncio.new_event_loop()
        shm = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="atoll-", dir=shm if shm.is_dir() else None))
        self.engine = engine
        self.clock = StillClock()
        self.directory = Directory()
        self.store = self._store()
        self.run(self.store.mount("db1", self.folder / "db1.sqlite"))
        self.access: Access
        self.reopen()
        self.run(self.access.set_acl("INBOX", BOB, "bob@example.test", Right.of("lr")))
        self.model: dict[str, dict[int, list[object]]] = {path: {} for path in PATHS}
        self.given: dict[tuple[int, int], bytes] = {}
        self.made = 0
        self.backups: list[tuple[Path, dict[str, dict[int, list[object]]]]] = []
        self.imap = [ImapClient(ALICE), ImapClient(BOB)]
        self.paged = [PagedClient("INBOX"), PagedClient("Archive")]
        self.ids = IdClient()
        self.session: Session | None = None

    def _store(self) -> Store:
        return Store(self.engine, self.directory.mailbox, self.directory, search_engine=SqliteEngine(),
                     clock=self.clock)

    def run(self, what: Awaitable[T]) -> T:
        return self.loop.run_until_complete(what)  # type: ignore[arg-type]

    def reopen(self) -> None:
        self.access = self.run(self.store.open(ALICES, ALICE))
        self.session = None

    # -- writing ------------------------------------------------------------------------------------------------
    def deliver(self, path: str, count: int, key: bytes, received: int = T0) -> None:
        """The same delivery may come again: by its key it is there once."""
        wanted = []
        for n in range(count):
            self.made += 1
            one = delivery(path=path, key=key + bytes([n]) if key else b"", message_id=f"<{self.made}@x>")
            wanted.append(dataclasses.replace(one, received=received))
        for one, done in zip(wanted, self.run(self.store.deliver(wanted)), strict=True):
            assert not isinstance(done, StoreError), done
            row = self._row(path, done.uid) if done.uid in self._uids(path) else None
            if done.duplicate:
                continue
            assert row is not None
            assert tag_of(self.access, row) in one.content.data  # type: ignore[operator]
            self.model[path][done.uid] = [row.id, 0, tag_of(self.access, row)]

    def _uids(self, path: str) -> list[int]:
        return list(self.access.uid_map(self.access.folder(path)))

    def _row(self, path: str, uid: int) -> Row:
        return self.access.rows(self.access.folder(path), uid, uid, Want.HOT)[0]

    def some(self, path: str, picks: list[int]) -> UidSet:
        there = sorted(self.model[path])
        return UidSet.of(there[pick % len(there)] for pick in picks) if there else UidSet()

    def flag(self, path: str, uids: UidSet, op: str, flags: int) -> None:
        self.run(self.access.flags(self.access.folder(path), uids, op, Flag(flags)))
        for uid in uids:
            if uid in self.model[path]:
                old = int(self.model[path][uid][1])  # type: ignore[call-overload]
                self.model[path][uid][1] = {"+": old | flags, "-": old & ~flags, "=": flags}[op]

    def copy(self, path: str, uids: UidSet, target: str) -> None:
        pairs = self.run(self.access.copy(self.access.folder(path), uids, self.access.folder(target)))
        assert [old for old, _ in pairs] == [uid for uid in uids if uid in self.model[path]]
        for old, new in pairs:
            _, flags, tag = self.model[path][old]
            self.model[target][new] = [self._row(target, new).id, flags, tag]

    def move(self, path: str, uids: UidSet, target: str) -> None:
        pairs = self.run(self.access.move(self.access.folder(path), uids, self.access.folder(target)))
        for old, new in pairs:
            self.model[target][new] = self.model[path].pop(old)

    def expunge(self, path: str) -> None:
        gone = self.run(self.access.expunge(self.access.folder(path), None))
        assert gone == [uid for uid, (_, flags, _) in sorted(self.model[path].items()) if int(flags) & 8]  # type: ignore[call-overload]
        for uid in gone:
            del self.model[path][uid]

    def recover(self, pick: int) -> None:
        deleted = self.access.recoverable()
        if deleted:
            one = deleted[pick % len(deleted)]
            (placed,) = self.run(self.access.recover([one.id]))
            row = self._row(one.from_path, placed.uid)
            assert row.id == placed.id
            self.model[one.from_path][placed.uid] = [row.id, row.flags, tag_of(self.access, row)]

    def refused_in_a_group(self, path: str) -> None:
        """A unit that refuses after it has written, between two that go through."""
        from tests.mailbox.kit import new
        self.made += 3
        good = [new(message_id=f"<{self.made - n}@x>") for n in (2, 0)]
        bad = new(message_id=f"<{self.made - 1}@x>")
        object.__setattr__(bad, "keywords", frozenset({"x" * 300}))
        folder = self.access.folder(path)

        async def together() -> list[object]:
            return list(await asyncio.gather(
                self.access.append(folder, good[:1]), self.access.append(folder, [good[1], bad]),
                self.access.append(folder, good[1:]), return_exceptions=True))
        first, refused, last = self.run(together())
        assert isinstance(refused, StoreError)
        for placed in (first, last):
            (one,) = placed  # type: ignore[misc]
            row = self._row(path, one.uid)
            self.model[path][one.uid] = [row.id, 0, tag_of(self.access, row)]

    # -- bad days -----------------------------------------------------------------------------------------------
    def crash(self) -> None:
        """All memory is lost."""
        self.run(self.store.close())
        self.store = self._store()
        self.run(self.store.mount("db1", self.folder / "db1.sqlite"))
        self.reopen()

    def crash_in_commit(self, path: str, *, after: bool) -> None:
        """Nothing answers; the store mounts again by itself; a retry by key finds what happened."""
        key = b"crash" + self.made.to_bytes(4, "big")
        self.made += 1
        one = delivery(path=path, key=key, message_id=f"<{self.made}@x>")
        old, group.FAILPOINTS = group.FAILPOINTS, Failpoints(f"mailbox.commit.{'after' if after else 'before'}=error@1")
        try:
            (failed,) = self.run(self.store.deliver([one]))
        finally:
            group.FAILPOINTS = old
        assert isinstance(failed, StoreError)
        assert failed.temporary
        for _ in range(100):
            if self.store.mounted():
                break
            self.run(asyncio.sleep(0.02))
        self.reopen()
        (done,) = self.run(self.store.deliver([one]))
        assert not isinstance(done, StoreError)
        assert done.duplicate == after
        row = self._row(path, done.uid)
        self.model[path][done.uid] = [row.id, 0, tag_of(self.access, row)]

    def back_up(self) -> None:
        target = self.folder / f"backup{len(self.backups)}"
        if isinstance(self.engine, PostgresEngine):
            copy_of_schema(self.engine, self.store.path_of("db1"), target)
        else:
            self.run(backup(self.store.database("db1"), self.engine, target))
        model = {path: {uid: list(one) for uid, one in items.items()} for path, items in self.model.items()}
        self.backups.append((target, model))

    def restore(self, pick: int) -> None:
        if self.backups:
            source, model = self.backups[pick % len(self.backups)]
            if isinstance(self.engine, PostgresEngine):
                self.run(self.store.dismount("db1"))
                copy_of_schema(self.engine, source, self.store.path_of("db1"), restored=True)
                self.run(self.store.mount("db1", self.store.path_of("db1")))
            else:
                self.run(restore_database(self.store, self.engine, "db1", source)).unlink()
            self.model = {path: {uid: list(one) for uid, one in items.items()} for path, items in model.items()}
            self.reopen()
            for client in (*self.paged, self.ids):
                client.future = True

    def trim(self, path: str) -> None:
        folder = self.access.folder(path)
        self.run(self.store.database("db1").submit(
            lambda tx: trim_folder(tx, ALICES, folder.fid, folder.cn_high)))
        for client in (*self.paged, self.ids):
            client.future = True

    def pass_time(self, hours: int) -> None:
        self.clock.ms += hours * 3_600_000
        self.run(self.store._upkeep["db1"].round())

    # -- looking ------------------------------------------------------------------------------------------------
    def live(self, path: str) -> None:
        """A session looks; it is opened when there is none."""
        folder = self.access.folder(path)
        if self.session is None or self.session.path != path:
            rows = self.access.rows(folder, 1, 1 << 32, Want.HOT, 10_000)
            self.session = Session(path, folder.cn_high, self.access.uid_map(folder),
                                   {row.uid: row.flags for row in rows})
            return
        mine = self.session
        seen = self.access.look(folder, mine.cn, mine.uids)
        for uid in seen.vanished:
            del mine.flags[uid]
        for row in seen.changed:
            assert row.uid in mine.flags
            mine.flags[row.uid] = row.flags
        for row in seen.arrived:
            assert row.uid not in mine.flags
            mine.flags[row.uid] = row.flags
        mine.cn, mine.uids = seen.cn, seen.uids
        assert list(mine.uids) == sorted(mine.flags)
        assert mine.flags == {row.uid: row.flags for row in self.access.rows(folder, 1, 1 << 32, Want.HOT, 10_000)}

    def check(self) -> None:
        """The model, the numbers given out, the database's own invariants."""
        for path in PATHS:
            folder = self.access.folder(path)
            rows = self.access.rows(folder, 1, 1 << 32, Want.HOT, 10_000)
            self._check_folder(path, folder, rows)
        assert faults(self.store.database("db1").reader) == []

    def _check_folder(self, path: str, folder: Folder, rows: list[Row]) -> None:
        assert {row.uid: [row.id, row.flags] for row in rows} == {
            uid: one[:2] for uid, one in self.model[path].items()}
        for row in rows:
            tag = self.model[path][row.uid][2]
            assert isinstance(tag, bytes)
            assert self.given.setdefault((folder.uidv, row.uid), tag) == tag, "a uid was given twice"

    def sync_all(self) -> None:
        """In the end everybody comes to rest."""
        bob = self.run(self.store.open(ALICES, BOB))
        self.imap[1].sync(bob, "INBOX")
        for path in PATHS:
            self.imap[0].sync(self.access, path)
        for client in (*self.paged, self.ids):
            for _ in range(2000):
                if client.step(self.access, 3, lose=False):
                    break
            else:
                raise AssertionError("paging does not end")

    def close(self) -> None:
        self.run(self.store.close())
        self.loop.close()
        shutil.rmtree(self.folder)
