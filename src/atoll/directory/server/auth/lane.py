"""The hash lane: two threads, at most 64 waiting, fair between those who ask (PROCESSES 5, 12; Trust 7).

In     work to run in a thread; for whom: the asking frontend, and the client prefix it states.
Out    its result. Frontends take turns, and within each its prefixes do. When the lane is full, a newcomer takes the
       place of the youngest waiter of the frontend that has most, or of its own frontend's largest prefix: neither a
       frontend that invents prefixes nor a client that sends many guesses keeps others out.
Fails  LaneFull(delay): a temporary refusal.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_Unit = tuple[Callable[[], Any], "asyncio.Future[Any]"]
_Prefixes = OrderedDict[Hashable, deque[_Unit]]


class LaneFull(Exception):
    """No place to wait; `delay`: seconds until another try makes sense."""

    def __init__(self, delay: float) -> None:
        super().__init__("hash lane full")
        self.delay = delay


class HashLane:
    """Runs costly hashes beside the event loop, never more than `threads` at a time."""

    def __init__(self, threads: int = 2, waiting: int = 64) -> None:
        self._threads = threads
        self._limit = waiting
        self._pool = ThreadPoolExecutor(threads, "hash")
        self._frontends: OrderedDict[Hashable, _Prefixes] = OrderedDict()
        self._running = 0
        self._seconds = 0.03
        self._tasks: set[asyncio.Task[None]] = set()
        self.waiting = 0

    async def run(self, frontend: Hashable, prefix: Hashable, work: Callable[[], T]) -> T:
        """Wait for our turn, then for work() in a thread."""
        if self.waiting >= self._limit:
            self._make_room(frontend, prefix)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        prefixes = self._frontends.setdefault(frontend, OrderedDict())
        prefixes.setdefault(prefix, deque()).append((work, future))
        self.waiting += 1
        self._next()
        return await future

    def _delay(self) -> float:
        return max(0.25, (self.waiting + 1) * self._seconds / self._threads)

    def _make_room(self, frontend: Hashable, prefix: Hashable) -> None:
        totals = {name: sum(map(len, prefixes.values())) for name, prefixes in self._frontends.items()}
        largest = max(totals, key=totals.__getitem__)
        others = totals[largest] > totals.get(frontend, 0) + 1
        owner = largest if others else frontend
        victims = self._frontends.get(owner, OrderedDict())
        name = max(victims, key=lambda each: len(victims[each]), default=None)
        if name is None or not (others or len(victims[name]) > len(victims.get(prefix, ())) + 1):
            raise LaneFull(self._delay())
        _, future = victims[name].pop()
        self.waiting -= 1
        if not victims[name]:
            del victims[name]
        if not victims:
            del self._frontends[owner]
        if not future.done():
            future.set_exception(LaneFull(self._delay()))

    def _next(self) -> None:
        while self._running < self._threads and self._frontends:
            work, future = self._take()
            if future.done():  # its asker is gone
                continue
            self._running += 1
            task = asyncio.get_running_loop().create_task(self._one(work, future))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self) -> _Unit:
        """The next unit: of the frontend whose turn it is, of the prefix whose turn it is there."""
        frontend, prefixes = next(iter(self._frontends.items()))
        prefix, queue = next(iter(prefixes.items()))
        unit = queue.popleft()
        self.waiting -= 1
        _rotate(prefixes, prefix, empty=not queue)
        _rotate(self._frontends, frontend, empty=not prefixes)
        return unit

    async def _one(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        started = time.monotonic()
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)
        finally:
            self._seconds += 0.1 * (time.monotonic() - started - self._seconds)
            self._running -= 1
            self._next()

    def close(self) -> None:
        """Let running hashes end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _rotate(names: OrderedDict[Hashable, Any], name: Hashable, *, empty: bool) -> None:
    if empty:
        del names[name]
    else:
        names.move_to_end(name)
