"""Back pressure: below a reserve of disk space nothing new is taken in; what was accepted can still be moved on.

In     a folder, looked at every few seconds.
Out    low: answer 452 4.3.1 now, while 'no' can still be said in time. As Exchange's back pressure does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

RESERVE = 64 << 20
"""Octets that stay free: room for the largest message, its log and the trace."""
LOOK_SECONDS = 2.0


class Pressure:
    """One per transport process."""

    def __init__(self, folder: Path, on_state: Callable[[str, str], None], reserve: int = RESERVE) -> None:
        self._folder = folder
        self._on_state = on_state
        self._reserve = reserve
        self.low = False
        self._look()

    def _look(self) -> None:
        try:
            facts = os.statvfs(self._folder)
            low = facts.f_bavail * facts.f_frsize < self._reserve
        except OSError:
            low = True
        if low != self.low:
            self.low = low
            self._on_state("fail" if low else "ok", "no space left: nothing is taken in" if low else "")
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()
