"""Sets of uids as sorted, disjoint ranges.

In     integers or (first, last) pairs, 1 to 2^32 - 1, in any order, overlapping or not.
Out    UidSet: membership by bisection, iteration in order, length.
Fails  ValueError for a number below 1.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_UID = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class UidSet:
    """Immutable. `ranges` are (first, last), both included, ascending, never touching."""

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, uids: Iterable[int]) -> UidSet:
        """The set of these uids."""
        return cls.of_ranges((uid, uid) for uid in uids)

    @classmethod
    def of_ranges(cls, ranges: Iterable[tuple[int, int]]) -> UidSet:
        """The union of these ranges; a reversed pair means the same [RFC 9051 §9 seq-range]."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted((min(pair), max(pair)) for pair in ranges):
            if first < 1:
                raise ValueError("uids start at 1")
            if merged and first <= merged[-1][1] + 1:
                if last > merged[-1][1]:
                    merged[-1] = (merged[-1][0], last)
            else:
                merged.append((first, last))
        return cls(tuple(merged))

    @classmethod
    def all(cls) -> UidSet:
        """Every uid there can be."""
        return cls(((1, MAX_UID),))

    def __contains__(self, uid: object) -> bool:
        if not isinstance(uid, int):
            return False
        at = bisect_right(self.ranges, (uid, MAX_UID + 1)) - 1
        return at >= 0 and self.ranges[at][0] <= uid <= self.ranges[at][1]

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def to_text(self) -> str:
        """IMAP's sequence-set form; "" when empty."""
        return ",".join(str(first) if first == last else f"{first}:{last}" for first, last in self.ranges)
