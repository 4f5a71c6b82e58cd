"""One mounted mailbox database: writer, reader, memory, committed views, listeners.

In     an open sql Database that we own (fence).
Out    submit(work) for writes, view(guid) for reads, notices after commits.
Spec   STORE 5 (writers, readers, bus).
Fails  StoreError(UNAVAILABLE) for every failure of the engine; in doubt: on_doubt is called, the store mounts again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from atoll.base.clock import Clock
from atoll.base.failpoints import FAILPOINTS
from atoll.base.ids import MailboxId
from atoll.mailbox.blobs import RecentDigests, Slices
from atoll.mailbox.errors import no_folder, unavailable
from atoll.mailbox.listing import Listings
from atoll.mailbox.maps import MapCache
from atoll.mailbox.memory import MailboxMemory, load
from atoll.mailbox.model import Listener, Notice
from atoll.mailbox.tx import Tx
from atoll.runtime.turns import Turns
from atoll.sql import Connection, Database, Fence, Fenced, GroupWriter, Lane, SqlError

log = logging.getLogger(__name__)

MAX_MEMORIES = 8192
"""Mailboxes kept in memory, in the writer's memory and as views; the least recently loaded go first."""
CHECKPOINT_AT = 32 << 20
"""Octets of write-ahead log after which it is folded back: beside the writer, then the rest between groups."""

T = TypeVar("T")


@dataclass(slots=True)
class Timings:
    """What happened since the mount, for metrics."""

    checkpoints: int = 0
    deliveries: int = 0


class MailboxDatabase:
    """Made by Store.mount once ownership is durable."""

    def __init__(self, name: str, database: Database, fence: Fence, clock: Clock,
                 on_doubt: Callable[[MailboxDatabase, SqlError], None], turns: Turns, listings: Listings) -> None:
        """turns: for reads that take more than one slice."""
        self.name = name
        self.database = database
        self.clock = clock
        self.epoch = fence.epoch
        self.turns = turns
        self.memory: dict[MailboxId, MailboxMemory] = {}
        self.counters_dirty: set[str] = set()
        self.counters: dict[str, int] = dict(database.writer.all("SELECT name, next FROM counter"))
        self.reserved = self.counters.copy()
        self.recent = RecentDigests()
        self.maps = MapCache(database.reader)
        self.slices = Slices(database.reader)
        self.listings = listings
        self.timings = Timings()
        self.closed = False
        self._views: dict[MailboxId, MailboxMemory] = {}
        self._listeners: dict[MailboxId, list[Listener]] = {}
        self._everything: list[Listener] = []
        self._on_doubt = on_doubt
        self._commits = Lane(f"commit-{name}")
        self.helper = ThreadPoolExecutor(1, f"helper-{name}")
        self._upkeep: asyncio.Task[None] | None = None
        self.writer: GroupWriter[Tx] = GroupWriter("mailbox", database.writer, fence, self._tx, self._commits,
                                                   self._doubt)

    def _tx(self, connection: Connection) -> Tx:
        return Tx(self, connection)

    @property
    def reader(self) -> Connection:
        return self.database.reader

    # -- writing ------------------------------------------------------------------------------------------------
    @overload
    async def submit(self, work: Callable[[Tx], Generator[None, None, T]]) -> T: ...

    @overload
    async def submit(self, work: Callable[[Tx], T]) -> T: ...

    async def submit(self, work: Callable[[Tx], Any]) -> Any:
        """Run a unit of work; its result once committed. StoreError."""
        try:
            self.turns.press()
            return await self.writer.submit(work)  # who is cancelled leaves, what he asked for is done
        except SqlError as error:
            raise unavailable(f"{type(error).__name__}: {error}") from error

    def _doubt(self, error: SqlError) -> None:
        log.error("database unmounted", extra={"f": {"database": self.name, "error": str(error),
                                                     "fenced": isinstance(error, Fenced)}})
        self._on_doubt(self, error)

    def reread(self) -> None:
        """Rows were changed beside the usual paths (repair): memory is read anew."""
        self.memory.clear()
        self._views.clear()
        self.maps.clear()

    def forget(self) -> None:
        """A group was rolled back: what the writer's memory took from it is void."""
        self.memory.clear()
        self.recent.clear()
        self.counters_dirty.clear()
        self.counters = dict(self.database.writer.all("SELECT name, next FROM counter"))
        self.reserved = self.counters.copy()

    def publish(self, touched: dict[MailboxId, set[int]], restructured: set[MailboxId]) -> None:
        """After a commit: views, then listeners, in commit order."""
        for guid, fids in touched.items():
            memory = self.memory.get(guid)
            view = self._views.get(guid)
            if memory is None or guid in restructured:
                self._views.pop(guid, None)
            elif view is not None:
                view.refreshed(memory, fids)
        for guid, fids in touched.items():
            if guid in self._listeners or self._everything:
                memory = self.memory.get(guid)
                self._tell(Notice(guid, memory.cn if memory else 0, frozenset(fids)))
        self._trim()
        if self.database.log_size() > CHECKPOINT_AT and self._upkeep is None:
            self._upkeep = asyncio.get_running_loop().create_task(self._checkpoint())

    def leave(self, guid: MailboxId) -> None:
        """Everybody who listens to a mailbox is told that it is gone."""
        for listener in list(self._listeners.get(guid, ())):
            listener(Notice(guid, 0, frozenset(), gone=True))

    def _tell(self, notice: Notice) -> None:
        for listener in (*self._listeners.get(notice.mailbox, ()), *self._everything):
            try:
                listener(notice)
            except Exception:
                log.exception("a listener failed")

    def _trim(self) -> None:
        for cache in (self.memory, self._views):
            while len(cache) > MAX_MEMORIES:
                del cache[next(iter(cache))]

    async def _checkpoint(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            # failpoint: mailbox.checkpoint.before
            await loop.run_in_executor(self.helper, lambda: self.database.checkpoint(restart=False))
            await self.writer.between(lambda: self.database.checkpoint(restart=True))
            self.timings.checkpoints += 1
        except SqlError as error:
            log.warning("checkpoint failed", extra={"f": {"database": self.name, "error": str(error)}})
        finally:
            self._upkeep = None

    # -- reading ------------------------------------------------------------------------------------------------
    def view(self, guid: MailboxId) -> MailboxMemory:
        """The committed state of a mailbox; shared, not to be changed. NO_FOLDER when it was never made."""
        view = self._views.get(guid)
        if view is None:
            with self.snapshot():
                view = load(self.reader, guid)
            if view is None:
                raise no_folder()
            self._views[guid] = view
        return view

    def has(self, guid: MailboxId) -> bool:
        """Was this mailbox made here?"""
        return (guid in self.memory or guid in self._views
                or self.reader.one("SELECT 1 FROM mailbox WHERE guid = ?", (guid,)) is not None)

    def snapshot(self) -> Snapshot:
        """`with db.snapshot():` all reads of the reader see one state."""
        return Snapshot(self.reader)

    def listen(self, guid: MailboxId | None, listener: Listener) -> Callable[[], None]:
        """Notices of one mailbox (None: of all); call the result to end it."""
        listeners = self._everything if guid is None else self._listeners.setdefault(guid, [])
        listeners.append(listener)

        def end() -> None:
            if listener in listeners:
                listeners.remove(listener)
            if guid is not None and not listeners:
                self._listeners.pop(guid, None)
        return end

    # -- end ----------------------------------------------------------------------------------------------------
    async def close(self) -> None:
        """Finish what waits; close. Listeners are told once more: what they then ask says that it is gone."""
        self.closed = True
        for guid in list(self._listeners):
            self._tell(Notice(guid, 0, frozenset(), gone=True))
        if self._upkeep is not None:
            await asyncio.gather(self._upkeep, return_exceptions=True)
        await self.writer.close()
        if FAILPOINTS.active:
            FAILPOINTS.hit("mailbox.dismount.before")
        self._commits.close()
        self.helper.shutdown(wait=True)
        self.listings.close()
        self.database.close()



class Snapshot:
    """One read transaction."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Connection:
        self._connection.begin_read()
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.rollback()
