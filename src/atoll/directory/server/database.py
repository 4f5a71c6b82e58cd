"""The directory database: reads on the event loop, writes as groups in one thread (ISLANDS 11.1, 11.6, 11.7).

In     the engine module (apsw, chosen by roles/), a path; work(tx) units.
Out    rows; results of units after their COMMIT (fsync: synchronous=FULL); then the events the units noted.
Spec   A unit that raises is undone alone, behind a savepoint. work(tx) has no side effects and may run again.
Fails  OwnerLost: another process mounted the file after us; nothing is written any more.
Not    for mailbox contents: rows here are small and few.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from atoll.base.clock import Clock
from atoll.base.failpoints import FAILPOINTS
from atoll.base.ids import new_id
from atoll.directory.client.model import Changed, Revocation
from atoll.directory.server.schema import STEPS, VERSION

T = TypeVar("T")
Value = int | str | bytes | float | None
Row = tuple[Any, ...]
Event = Changed | Revocation
GROUP = 64

_log = logging.getLogger("atoll.directory.database")


class OwnerLost(Exception):
    """The owner row does not name us any more."""


class TooNew(Exception):
    """The file was written by a later version that this one must not touch."""


class Tx:
    """One unit of work inside the write transaction."""

    def __init__(self, connection: Any, org: bytes, now: int) -> None:
        self._connection = connection
        self.org = org
        self.now = now
        self.events: list[Event] = []

    def run(self, sql: str, params: Sequence[Value] = ()) -> int:
        """Execute; how many rows it changed."""
        before = self._connection.total_changes()
        self._connection.execute(sql, params)
        return int(self._connection.total_changes() - before)

    def rows(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        return list(self._connection.execute(sql, params))

    def one(self, sql: str, params: Sequence[Value] = ()) -> Row | None:
        return next(iter(self.rows(sql, params)), None)

    def change(self) -> int:
        """The next change number, from its counter row in this transaction (ISLANDS 11.3)."""
        self.run("UPDATE counter SET value = value + 1 WHERE name = 'change'")
        row = self.one("SELECT value FROM counter WHERE name = 'change'")
        assert row is not None
        return int(row[0])

    def changed(self, kind: str, entity: bytes) -> int:
        """A new change number for a row, told to every follower after the commit."""
        number = self.change()
        self.events.append(Changed(number, kind, entity))
        return number


class Database:
    """One open directory database. Create with open()."""

    def __init__(self, engine: Any, path: Path, clock: Clock, holder: str) -> None:
        self._engine = engine
        self._path = path
        self._clock = clock
        self._holder = holder
        self._writer: Any = None
        self._reader: Any = None
        self._epoch = 0
        self._thread = ThreadPoolExecutor(1, "directory-writer")
        self._waiting: list[tuple[Callable[[Tx], Any], asyncio.Future[Any]]] = []
        self._draining: asyncio.Task[None] | None = None
        self.org = b""
        self.on_committed: list[Callable[[list[Event]], None]] = []

    def open(self) -> None:
        """Open, migrate, take ownership. Blocking; called once before the role is ready."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._writer = self._connect()
        self._migrate()
        self._mount()
        self._reader = self._connect()
        self._reader.execute("PRAGMA query_only = ON")

    def _connect(self) -> Any:
        connection = self._engine.Connection(str(self._path))
        connection.set_busy_timeout(5000)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
            list(connection.execute(f"PRAGMA {pragma}"))
        return connection

    def _migrate(self) -> None:
        known = list(self._writer.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'"))
        version, min_writer = (0, 0)
        if known:
            version, min_writer = next(iter(self._writer.execute("SELECT version, min_writer FROM schema_version")))
        if min_writer > VERSION:
            raise TooNew(f"directory database has schema {version}; this version writes up to {VERSION}")
        for number in range(version, VERSION):
            self._writer.execute("BEGIN IMMEDIATE")
            for statement in STEPS[number]:
                self._writer.execute(statement)
            self._writer.execute("UPDATE schema_version SET version = ?", (number + 1,))
            self._writer.execute("COMMIT")

    def _mount(self) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        self._writer.execute("UPDATE owner SET epoch = epoch + 1, holder = ?", (self._holder,))
        self._epoch = next(iter(self._writer.execute("SELECT epoch FROM owner")))[0]
        row = next(iter(self._writer.execute("SELECT id FROM organization")), None)
        if row is None:
            row = (new_id(),)
            self._writer.execute("INSERT INTO organization (id, name, change) VALUES (?, 'Organization', 0)", row)
        self._writer.execute("COMMIT")
        self.org = row[0]

    def rows(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        """Read what is committed."""
        return list(self._reader.execute(sql, params))

    def one(self, sql: str, params: Sequence[Value] = ()) -> Row | None:
        return next(iter(self.rows(sql, params)), None)

    def last_change(self) -> int:
        """The highest change number so far."""
        row = self.one("SELECT value FROM counter WHERE name = 'change'")
        return int(row[0]) if row else 0

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run work(tx) in the next group; its result once the group is committed."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._draining is None or self._draining.done():
            self._draining = asyncio.get_running_loop().create_task(self._drain())
        return await asyncio.shield(future)

    async def _drain(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
            try:
                outcomes, events = await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._commit, [work for work, _ in group])
            except Exception as error:
                _log.exception("commit failed")
                for _, future in group:
                    _settle(future, error)
                continue
            # Followers hear of a change before its author does: nobody sees an answer older than what he was told.
            for callback in self.on_committed if events else ():
                callback(events)
            for (_, future), outcome in zip(group, outcomes, strict=True):
                _settle(future, outcome)

    def _commit(self, works: list[Callable[[Tx], Any]]) -> tuple[list[Any], list[Event]]:
        connection = self._writer
        connection.execute("BEGIN IMMEDIATE")
        try:
            if next(iter(connection.execute("SELECT epoch FROM owner")))[0] != self._epoch:
                raise OwnerLost(str(self._path.name))
            outcomes: list[Any] = []
            events: list[Event] = []
            for work in works:
                connection.execute("SAVEPOINT unit")
                tx = Tx(connection, self.org, self._clock.now_ms())
                try:
                    outcomes.append(work(tx))
                    events += tx.events
                except Exception as error:
                    connection.execute("ROLLBACK TO unit")
                    outcomes.append(_Failed(error))
                connection.execute("RELEASE unit")
            if FAILPOINTS.active:
                FAILPOINTS.hit("directory.commit.before")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if FAILPOINTS.active:
            FAILPOINTS.hit("directory.commit.after")
        return outcomes, events

    async def close(self) -> None:
        """Finish what waits, then close the file."""
        if self._draining is not None:
            await self._draining
        self._thread.shutdown()
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()


class _Failed:
    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


def _settle(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():
        return
    if isinstance(outcome, _Failed):
        future.set_exception(outcome.error)
    elif isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
