"""The hash lane: two threads, at most 64 waiting, fair between those who ask (PROCESSES 5, Trust 7).

In     work to run in a thread, and the group it is counted for (frontend, client prefix).
Out    its result. Groups take turns; a group that fills the lane loses its youngest waiter to a newcomer's group.
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
        self._groups: OrderedDict[Hashable, deque[tuple[Callable[[], Any], asyncio.Future[Any]]]] = OrderedDict()
        self._count = 0
        self._running = 0
        self._seconds = 0.03
        self._futures: set[asyncio.Future[None]] = set()

    @property
    def waiting(self) -> int:
        return self._count

    async def run(self, group: Hashable, work: Callable[[], T]) -> T:
        """Wait for this group's turn, then for work() in a thread."""
        if self._count >= self._limit and self._running >= self._threads:
            self._make_room(group)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._groups.setdefault(group, deque()).append((work, future))
        self._count += 1
        self._next()
        return await future

    def _delay(self) -> float:
        return max(0.25, (self._count + 1) * self._seconds / self._threads)

    def _make_room(self, group: Hashable) -> None:
        largest = max(self._groups, key=lambda name: len(self._groups[name]))
        if len(self._groups[largest]) <= len(self._groups.get(group, ())) + 1:
            raise LaneFull(self._delay())
        _, future = self._groups[largest].pop()
        self._count -= 1
        if not future.done():
            future.set_exception(LaneFull(self._delay()))

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        while self._running < self._threads and self._groups:
            group, queue = next(iter(self._groups.items()))
            work, future = queue.popleft()
            self._count -= 1
            if queue:
                self._groups.move_to_end(group)
            else:
                del self._groups[group]
            if future.done():  # its asker is gone
                continue
            self._running += 1
            running = asyncio.ensure_future(self._one(loop, work, future))
            self._futures.add(running)
            running.add_done_callback(self._futures.discard)

    async def _one(self, loop: asyncio.AbstractEventLoop, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        started = time.monotonic()
        try:
            result = await loop.run_in_executor(self._pool, work)
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
