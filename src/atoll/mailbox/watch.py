"""One task that follows something: after each change, and now and then.

In     an event that says that there is work; a round that does it.
Out    rounds, one at a time.
Fails  a round that fails, whatever it was, is tried again a moment later: who watches does not stop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from atoll.mailbox.errors import StoreError
from atoll.runtime.rpc import RpcError

AGAIN = 5.0
"""Seconds before a round that failed, as when the directory does not answer, is tried again."""

log = logging.getLogger(__name__)


class Watch:
    """The task. name: in the log."""

    def __init__(self, name: str, work: asyncio.Event, once: Callable[[], Awaitable[None]],
                 every: float | None = None) -> None:
        """every: seconds after which there is a round though nothing changed."""
        self._name = name
        self._task = asyncio.get_running_loop().create_task(self._run(work, once, every), name=name)

    async def _run(self, work: asyncio.Event, once: Callable[[], Awaitable[None]], every: float | None) -> None:
        while True:
            try:
                async with asyncio.timeout(every):
                    await work.wait()
            except TimeoutError:
                pass
            work.clear()
            try:
                await once()
            except Exception as error:
                known = isinstance(error, RpcError | StoreError)
                log.warning(self._name, exc_info=not known, extra={"f": {"error": str(error)}})
                work.set()
                await asyncio.sleep(AGAIN)

    async def close(self) -> None:
        """End it."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
