"""How much one client or one person sends in a while: a stolen password sends no million letters.

In     user ids, client prefixes, a monotonic clock.
Out    yes or no: an hour (a minute) begins with the first that is counted in it.
Not    a frontend's own counters: transport sees the mail of all of them.
"""

from __future__ import annotations

from atoll.base.clock import Clock

HOUR = 3600.0
MINUTE = 60.0
MOST = 100_000
"""Keys that are counted at a time; the one that came first is forgotten."""


class Rate:
    """Counts per key, at most `limit` in `seconds`; 0: no limit."""

    def __init__(self, clock: Clock, limit: int, seconds: float) -> None:
        self.limit = limit
        self._clock = clock
        self._seconds = seconds
        self._counts: dict[bytes | str, tuple[float, int]] = {}
        """Key -> (start of its time, how many in it)."""

    def take(self, key: bytes | str, count: int = 1) -> bool:
        """Count them if they fit."""
        if not self.limit:
            return True
        now = self._clock.monotonic()
        start, before = self._counts.get(key, (now, 0))
        if now - start >= self._seconds:
            start, before = now, 0
        if before + count > self.limit:
            return False
        if key not in self._counts and len(self._counts) >= MOST:
            del self._counts[next(iter(self._counts))]
        self._counts[key] = (start, before + count)
        return True
