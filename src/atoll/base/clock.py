"""Time as a parameter: monotonic for deadlines, wall clock only for display and received dates (ISLANDS 11.19)."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What reads the time. Tests pass one that stands still."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970, UTC."""

    def monotonic(self) -> float:
        """Seconds that only grow; for deadlines and rates."""


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()
