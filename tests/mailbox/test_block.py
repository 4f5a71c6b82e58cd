"""A block of a ready listing: the rows that went in come out, and its answers say what the rows say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.mailbox.block import Codec, Kept

VALUE = st.one_of(st.binary(max_size=40), st.sampled_from([b"100 %d", b"%%b", b"%", b") BODYSTRUCTURE (", b"\r\n",
                                                           b"* %d FETCH (ENVELOPE ", b"* 7 FETCH ("]))
ROWS = st.lists(st.tuples(st.integers(1, 300), VALUE, VALUE), min_size=1, max_size=60,
                unique_by=lambda row: row[0]).map(sorted)


@given(rows=ROWS, number=st.integers(1, 2**31))
def test_what_goes_in_comes_out(rows: list[tuple[int, bytes, bytes]], number: int) -> None:
    block = Codec().unpack(Codec().pack(rows))
    assert (block.first, block.last, len(block)) == (rows[0][0], rows[-1][0], len(rows))
    for uids in (False, True):
        assert block.answers(number, uids=uids) == b"".join(
            b"* %d FETCH (%bENVELOPE %b BODYSTRUCTURE %b)\r\n" % (at, b"UID %d " % row[0] if uids else b"", *row[1:])
            for at, row in enumerate(rows, number))
    assert list(block) == rows
    assert [block[at] for at in range(len(rows))] == rows


@given(rows=ROWS, at=st.integers(0, 2), data=st.binary(max_size=20))
def test_what_is_no_block(rows: list[tuple[int, bytes, bytes]], at: int, data: bytes) -> None:
    kept = list(Codec().pack(rows))
    kept[at] = data
    with pytest.raises(ValueError):
        list(Codec().unpack(Kept(*kept)))
