"""POP3 on the wire: lines out of bytes in any pieces, dot-stuffing that any reader can undo."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.protocols.pop3.wire.answers import Stuffer, err, ok, stuffed
from atoll.protocols.pop3.wire.lines import Reader, TooLong, number, parse

text = st.lists(st.sampled_from([b".", b"..", b"\r\n", b"\n", b"\r", b"a", b"\0", b"\r\n.\r\n"]), max_size=30).map(
    b"".join
)
cuts = st.lists(st.integers(0, 60), max_size=6)


def pieces_of(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(edge, len(data)) for edge in at), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.binary(max_size=200), cuts)
def test_lines_do_not_depend_on_the_pieces(data, at):
    def lines(pieces):
        reader, found = Reader(1000), []
        for piece in pieces:
            reader.feed(piece)
            while (line := reader.next()) is not None:
                found.append(line)
        return found, reader.take_rest()

    whole = lines([data])
    assert lines(pieces_of(data, at)) == whole
    assert lines([data[i : i + 1] for i in range(len(data))]) == whole


@given(text, cuts)
def test_stuffing_can_be_undone_and_ends_once(data, at):
    stuffer = Stuffer()
    wire = b"".join(stuffer.feed(piece) for piece in pieces_of(data, at)) + stuffer.end()
    assert wire == stuffed(data)
    # Read as a strict client (CRLF) and as one that takes LF: both must find the same end.
    assert wire.endswith(b".\r\n")
    lines = wire.split(b"\r\n")
    assert lines[-1] == b""
    assert lines[:-1].index(b".") == len(lines) - 2
    assert [line for line in wire.replace(b"\r\n", b"\n").split(b"\n") if line == b"."] == [b"."]
    body = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines[:-2])
    normal = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") if data.count(b"\n") != data.count(b"\r\n") else data
    # The last line gets an end; a lone CR there becomes one.
    assert body + b"\r\n" in (normal, normal + b"\r\n", normal + b"\n") or normal == body == b""


def test_line_limit():
    reader = Reader(10)
    reader.feed(b"123456789\n1234567890")
    assert reader.next() == b"123456789"
    with pytest.raises(TooLong):
        reader.next()


@pytest.mark.parametrize(
    ("line", "verb", "rest"),
    [
        (b"quit", "QUIT", b""),
        (b"PASS  two words ", "PASS", b" two words "),
        (b"", "", b""),
        (b" RETR 1", "", b""),
        (b"RETR\x001", "", b""),
        (b"USER a\0b", "", b""),
        (b"ABCDEFGHIJ 1", "", b""),
    ],
)
def test_commands(line, verb, rest):
    command = parse(line)
    assert (command.verb, command.rest) == (verb, rest)


@pytest.mark.parametrize(
    ("word", "value"), [(b"1", 1), (b"0", 0), (b"-1", None), (b"", None), (b"1" * 11, None), ("١".encode(), None)]
)
def test_numbers(word, value):
    assert number(word) == value


def test_answers_are_one_line():
    assert err("bad\r\n+OK", "AUTH") == b"-ERR [AUTH] bad  +OK\r\n"
    assert ok() == b"+OK\r\n"
