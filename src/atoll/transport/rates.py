"""How many recipients one person writes to in an hour: a stolen password sends no million letters.

In     user ids, a monotonic clock.
Out    yes or no: an hour begins with the first recipient that is counted in it.
Not    anonymous mail: the frontend counts messages per client prefix.
"""

from __future__ import annotations

from atoll.base.clock import Clock

HOUR = 3600.0
MAX_PEOPLE = 100_000


class RecipientRate:
    """Counts per user; 0: no limit."""

    def __init__(self, clock: Clock, per_hour: int) -> None:
        self._clock = clock
        self._limit = per_hour
        self._counts: dict[bytes, tuple[float, int]] = {}
        """User -> (start of the hour, recipients in it)."""

    def take(self, user: bytes, recipients: int) -> bool:
        """Count them if they fit."""
        if not self._limit:
            return True
        now = self._clock.monotonic()
        start, count = self._counts.get(user, (now, 0))
        if now - start >= HOUR:
            start, count = now, 0
        if count + recipients > self._limit:
            return False
        if user not in self._counts and len(self._counts) >= MAX_PEOPLE:
            del self._counts[next(iter(self._counts))]  # the one that came first
        self._counts[user] = (start, count + recipients)
        return True
