"""runtime.turns -- long work in slices: 1 to 2 ms a turn of the event loop, whoever they are for.

In     coroutines that read or print a lot, each a slice at a time (<= 2 ms).
Out    each waits for its turn, if this one is used up; between two turns the loop looks at all else that is ready.
Spec   ARCHITECTURE, "One thread of Python per mailbox process". Without it twenty streams make one turn of the loop
       twenty slices long, and a delivery, which needs several turns, waits for all of them. Short slices share a turn:
       one each would let no more of them through than the loop has turns. While somebody writes, long work has half of
       the time: what a listing prints costs the frontend and its clients as much again, on the same processors.
Fails  never. Not  fairness between people: the order is that of asking.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

SLICE = 0.001
"""Seconds after which long work leaves the rest of this turn of the loop to others."""
LONG = 0.002
"""A turn that took longer, with all that was done in it, lets only one of those who wait go on in the next."""
MOST = 16
"""So many go on in one turn at most."""
PRESSED = 0.01
"""Seconds for which somebody who writes holds long work back: half of the time is his and of those he waits for."""
LONGEST_PAUSE = 0.004


class Turns:
    """One queue for a process."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._running = False
        self._since = 0.0
        """When this turn's long work began."""
        self._share = 1
        """How many of those who wait go on in a turn: more as long as the turns stay short."""
        self._took = 0.0
        """Seconds of the last turn."""
        self._pressed = float("-inf")

    async def take(self) -> None:
        """Go on at once if this turn of the loop has time left for long work, else wait for one that has."""
        if not self._running:
            self._begin()
            return
        if not self._waiting and time.perf_counter() - self._since < SLICE:
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        await mine

    def press(self) -> None:
        """Somebody writes."""
        self._pressed = time.perf_counter()

    def _begin(self) -> None:
        self._running = True
        self._since = time.perf_counter()
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        """The end of a turn: what others wait for goes first, then the next one."""
        now = time.perf_counter()
        self._took = now - self._since
        if self._waiting and now - self._pressed < PRESSED:
            asyncio.get_running_loop().call_later(min(self._took, LONGEST_PAUSE), self._next)
        else:
            self._next()

    def _next(self) -> None:
        """The next turn."""
        if not self._waiting:
            self._running = False
            self._share = 1
            return
        self._share = min(self._share + 1, MOST) if self._took < LONG else 1
        going = 0
        while self._waiting and going < self._share:
            first = self._waiting.popleft()
            if not first.done():  # its client may have left
                first.set_result(None)
                going += 1
        self._begin()
