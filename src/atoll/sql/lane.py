"""One thread for the calls that must not hold the loop: COMMIT, checkpoints.

In     calls, one after another.
Out    an asyncio future each.
Not    a pool: fewer steps between the loop and the thread than concurrent.futures takes (about 50 us a call).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any


class Lane:
    """Lives until `close`."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def run(self, call: Callable[[], Any]) -> asyncio.Future[Any]:
        """Its result, or its exception."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._calls.put((call, future))
        return future

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            call, future = item
            try:
                result = call()
            except BaseException as error:
                self._loop.call_soon_threadsafe(_fail, future, error)
            else:
                self._loop.call_soon_threadsafe(_done, future, result)

    def close(self) -> None:
        """After the calls given before."""
        self._calls.put(None)
        self._thread.join()


def _done(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
