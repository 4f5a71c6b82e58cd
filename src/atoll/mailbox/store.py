"""Every database mounted in this process.

In     a database engine, the directory's answers (mailboxes, owner epochs), deliveries.
Out    Access objects; Delivered once committed.
Spec   docs/seams.md 4; ISLANDS 4 (mount, fence, in doubt), 11.1, 11.5, 11.6, 11.15.
Fails  StoreError(UNAVAILABLE): not mounted here, or in doubt; the store mounts again by itself, unless it is fenced.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from atoll.base.clock import Clock, SystemClock
from atoll.base.failpoints import FAILPOINTS
from atoll.base.ids import MailboxId, UserId
from atoll.content import Scanner
from atoll.directory.client.model import MailboxInfo, Quota
from atoll.mailbox.access import Access
from atoll.mailbox.blobs import Prepared
from atoll.mailbox.check import faults
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.deliver import MAX_BATCH, Batch, Request, deliver
from atoll.mailbox.errors import StoreError, no_folder, unavailable
from atoll.mailbox.folders import born, forked
from atoll.mailbox.ingest import ingest
from atoll.mailbox.listing import Listings
from atoll.mailbox.model import Delivered, Delivery
from atoll.mailbox.rescan import Rescan
from atoll.mailbox.search.feed import SearchFeed
from atoll.mailbox.search.index import SearchIndex
from atoll.mailbox.switch import finish_switch
from atoll.mailbox.upkeep import Upkeep
from atoll.runtime.rpc import RpcError
from atoll.runtime.turns import Turns
from atoll.sql import Broken, Database, Engine, Epochs, Fence, Fenced, Schema, SqlError, migrate, take_ownership

log = logging.getLogger(__name__)

Lookup = Callable[[MailboxId], Awaitable[MailboxInfo]]
REMOUNT_AFTER = (0.05, 0.2, 1.0, 5.0)
"""Seconds before a database that was unmounted in doubt is mounted again; the last one repeats."""


def listing_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.listing.sqlite")


def search_path(path: Path) -> Path:
    """DB.search.sqlite beside DB.sqlite."""
    return path.with_suffix(".search.sqlite")


def schema() -> Schema:
    """The schema of a mailbox database, with the check that a migrated copy has to pass."""
    return Schema.of(files("atoll.mailbox.sql").joinpath("schema"), faults)


def _at_our_schema(engine: Engine, path: Path) -> Database:
    raw = engine.open(path)
    try:
        return migrate(engine, raw, schema())
    except BaseException:
        raw.close()
        raise


def _close_it(opening: asyncio.Future[Database]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


class Store:
    """Made once per mailbox process, on its event loop."""

    def __init__(self, engine: Engine, lookup: Lookup, epochs: Epochs, *, process: str = "mailbox",
                 search_engine: Engine | None = None, clock: Clock | None = None, recoverable_days: int = 14,
                 turns: Turns | None = None, scanner: Scanner | None = None) -> None:
        """lookup: Backend.mailbox. process: our name in the owner row. search_engine: SQLite, if `engine` is not.
        turns: shared by all long work of the process. scanner: where the text of large messages is read."""
        self._engine = engine
        self._search_engine = search_engine or engine
        self._lookup = lookup
        self._epochs = epochs
        self._process = process
        self._recoverable_days = recoverable_days
        self._turns = turns or Turns()
        self._scanner = scanner or Scanner()
        self.clock: Clock = clock or SystemClock()
        self._mounted: dict[str, MailboxDatabase] = {}
        self._feeds: dict[str, SearchFeed] = {}
        self._upkeep: dict[str, Upkeep] = {}
        self._rescans: dict[str, Rescan] = {}
        self._paths: dict[str, Path] = {}
        self._batches: dict[str, Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._dismounted: set[str] = set()
        self._opening: dict[str, asyncio.Lock] = {}
        self.on_mounted: list[Callable[[MailboxDatabase], None]] = []
        """Told of each database that begins to be served."""
        self.on_shared: list[Callable[[MailboxDatabase, MailboxId], None]] = []
        """Told when rights in a mailbox were given or taken."""

    # -- mounting -----------------------------------------------------------------------------------------------
    async def mount(self, name: str, path: Path) -> None:
        """Open, migrate, raise the owner epoch durably, serve. SqlError when it cannot be."""
        async with self._opening.setdefault(name, asyncio.Lock()):
            if name not in self._mounted:
                await self._mount(name, path)

    async def _open(self, path: Path) -> Database:
        """At our schema. A migration of a large database takes minutes, in which the other databases are served."""
        if self._engine.in_files:
            finish_switch(path)
        opening = asyncio.get_running_loop().run_in_executor(None, _at_our_schema, self._engine, path)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_it)
            raise

    async def _mount(self, name: str, path: Path) -> None:
        self._dismounted.discard(name)
        self._paths[name] = path
        raw = await self._open(path)
        try:
            if FAILPOINTS.active:
                FAILPOINTS.hit("mailbox.mount.before_barrier")
            ownership = await take_ownership(raw.writer, self._epochs, name, self._process)
            if FAILPOINTS.active:
                FAILPOINTS.hit("mailbox.mount.after_barrier")
            database = MailboxDatabase(name, raw, Fence(raw.writer, ownership.epoch), self.clock, self._in_doubt,
                                       self._turns, Listings(self._search_engine, listing_path(path)))
        except BaseException:
            raw.close()
            raise
        if ownership.forked:
            log.warning("a restored copy begins a new epoch",
                        extra={"f": {"database": name, "epoch": ownership.epoch}})
            try:
                await database.submit(forked(ownership.epoch))
            except StoreError as error:  # it is damaged: a repair has to find it closed
                await database.close()
                raise Broken(error.detail) from error
        try:
            feed = SearchFeed(database, SearchIndex(self._search_engine, search_path(path)), self._scanner)
        except BaseException:
            await database.close()
            raise
        self._mounted[name] = database
        self._feeds[name] = feed
        self._rescans[name] = rescan = Rescan(database, feed, self._scanner)
        self._upkeep[name] = Upkeep(database, self._recoverable_days, feed.forget_blobs, rescan.due)
        for callback in self.on_mounted:
            callback(database)
        log.info("database mounted", extra={"f": {"database": name, "epoch": ownership.epoch}})

    async def dismount(self, name: str) -> None:
        """Finish what runs, close it. Nothing happens when it is not mounted."""
        async with self.apart(name):
            pass

    @asynccontextmanager
    async def apart(self, name: str) -> AsyncIterator[None]:
        """Its file is the caller's for as long as this lasts: dismounted, and nobody mounts it."""
        async with self._opening.setdefault(name, asyncio.Lock()):
            self._dismounted.add(name)
            database = self._mounted.pop(name, None)
            self._batches.pop(name, None)
            if database is not None:
                await self._end(name)
                await database.close()
                log.info("database dismounted", extra={"f": {"database": name}})
            yield

    async def close(self) -> None:
        """Dismount everything."""
        self._dismounted.update(self._mounted)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for name in list(self._mounted):
            await self.dismount(name)

    def mounted(self) -> list[str]:
        """Names of the databases that are served now."""
        return sorted(self._mounted)

    def known(self) -> list[str]:
        """Names of the databases that were mounted here since the start."""
        return sorted(self._paths)

    def leave(self, name: str, path: Path) -> None:
        """A database that an administrator has closed, before our start perhaps: it waits for mount()."""
        self._paths[name] = path
        self._dismounted.add(name)

    def is_dismounted(self, name: str) -> bool:
        """Closed by an administrator: nobody but he opens it again."""
        return name in self._dismounted

    def database(self, name: str) -> MailboxDatabase:
        """A mounted database; UNAVAILABLE."""
        database = self._mounted.get(name)
        if database is None:
            raise unavailable(f"{name} is not mounted here")
        return database

    async def _end(self, name: str) -> None:
        del self._rescans[name]
        await self._upkeep.pop(name).close()
        await self._feeds.pop(name).close()

    def path_of(self, name: str) -> Path:
        """Where a database is that was mounted before."""
        if name not in self._paths:
            raise unavailable(f"{name} was never mounted here")
        return self._paths[name]

    def feed(self, database: MailboxDatabase) -> SearchFeed:
        """The search index of a mounted database."""
        feed = self._feeds.get(database.name)
        if feed is None or database.closed:
            raise unavailable()
        return feed

    def rescan(self, name: str) -> Rescan:
        """Of a mounted database: contents that could not be looked into. UNAVAILABLE."""
        self.database(name)
        return self._rescans[name]

    def _in_doubt(self, database: MailboxDatabase, error: SqlError) -> None:
        self._mounted.pop(database.name, None)
        self._batches.pop(database.name, None)
        task = asyncio.get_running_loop().create_task(self._again(database, fenced=isinstance(error, Fenced)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _again(self, database: MailboxDatabase, *, fenced: bool) -> None:
        await self._end(database.name)
        await database.close()
        tries = 0
        while not fenced and database.name not in self._dismounted:
            await asyncio.sleep(REMOUNT_AFTER[min(tries, len(REMOUNT_AFTER) - 1)])
            tries += 1
            try:
                await self.mount(database.name, database.database.path)
                return
            except (SqlError, RpcError, OSError) as error:
                log.warning("mounting again failed", extra={"f": {"database": database.name, "error": str(error)}})

    # -- people and mail ----------------------------------------------------------------------------------------
    async def info(self, mailbox: MailboxId) -> MailboxInfo:
        """What the directory says; NO_FOLDER when there is no such mailbox, UNAVAILABLE when it cannot be asked."""
        try:
            return await self._lookup(mailbox)
        except RpcError as error:
            if error.code == "not_found":
                raise no_folder() from None
            raise unavailable(f"directory: {error.code}") from None

    async def _home(self, mailbox: MailboxId) -> tuple[MailboxInfo, MailboxDatabase]:
        info = await self.info(mailbox)
        if info.state != "active":
            raise unavailable(f"mailbox is {info.state}")
        database = self.database(info.database)
        if not database.has(mailbox):
            await database.submit(born(mailbox, database.epoch, self.clock.now_ms()))
        return info, database

    async def open(self, mailbox: MailboxId, who: UserId, *, scope: str = "full") -> Access:
        """A person's access; the mailbox is made with its well-known folders on first use. NO_FOLDER, UNAVAILABLE.

        scope "admin": as the owner, whoever it is (the token said so).
        """
        info, database = await self._home(mailbox)
        access = Access(self, database, info, who, is_owner=scope == "admin" or (bool(who) and info.user == who))
        if not access.is_owner and not access.folders():
            raise no_folder()
        return access

    async def deliver(self, deliveries: Sequence[Delivery]) -> list[Delivered | StoreError]:
        """Each committed or refused on its own; resolves after the commit."""
        results: list[Delivered | StoreError | None] = [None] * len(deliveries)
        prepared: dict[tuple[int, str], Prepared] = {}
        waiting: list[tuple[Batch, int, int]] = []
        for at, delivery in enumerate(deliveries):
            try:
                info, database = await self._home(delivery.mailbox)
                known = prepared.get((id(delivery.content), database.name))
                if known is None:
                    known = await ingest(database, delivery.content)
                    prepared[id(delivery.content), database.name] = known
                batch = self._batch(database)
            except StoreError as error:
                results[at] = error
                continue
            except SqlError as error:
                results[at] = unavailable(f"{type(error).__name__}: {error}")
                continue
            batch.requests.append(Request(delivery, known, info.quota if delivery.limited else Quota()))
            waiting.append((batch, len(batch.requests) - 1, at))
        for batch, position, at in waiting:
            try:
                results[at] = (await batch.written())[position]
                batch.database.timings.deliveries += 1
            except SqlError as error:
                results[at] = unavailable(f"{type(error).__name__}: {error}")
        return [result if result is not None else unavailable() for result in results]

    def _batch(self, database: MailboxDatabase) -> Batch:
        """The batch that still waits for the writer: all deliveries of a group are one unit of work."""
        batch = self._batches.get(database.name)
        if batch is None or batch.started or batch.over or len(batch.requests) >= MAX_BATCH:
            batch = self._batches[database.name] = Batch(database)
            work = deliver(batch, database.recent, self.clock.now_ms())
            self._turns.press()
            batch.written_by(database.writer.submit(work))
        return batch

    def figures(self) -> dict[str, dict[str, float]]:
        """Per mounted database: what metrics show."""
        return {name: {"groups": one.writer.groups, "units": one.writer.units, "deliveries": one.timings.deliveries,
                       "log_bytes": one.database.log_size(), "checkpoints": one.timings.checkpoints,
                       "unindexed_mailboxes": self._feeds[name].behind, "indexed": self._feeds[name].indexed}
                for name, one in self._mounted.items()}

    def shared(self, database: MailboxDatabase, mailbox: MailboxId) -> None:
        """Rights in a mailbox were given or taken."""
        for callback in self.on_shared:
            callback(database, mailbox)

    def shared_with(self, who: UserId) -> list[MailboxId]:
        """Mailboxes of the mounted databases in which this person may look up at least one folder."""
        found: dict[MailboxId, None] = {}
        for database in self._mounted.values():
            found.update(dict.fromkeys(MailboxId(guid) for (guid,) in database.reader.all(
                "SELECT DISTINCT m.guid FROM folder_user u JOIN folder f ON f.fid = u.fid JOIN mailbox m"
                " ON m.mid = f.mid WHERE u.who IN (?, ?) AND u.rights & 1 = 1 AND f.gone = 0 ORDER BY m.guid",
                (who, bytes(16)))))
        return list(found)

