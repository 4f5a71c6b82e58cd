"""THREAD's algorithms."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from atoll.mailbox.model import SortRow
from atoll.protocols.imap import threads


def row(
    uid: int, subject: str = "", message_id: bytes = b"", references: tuple[bytes, ...] = (), sent: int = 0
) -> SortRow:
    return SortRow((uid, 0, 1, subject, "", "", "", sent or uid, message_id, references, False))


def text(roots: list[threads.Node]) -> bytes:
    return threads.render(roots, lambda uid: uid)


def test_ordered_subject() -> None:
    rows = [row(1, "a"), row(2, "b"), row(3, "a"), row(4, "a"), row(5, "b")]
    assert text(threads.ordered_subject(rows)) == b"(1 (3)(4))(2 5)"


def test_references_chain_and_branch() -> None:
    rows = [
        row(1, "s", b"<1>"),
        row(2, "s", b"<2>", (b"<1>",)),
        row(3, "s", b"<3>", (b"<1>", b"<2>")),
        row(4, "s", b"<4>", (b"<1>",)),
    ]
    assert text(threads.references(rows)) == b"(1 (2 3)(4))"


def test_a_missing_parent_is_a_dummy() -> None:
    rows = [row(2, "s", b"<2>", (b"<1>",)), row(3, "s", b"<3>", (b"<1>",))]
    assert text(threads.references(rows)) == b"((2)(3))"


def test_a_missing_middle_is_left_out() -> None:
    rows = [row(1, "s", b"<1>"), row(3, "s", b"<3>", (b"<1>", b"<2>"))]
    assert text(threads.references(rows)) == b"(1 3)"


def test_same_subject_is_gathered() -> None:
    assert text(threads.references([row(1, "s", b"<1>"), row(2, "s", b"<2>"), row(3, "t", b"<3>")])) == b"((1)(2))(3)"


def test_loops_are_cut() -> None:
    rows = [row(1, "a", b"<1>", (b"<2>",)), row(2, "b", b"<2>", (b"<1>",)), row(3, "c", b"<3>", (b"<3>",))]
    assert sorted(re.findall(rb"\d+", text(threads.references(rows)))) == [b"1", b"2", b"3"]


def test_a_very_long_chain_is_no_recursion() -> None:
    rows = [row(number, "s", b"<%d>" % number, (b"<%d>" % (number - 1),)) for number in range(1, 20_000)]
    assert text(threads.references(rows)).startswith(b"(1 2 3 4 5 ")


IDS = st.sampled_from([b"", b"<1>", b"<2>", b"<3>", b"<4>", b"<5>", b"<6>"])
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "b"]), IDS, st.lists(IDS.filter(bool), max_size=4).map(tuple), st.integers(1, 5)
    ),
    max_size=12,
)


@given(ROWS)
def test_every_message_is_there_once(parts: list[tuple[str, bytes, tuple[bytes, ...], int]]) -> None:
    rows = [row(number, *part) for number, part in enumerate(parts, 1)]
    for algorithm in (threads.references, threads.ordered_subject):
        found = text(algorithm(list(rows)))
        assert sorted(map(int, re.findall(rb"\d+", found))) == list(range(1, len(rows) + 1))
        assert found.count(b"(") == found.count(b")")
        assert b"()" not in found
