"""Sequence number <-> uid of one folder at one moment.

In     ascending uids, or runs (first uid, count).
Out    UidMap: immutable, run-length; one run costs the same for 10 or 100,000 messages; sessions share it.
Not    a live view: the folder's next map is another object.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence


class UidMap:
    """Positions 1..len of a folder's messages in uid order."""

    __slots__ = ("_before", "_first", "_total")

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        """runs: (first uid, count) ascending; neighbours that touch are joined."""
        self._first: list[int] = []
        self._before: list[int] = []
        total = 0
        end = 0
        for first, count in runs:
            if count <= 0:
                continue
            if first < end or first < 1:
                raise ValueError("runs must ascend")
            if first != end or not self._first:
                self._first.append(first)
                self._before.append(total)
            total += count
            end = first + count
        self._total = total

    @classmethod
    def of(cls, uids: Iterable[int]) -> UidMap:
        """The map of these ascending uids."""
        return cls(_runs(uids))

    def __len__(self) -> int:
        return self._total

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, UidMap) and self._total == other._total and self._first == other._first
                and self._before == other._before)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"UidMap({list(self.runs())!r})"

    def __iter__(self) -> Iterator[int]:
        for first, count in self.runs():
            yield from range(first, first + count)

    def __contains__(self, uid: object) -> bool:
        return isinstance(uid, int) and self.seq(uid) > 0

    @property
    def last_uid(self) -> int:
        """The highest uid, 0 when empty."""
        return self.uid(self._total) if self._total else 0

    def _count(self, run: int) -> int:
        after = self._before[run + 1] if run + 1 < len(self._before) else self._total
        return after - self._before[run]

    def uid(self, seq: int) -> int:
        """The uid at position seq (1 to len). IndexError."""
        if not 1 <= seq <= self._total:
            raise IndexError(seq)
        run = bisect_right(self._before, seq - 1) - 1
        return self._first[run] + (seq - 1 - self._before[run])

    def seq(self, uid: int) -> int:
        """The position of uid; 0 when it is absent."""
        run = bisect_right(self._first, uid) - 1
        if run < 0:
            return 0
        offset = uid - self._first[run]
        return self._before[run] + offset + 1 if offset < self._count(run) else 0

    def seq_at_least(self, uid: int) -> int:
        """The position of the first message whose uid is >= uid; len + 1 when there is none."""
        run = bisect_right(self._first, uid) - 1
        if run < 0:
            return 1
        return self._before[run] + min(uid - self._first[run], self._count(run)) + 1

    def runs(self) -> Iterator[tuple[int, int]]:
        """(first uid, count), ascending."""
        for run, first in enumerate(self._first):
            yield first, self._count(run)

    def range(self, lo_seq: int, hi_seq: int) -> Iterator[tuple[int, int]]:
        """(seq, uid) for lo_seq..hi_seq, cut to what there is."""
        lo_seq = max(lo_seq, 1)
        hi_seq = min(hi_seq, self._total)
        if lo_seq > hi_seq:
            return
        run = bisect_right(self._before, lo_seq - 1) - 1
        seq = lo_seq
        while seq <= hi_seq:
            stop = min(self._before[run] + self._count(run), hi_seq)
            shift = self._first[run] - self._before[run] - 1
            for position in range(seq, stop + 1):
                yield position, position + shift
            seq = stop + 1
            run += 1

    def within(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The runs (first uid, count) of the messages with first <= uid <= last."""
        run = max(bisect_right(self._first, first) - 1, 0)
        while run < len(self._first) and self._first[run] <= last:
            start = max(self._first[run], first)
            end = min(self._first[run] + self._count(run) - 1, last)
            if start <= end:
                yield start, end - start + 1
            run += 1

    def without(self, uids: Iterable[int]) -> UidMap:
        """The map when these uids are gone; unknown ones do not matter. Costs the number of runs."""
        gone = sorted(set(uids))
        return UidMap(self._cut(gone)) if gone else self

    def _cut(self, gone: Sequence[int]) -> Iterator[tuple[int, int]]:
        for first, count in self.runs():
            end = first + count
            at = bisect_left(gone, first)
            while at < len(gone) and gone[at] < end:
                yield first, gone[at] - first
                first = gone[at] + 1
                at += 1
            yield first, end - first

    def plus(self, uids: Iterable[int]) -> UidMap:
        """The map with these ascending uids behind the last one."""
        more = list(_runs(uids))
        if not more:
            return self
        if more[0][0] <= self.last_uid:
            raise ValueError("new uids are above all known ones")
        longer = UidMap()
        longer._first = self._first.copy()
        longer._before = self._before.copy()
        longer._total = self._total
        end = self.last_uid + 1
        for first, count in more:
            if first != end or not longer._first:
                longer._first.append(first)
                longer._before.append(longer._total)
            longer._total += count
            end = first + count
        return longer


def _runs(uids: Iterable[int]) -> Iterator[tuple[int, int]]:
    start = count = 0
    for uid in uids:
        if count and uid == start + count:
            count += 1
        else:
            if count:
                yield start, count
            start, count = uid, 1
    if count:
        yield start, count
