"""A mailbox that the directory removed: nobody reads or writes it, it is kept for a while, restored, or purged.

In     the directory's word on each mailbox of ours, again after each change and each connection.
Out    sessions that end, a state that every write checks, rows that go.
Spec   ISLANDS 11.11; ARCHITECTURE "The store" (a mailbox has a state). The directory decides, this follows.
Fails  a directory that is away changes nothing: what is not said to be purged is never purged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from atoll.base.ids import MailboxId
from atoll.directory.client.model import Changed, Fate, MailboxInfo
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.model import MailboxState
from atoll.mailbox.store import Store
from atoll.mailbox.tx import SWEEP, Tx
from atoll.mailbox.watch import Watch
from atoll.runtime.rpc import RpcError

DAY_MS = 86_400_000
EVERY = 3600.0
"""Seconds between looks at what has been kept long enough."""
SLICE = 200
"""Rows that go in one unit of work."""

_BY_MAILBOX = (("conversation", "conv"), ("thread_key", "hash"), ("delivery_key", "key"), ("uidl", "uidl"),
               ("keyword", "no"), ("log_day", "day"), ("mailbox_epoch", "epoch"), ("subscription", "name"))
_BY_FOLDER = (("tomb", "cn"), ("seen", "uid"), ("folder_user", "who"))

log = logging.getLogger(__name__)


class Directory(Protocol):
    """What is asked of directory.client.backend.Backend."""

    async def mailbox(self, mailbox: bytes) -> MailboxInfo: ...

    async def fates(self, database: str) -> list[Fate]: ...

    async def purge(self, database: str, mailbox: bytes) -> None: ...

    def on_changed(self, callback: Callable[[Changed], None]) -> None: ...

    def on_connected(self, callback: Callable[[], None]) -> None: ...


class RemovalWatch:
    """Made once per mailbox process, before the first database is mounted. days: how long a removed one is kept."""

    def __init__(self, store: Store, directory: Directory, days: int, *, every: float = EVERY) -> None:
        self._store = store
        self._directory = directory
        self._days = days
        self._work = asyncio.Event()
        store.on_mounted.append(lambda _: self._work.set())
        directory.on_connected(self._work.set)
        directory.on_changed(self._changed)
        self._watch = Watch("removed mailboxes", self._work, self._round, every)

    def _changed(self, change: Changed) -> None:
        if change.kind == "mailbox":
            self._work.set()

    async def _round(self) -> None:
        failed: Exception | None = None
        for name in self._store.mounted():
            try:
                await self._follow(name)
            except Exception as error:  # no matter of the other databases
                failed = error
        if failed is not None:
            raise failed

    async def _follow(self, name: str) -> None:
        """Every mailbox of the database is in the state that the directory says."""
        fates = {MailboxId(fate.mailbox): fate for fate in await self._directory.fates(name)}
        database = self._store.database(name)
        away = {guid for (guid,) in database.reader.all("SELECT guid FROM mailbox WHERE state = ? ORDER BY guid",
                                                        (int(MailboxState.SOFT_DELETED),))}
        for guid in away - fates.keys():
            await self._restored(database, guid)
        for guid, fate in fates.items():
            if not database.has(guid):
                continue
            if guid not in away:
                await database.submit(in_state(guid, MailboxState.SOFT_DELETED))
                database.leave(guid)
                log.info("a mailbox was removed", extra={"f": {"database": name, "mailbox": guid.hex()}})
            kept = fate.removed + self._days * DAY_MS
            if fate.removed and not fate.purged and self._store.clock.now_ms() >= kept:
                await self._directory.purge(name, guid)
                fate = Fate(guid, True, fate.removed)
            if fate.purged:
                await purge(database, guid)
                log.info("a removed mailbox was purged", extra={"f": {"database": name, "mailbox": guid.hex()}})

    async def _restored(self, database: MailboxDatabase, guid: MailboxId) -> None:
        try:
            info = await self._directory.mailbox(guid)
        except RpcError as error:
            if error.code == "not_found":  # unknown to this directory: it stays as it is
                return
            raise
        if info.database == database.name and info.state == "active":
            await database.submit(in_state(guid, MailboxState.ACTIVE))
            log.info("a mailbox was restored", extra={"f": {"database": database.name, "mailbox": guid.hex()}})

    async def close(self) -> None:
        await self._watch.close()


def in_state(guid: MailboxId, state: MailboxState) -> Callable[[Tx], None]:
    """From now on every write knows."""
    def work(tx: Tx) -> None:
        mailbox = tx.mailbox(guid, any_state=True)
        mailbox.state = int(state)
        tx.restructured(mailbox)
    return work


async def purge(database: MailboxDatabase, guid: MailboxId) -> None:
    """Every row of a removed mailbox, SLICE by SLICE; contents that nobody else names are swept later."""
    mid = database.view(guid).mid
    while await database.submit(_items(mid, database.clock.now_ms())):
        pass
    fids = [fid for (fid,) in database.reader.all("SELECT fid FROM folder WHERE mid = ? ORDER BY fid", (mid,))]
    for table, key in _BY_FOLDER:
        for fid in fids:
            while await database.submit(_rows(table, "fid", fid, key)):
                pass
    for table, key in _BY_MAILBOX:
        while await database.submit(_rows(table, "mid", mid, key)):
            pass

    def last(tx: Tx) -> None:
        tx.run("DELETE FROM folder WHERE mid = ?", (mid,))
        tx.run("DELETE FROM mailbox WHERE mid = ?", (mid,))
    await database.submit(last)
    database.reread()


def _items(mid: int, now: int) -> Callable[[Tx], int]:
    def work(tx: Tx) -> int:
        found = tx.all("SELECT fid, uid, blob FROM item WHERE mid = ? ORDER BY id LIMIT ?", (mid, SLICE))
        tx.many(SWEEP, [(blob, now) for blob in sorted({row[2] for row in found})])
        tx.many("DELETE FROM item_meta WHERE place = ?", [(fid << 32 | uid,) for fid, uid, _ in found])
        tx.many("DELETE FROM item WHERE fid = ? AND uid = ?", [(fid, uid) for fid, uid, _ in found])
        return len(found)
    return work


def _rows(table: str, column: str, value: int, key: str) -> Callable[[Tx], int]:
    def work(tx: Tx) -> int:
        found = tx.all(f"SELECT DISTINCT {key} FROM {table} WHERE {column} = ? ORDER BY {key} LIMIT ?",
                       (value, SLICE))
        tx.many(f"DELETE FROM {table} WHERE {column} = ? AND {key} = ?", [(value, one) for (one,) in found])
        return len(found)
    return work
