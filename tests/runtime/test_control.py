"""The control channel's lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.runtime.control import MAX_LINE, Lines, encode

messages = st.lists(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=40), max_size=4),
                    max_size=6)


@given(messages, st.lists(st.integers(1, 9), max_size=80))
def test_cutting_the_stream_never_changes_the_messages(sent: list[dict[str, object]], cuts: list[int]) -> None:
    stream = b"".join(encode(message) for message in sent)
    lines, got, at = Lines(), [], 0
    for size in cuts:
        got += lines.feed(stream[at : at + size])
        at += size
    assert got + lines.feed(stream[at:]) == sent


def test_a_line_without_end_is_refused() -> None:
    lines = Lines()
    lines.feed(b"x" * MAX_LINE)
    with pytest.raises(ValueError, match="too long"):
        lines.feed(b"x")


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(json.JSONDecodeError):
        Lines().feed(b"hello\n")
