"""Tells the directory who shares what here, so that people find it from other processes.

In     mounted databases; changes of rights.
Out    for each database, the persons who may look into each mailbox: all of it once, then what changed.
Fails  a directory that is away is told everything when it is back.
Not    rights: see Access.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from atoll.base.ids import MailboxId
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.store import Store
from atoll.mailbox.watch import Watch

SHARED = ("SELECT DISTINCT m.guid, u.who FROM folder_user u JOIN folder f ON f.fid = u.fid JOIN mailbox m"
          " ON m.mid = f.mid WHERE u.rights & 1 = 1 AND f.gone = 0")


class Directory(Protocol):
    """What this asks of directory.client.backend.Backend."""

    async def shares(self, database: str, shares: list[tuple[bytes, list[bytes]]], *, whole: bool = False) -> None: ...

    def on_connected(self, callback: Callable[[], None]) -> None: ...


class ShareWatch:
    """Made once per mailbox process, before the first database is mounted."""

    def __init__(self, store: Store, directory: Directory) -> None:
        self._store = store
        self._directory = directory
        self._whole: set[str] = set()
        self._changed: set[tuple[str, MailboxId]] = set()
        self._work = asyncio.Event()
        store.on_mounted.append(self._mounted)
        store.on_shared.append(self._shared)
        directory.on_connected(self._everything)
        self._watch = Watch("shares", self._work, self._round)

    def _mounted(self, database: MailboxDatabase) -> None:
        self._whole.add(database.name)
        self._work.set()

    def _shared(self, database: MailboxDatabase, mailbox: MailboxId) -> None:
        self._changed.add((database.name, mailbox))
        self._work.set()

    def _everything(self) -> None:
        self._whole.update(self._store.mounted())
        self._work.set()

    async def _round(self) -> None:
        mounted = set(self._store.mounted())
        while self._whole:
            name = next(iter(self._whole))
            if name in mounted:
                rows = self._store.database(name).reader.all(f"{SHARED} ORDER BY m.guid, u.who")
                found: dict[bytes, list[bytes]] = {}
                for guid, who in rows:
                    found.setdefault(guid, []).append(who)
                await self._directory.shares(name, list(found.items()), whole=True)
            self._whole.discard(name)
        while self._changed:
            name, mailbox = one = next(iter(self._changed))
            if name in mounted:
                people = self._store.database(name).reader.all(f"{SHARED} AND m.guid = ? ORDER BY m.guid, u.who",
                                                               (mailbox,))
                await self._directory.shares(name, [(mailbox, [who for _, who in people])])
            self._changed.discard(one)

    async def close(self) -> None:
        await self._watch.close()
