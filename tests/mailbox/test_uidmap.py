"""UidMap and UidSet against plain lists and sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.mailbox import UidMap, UidSet

uids = st.sets(st.integers(1, 60)).map(sorted)


@given(uids, st.integers(1, 70))
def test_positions(known: list[int], uid: int) -> None:
    made = UidMap.of(known)
    assert len(made) == len(known)
    assert list(made) == known
    assert [made.uid(seq) for seq in range(1, len(known) + 1)] == known
    assert made.seq(uid) == (known.index(uid) + 1 if uid in known else 0)
    assert made.seq_at_least(uid) == 1 + sum(1 for one in known if one < uid)
    assert made.last_uid == (known[-1] if known else 0)
    assert (uid in made) == (uid in known)


@given(uids, st.integers(-3, 70), st.integers(-3, 70))
def test_ranges(known: list[int], lo: int, hi: int) -> None:
    made = UidMap.of(known)
    assert list(made.range(lo, hi)) == [(seq, uid) for seq, uid in enumerate(known, 1) if lo <= seq <= hi]
    within = [uid for first, count in made.within(lo, hi) for uid in range(first, first + count)]
    assert within == [uid for uid in known if lo <= uid <= hi]


@given(uids, st.lists(st.integers(1, 70)), st.sets(st.integers(61, 90)).map(sorted))
def test_next_maps(known: list[int], gone: list[int], came: list[int]) -> None:
    made = UidMap.of(known)
    left = [uid for uid in known if uid not in gone]
    assert made.without(gone) == UidMap.of(left)
    assert made.without(gone).plus(came) == UidMap.of(left + came)
    assert list(made) == known  # the old one is as it was


def test_one_run_is_one_run() -> None:
    assert list(UidMap([(1, 50_000), (50_001, 50_000)]).runs()) == [(1, 100_000)]


@pytest.mark.parametrize("seq", [0, -1, 4])
def test_no_such_position(seq: int) -> None:
    with pytest.raises(IndexError):
        UidMap.of([1, 2, 3]).uid(seq)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50))), st.integers(1, 60))
def test_sets(ranges: list[tuple[int, int]], uid: int) -> None:
    wanted = {one for first, last in ranges for one in range(min(first, last), max(first, last) + 1)}
    made = UidSet.of_ranges(ranges)
    assert set(made) == wanted
    assert len(made) == len(wanted)
    assert (uid in made) == (uid in wanted)
    assert all(last + 1 < first for (_, last), (first, _) in zip(made.ranges, made.ranges[1:], strict=False))
    assert UidSet.of(sorted(wanted)) == made


def test_zero_is_no_uid() -> None:
    with pytest.raises(ValueError):
        UidSet.of([0])
