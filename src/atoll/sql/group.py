"""Group commit: everything that waits is one transaction as soon as the writer is free.

In     units of work: `work(context)` returns its result, or is a generator that yields where the loop may run others
       (a slice is to be <= 2 ms). A unit may be run again from its start: no side effects, no await.
Out    a future: the result once committed, the unit's own exception when it refused (it left no trace), InDoubt.
Spec   STORE 5, ISLANDS 11.6 and 11.7, ARCHITECTURE "Group commit". No timers.
Fails  SqlError for every unit of a group that the engine failed; on_doubt is called once and the writer ends.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from dataclasses import dataclass
from inspect import isgenerator
from typing import Any, Generic, Protocol, TypeVar, cast, overload

from atoll.base.failpoints import FAILPOINTS
from atoll.sql.engine import Connection
from atoll.sql.errors import Fenced, InDoubt, SqlError
from atoll.sql.lane import Lane
from atoll.sql.owner import Fence

MAX_GROUP = 256
SLICE = 0.002
"""Seconds of work on the loop before others get their turn."""


class Context(Protocol):
    """What units of one group share: buffers and counters that are written once."""

    def mark(self) -> int:
        """Grows with every change that a unit makes."""

    def flush(self) -> None:
        """Write everything that is buffered."""

    def abandon(self) -> None:
        """It was rolled back: forget what memory knows from it."""

    def committed(self) -> None:
        """It is durable: publish. Must not fail."""


C = TypeVar("C", bound=Context)
T = TypeVar("T")


@dataclass(slots=True)
class _Unit:
    work: Callable[[Any], Any]
    future: asyncio.Future[Any]
    result: Any = None
    refused: Exception | None = None


class _RunAgain(Exception):
    """A unit refused after it had written: the group is to be run unit by unit."""


def _set(future: asyncio.Future[None], error: SqlError | None) -> None:
    """Unless whoever waited has gone."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


class GroupWriter(Generic[C]):
    """The only writer of one database; lives on the event loop."""

    def __init__(self, name: str, connection: Connection, fence: Fence, context: Callable[[Connection], C],
                 commits: Lane | Executor, on_doubt: Callable[[SqlError], None]) -> None:
        """name: prefix of the failpoints ("mailbox", "queue"). commits: the thread for COMMIT."""
        self._name = name
        self._connection = connection
        self._fence = fence
        self._context = context
        self._commits = commits
        self._on_doubt = on_doubt
        self._waiting: deque[_Unit] = deque()
        self._between: deque[tuple[Callable[[], None], asyncio.Future[None]]] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._ended: SqlError | None = None
        self._running = False
        self.groups = 0
        self.units = 0
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"{name} writer")

    @overload
    def submit(self, work: Callable[[C], Generator[None, None, T]]) -> asyncio.Future[T]: ...

    @overload
    def submit(self, work: Callable[[C], T]) -> asyncio.Future[T]: ...

    def submit(self, work: Callable[[C], Any]) -> asyncio.Future[Any]:
        """Run it with the next group. Cancelling the future does not stop the work."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._ended is not None or self._closing:
            future.set_exception(self._ended or InDoubt("the writer has ended"))
            return future
        self._waiting.append(_Unit(work, future))
        self._wake.set()
        return future

    @property
    def busy(self) -> bool:
        """Is there work that waits or runs?"""
        return bool(self._waiting) or self._running

    async def between(self, call: Callable[[], None]) -> None:
        """Run `call` on the commit thread while no transaction is open (checkpoints)."""
        if self._ended is not None or self._closing:
            raise self._ended or InDoubt("the writer has ended")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._between.append((call, future))
        self._wake.set()
        await future

    async def close(self) -> None:
        """Finish what waits, then end."""
        self._closing = True
        self._wake.set()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            if not self._waiting and not self._between:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                await asyncio.sleep(0)  # one look at the sockets: what has arrived by now joins the group
            while self._between:
                await self._aside(*self._between.popleft())
            units = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_GROUP))]
            if units:
                self._running = True
                await self._group(units)
                self._running = False
                await asyncio.sleep(0)  # the answers leave before the next group is worked on,
                await asyncio.sleep(0)  # and what has arrived meanwhile joins it
            if self._ended is not None:
                self._fail(list(self._waiting), self._ended)
                self._waiting.clear()
                for _, waiting in self._between:
                    _set(waiting, self._ended)
                return

    async def _group(self, units: list[_Unit]) -> None:
        context: C | None = None
        try:
            self._fence.begin()
            context = self._context(self._connection)
            try:
                await self._together(context, units)
            except _RunAgain:
                self._connection.rollback()
                context.abandon()
                self._fence.begin()
                context = self._context(self._connection)
                await self._one_by_one(context, units)
            if context.mark():
                await self._commit()
            else:
                self._connection.rollback()
        except Exception as error:
            self._failed(context, units, error)
            return
        self.groups += 1
        self.units += len(units)
        if FAILPOINTS.active:
            FAILPOINTS.hit(f"{self._name}.notify.before")
        try:
            context.committed()
        except Exception as error:  # durable, but what memory knows is not to be trusted any more
            self._ended = InDoubt(f"not published: {type(error).__name__}: {error}")
        if FAILPOINTS.active:
            FAILPOINTS.hit(f"{self._name}.reply.before")
        for unit in units:
            if not unit.future.done():
                if unit.refused is not None:
                    unit.future.set_exception(unit.refused)
                else:
                    unit.future.set_result(unit.result)
        if self._ended is not None:
            self._on_doubt(self._ended)

    async def _commit(self) -> None:
        if FAILPOINTS.active:
            FAILPOINTS.hit(f"{self._name}.commit.before")
        await self._apart(self._connection.commit)
        if FAILPOINTS.active:
            try:
                FAILPOINTS.hit(f"{self._name}.commit.after")
            except OSError as error:
                raise InDoubt(str(error)) from error

    async def _aside(self, call: Callable[[], None], done: asyncio.Future[None]) -> None:
        """Between two groups."""
        try:
            if FAILPOINTS.active:
                FAILPOINTS.hit(f"{self._name}.checkpoint.before")
            await self._apart(call)
            if FAILPOINTS.active:
                FAILPOINTS.hit(f"{self._name}.checkpoint.after")
        except SqlError as error:
            _set(done, error)
        except OSError as error:  # of a failpoint
            _set(done, SqlError(str(error)))
        else:
            _set(done, None)

    def _apart(self, call: Callable[[], None]) -> asyncio.Future[None]:
        if isinstance(self._commits, Lane):
            return self._commits.run(call)
        return asyncio.get_running_loop().run_in_executor(self._commits, call)

    def _failed(self, context: C | None, units: list[_Unit], error: Exception) -> None:
        failure = error if isinstance(error, SqlError) else InDoubt(f"{type(error).__name__}: {error}")
        try:
            if not isinstance(error, InDoubt | Fenced):
                self._connection.rollback()
            if context is not None:
                context.abandon()  # may read, which an engine refuses in a transaction that has failed
        except SqlError as worse:
            failure = InDoubt(str(worse))
        if isinstance(failure, InDoubt | Fenced):
            self._ended = failure
        self._fail(units, failure)
        if self._ended is not None:
            self._on_doubt(failure)

    @staticmethod
    def _fail(units: list[_Unit], error: SqlError) -> None:
        for unit in units:
            if not unit.future.done():
                unit.future.set_exception(error)

    async def _together(self, context: C, units: list[_Unit]) -> None:
        started = time.perf_counter()
        for unit in units:
            before = context.mark()
            try:
                unit.result = await self._advance(unit, context)
            except SqlError:
                raise
            except Exception as refused:
                if context.mark() != before:
                    raise _RunAgain from refused
                unit.refused = refused
            if time.perf_counter() - started > SLICE:
                await asyncio.sleep(0)
                started = time.perf_counter()
        context.flush()

    async def _one_by_one(self, context: C, units: list[_Unit]) -> None:
        for unit in units:
            unit.refused = None
            self._connection.savepoint("unit")
            try:
                unit.result = await self._advance(unit, context)
                context.flush()
            except SqlError:
                raise
            except Exception as refused:
                unit.refused = refused
                self._connection.rollback_to("unit")
                context.abandon()
            else:
                self._connection.release("unit")
            await asyncio.sleep(0)

    @staticmethod
    async def _advance(unit: _Unit, context: C) -> Any:
        result = unit.work(context)
        if not isgenerator(result):
            return result
        steps = cast("Generator[None, None, Any]", result)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            await asyncio.sleep(0)
