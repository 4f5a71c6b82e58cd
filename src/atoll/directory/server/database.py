"""The directory database: reads on the event loop, writes in groups (ISLANDS 11.1, 11.6, 11.7).

In     an engine of sql/ (roles/ choose it), a path; work(tx) units.
Out    rows; results of units once their group is durable, after the events they noted were told.
Spec   the commit contract of sql/group: a unit that refuses leaves no trace; work(tx) has no side effects and may run
       again.
Fails  SqlError: Full or ReadOnly while there is no room to write; in doubt or fenced, nothing is
       written any more and on_doubt is called: the role ends and starts anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TypeVar

from atoll.base.clock import Clock
from atoll.base.ids import new_id
from atoll.directory.client.model import Changed, Revocation
from atoll.sql import (
    Connection,
    Engine,
    Fence,
    Full,
    GroupWriter,
    Lane,
    LateFence,
    ReadOnly,
    Schema,
    SqlError,
    migrate,
    take_ownership,
)
from atoll.sql import Database as File
from atoll.sql.engine import Record, Value

T = TypeVar("T")
_log = logging.getLogger("atoll.directory.database")
Row = Record
Event = Changed | Revocation
LOG_BYTES = 4 << 20
"""Write-ahead log that is folded back into the file when nobody writes."""


class Tx:
    """What the units of one group work with."""

    def __init__(self, connection: Connection, org: bytes, now: int, publish: Callable[[list[Event]], None]) -> None:
        self._connection = connection
        self._publish = publish
        self._mark = 0
        self._kept: list[Event] = []
        self.org = org
        self.now = now
        self.events: list[Event] = []

    def run(self, sql: str, params: Sequence[Value] = ()) -> int:
        """Execute; how many rows it changed."""
        self._mark += 1
        return self._connection.run(sql, params)

    def rows(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        return self._connection.all(sql, params)

    def one(self, sql: str, params: Sequence[Value] = ()) -> Row | None:
        return self._connection.one(sql, params)

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

    # The group writer's side (sql.group.Context).
    def mark(self) -> int:
        return self._mark

    def flush(self) -> None:
        self._kept += self.events
        self.events = []

    def abandon(self) -> None:
        self.events = []

    def committed(self) -> None:
        # Followers hear of a change before its author does: nobody sees an answer older than what he was told.
        if self._kept:
            self._publish(self._kept)


class _Epochs:
    """The directory is the highest keeper of epochs: its own only has to grow."""

    async def next_epoch(self, database: str, at_least: int) -> int:
        return at_least


class Database:
    """One open directory database. Create with open_database()."""

    def __init__(self, file: File, fence: Fence, clock: Clock, org: bytes,
                 on_doubt: Callable[[SqlError], None]) -> None:
        self._file = file
        self._fence = fence
        self._commits = Lane("directory-commit")
        self._writer = GroupWriter("directory", file.writer, fence,
                                   lambda connection: Tx(connection, org, clock.now_ms(), self._publish),
                                   self._commits, on_doubt)
        self.on_committed: list[Callable[[list[Event]], None]] = []

    @property
    def owned(self) -> bool:
        """False: there was no room to become the owner, it is read only so far."""
        return self._fence.owned

    def _publish(self, events: list[Event]) -> None:
        for callback in self.on_committed:
            callback(events)

    def rows(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        """Read what is committed: the local copy, whoever its master is (ISLANDS 11.13)."""
        return self._file.reader.all(sql, params)

    def one(self, sql: str, params: Sequence[Value] = ()) -> Row | None:
        return self._file.reader.one(sql, params)

    def last_change(self) -> int:
        """The highest change number so far."""
        row = self.one("SELECT value FROM counter WHERE name = 'change'")
        return int(row[0]) if row else 0

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run work(tx) in the next group; its result once the group is committed."""
        result = await self._writer.submit(work)
        if self._file.log_size() > LOG_BYTES:
            try:
                await self._writer.between(lambda: self._file.checkpoint(restart=True))
            except SqlError as error:  # what was asked for is committed all the same
                _log.warning("checkpoint failed", extra={"f": {"error": str(error)}})
        return result

    async def close(self) -> None:
        """Finish what waits, then close the file."""
        await self._writer.close()
        self._commits.close()
        self._file.close()


async def open_database(engine: Engine, path: Path, clock: Clock, process: str,
                        on_doubt: Callable[[SqlError], None]) -> Database:
    """Open or make the file, bring it to our schema, own it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    schema = Schema.of(resources.files("atoll.directory.server") / "sql")
    file = engine.open(path)
    try:
        file = migrate(engine, file, schema)
        fence = await _owned(file, path.name, process)
        row = file.writer.one("SELECT id FROM organization ORDER BY id LIMIT 1")
        if row is None:
            row = (new_id(),)
            file.writer.begin()
            file.writer.run("INSERT INTO organization (id, name, change) VALUES (?, 'Organization', 0)", row)
            file.writer.commit()  # failpoint: none, the start of a new file is repeated
    except BaseException:
        file.close()
        raise
    return Database(file, fence, clock, row[0], on_doubt)


async def _owned(file: File, name: str, process: str) -> Fence:
    """Nobody can sign in without a directory, so one without room for its new epoch reads, and owns before it writes:
    the lock file keeps another process of this island out, and no other keeper gives out its epochs."""
    try:
        return Fence(file.writer, (await take_ownership(file.writer, _Epochs(), name, process)).epoch)
    except (Full, ReadOnly) as error:
        _log.error("no room to become the owner: the directory is read only", extra={"f": {"error": str(error)}})
        return LateFence(file.writer, process)
