"""runtime.turns -- long work in slices: one slice a turn of the event loop, whoever it is for.

In     coroutines that read or print a lot, each a slice at a time (<= 2 ms).
Out    each waits for its turn; between two slices the loop looks at everything else that is ready.
Spec   ARCHITECTURE, "One thread of Python per mailbox process". Without it twenty streams make one turn of the loop
       twenty slices long, and a delivery, which needs several turns, waits for all of them.
Fails  never. Not  fairness between people: the order is that of asking.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """One queue for a process."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._running = False

    async def take(self) -> None:
        """Wait for the next turn of the loop that is free for long work."""
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        self._waiting.append(mine)
        if not self._running:
            self._running = True
            loop.call_soon(self._next)
        await mine

    def _next(self) -> None:
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # its client may have left
                first.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._running = False
