"""Whether a group waits a moment for those who are likely to come: PostgreSQL's commit_delay and commit_siblings.

In     each request as it comes (`came`), the beginning and the end of each group.
Out    `others()` returns when as many wait as were here a moment ago, at once where nobody is missing.
Spec   docs/adr/0016: whoever was answered by the last group asks again soon, those who came while it was written are
       here already. A group costs the same whatever its size, so three requests in one cost half of three groups.
Fails  never: after WAIT seconds the group goes with those who are there, and the next one expects no more than that.
Not    for one who is alone: his last group had one request, and nobody else came meanwhile.
"""

from __future__ import annotations

import asyncio

WAIT = 0.002
"""Seconds that a group waits at most."""
RECENT = 0.01
"""Seconds after its end in which a group says something of those who come next."""


class Gathering:
    """Of one writer."""

    def __init__(self) -> None:
        self._here = 0
        """Requests since the last group began."""
        self._expected = 0
        self._over = float("-inf")
        """When the last group ended."""
        self._size = 0
        self._enough: asyncio.Future[None] | None = None

    def came(self) -> None:
        """One more request."""
        self._here += 1
        if self._here >= self._expected:
            self.go()

    def begin(self) -> None:
        """All that came are taken into a group."""
        self._size, self._here = self._here, 0

    def end(self) -> None:
        """It is written; who came meanwhile is here, who was in it may come back."""
        self._expected = self._size + self._here
        self._over = asyncio.get_running_loop().time()

    async def others(self) -> None:
        """Wait for those who are missing, if anybody is."""
        loop = asyncio.get_running_loop()
        if self._expected < 2 or self._here >= self._expected or loop.time() - self._over > RECENT:
            return
        self._enough = loop.create_future()
        timer = loop.call_later(WAIT, self.go)
        await self._enough
        self._enough = None
        timer.cancel()

    def go(self) -> None:
        """Wait no longer."""
        if self._enough is not None and not self._enough.done():
            self._enough.set_result(None)
