"""When a role that died is started again (PROCESSES 11).

In     the times of its starts and deaths. Out  seconds to wait; whether it counts as failed.
Not    a clock or a timer: the caller's.
"""

from __future__ import annotations

from collections import deque

DELAYS = (0.0, 0.2, 1.0, 5.0, 15.0, 60.0)
"""Seconds before the next start, by deaths in a row."""
JITTER = 0.2
HEALTHY_SECONDS = 60.0
"""A life as long as this is a good one: the row begins anew."""
LOOP_DEATHS, LOOP_SECONDS = 5, 60.0


class Backoff:
    """The history of one role."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._deaths: deque[float] = deque(maxlen=LOOP_DEATHS)
        self._started = 0.0

    def started(self, now: float) -> None:
        """A process of it was started."""
        self._started = now

    def died(self, now: float, chance: float) -> float:
        """Seconds until the next start; chance (0..1) spreads roles that died together."""
        if now - self._started >= HEALTHY_SECONDS:
            self._in_a_row = 0
        delay = DELAYS[min(self._in_a_row, len(DELAYS) - 1)]
        self._in_a_row += 1
        self._deaths.append(now)
        return delay * (1 + JITTER * (2 * chance - 1))

    def loops(self, now: float) -> bool:
        """Five deaths in a minute: it is said to have failed until it has lived a good life again."""
        return (len(self._deaths) == LOOP_DEATHS and self._deaths[-1] - self._deaths[0] <= LOOP_SECONDS
                and not now - self._started >= HEALTHY_SECONDS)
