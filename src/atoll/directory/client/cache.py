"""What a process remembers of the directory's answers, for a short time (PROCESSES 5).

In     keys and values; a Clock (monotonic).
Out    the value, or MISSING. Bounded: the oldest entry goes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from atoll.base.clock import Clock

K = TypeVar("K")
V = TypeVar("V")


class Missing:
    """Not cached (None is a value: "no such recipient")."""


MISSING: Final = Missing()


class ShortCache(Generic[K, V]):
    """At most `size` entries; yes lives `yes` seconds, None lives `no` seconds."""

    def __init__(self, clock: Clock, *, yes: float = 10.0, no: float = 2.0, size: int = 10_000) -> None:
        self._clock = clock
        self._yes = yes
        self._no = no
        self._size = size
        self._rows: dict[K, tuple[float, V | None]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: K) -> V | Missing | None:
        """The value if it is still fresh."""
        row = self._rows.get(key)
        if row is None:
            return MISSING
        if row[0] <= self._clock.monotonic():
            del self._rows[key]
            return MISSING
        return row[1]

    def put(self, key: K, value: V | None) -> None:
        """Remember an answer."""
        self._rows.pop(key, None)
        if len(self._rows) >= self._size:
            del self._rows[next(iter(self._rows))]
        self._rows[key] = (self._clock.monotonic() + (self._no if value is None else self._yes), value)

    def drop(self, stale: Callable[[V | None], bool]) -> None:
        """Forget the entries whose value is stale."""
        for key in [key for key, (_, value) in self._rows.items() if stale(value)]:
            del self._rows[key]

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()
