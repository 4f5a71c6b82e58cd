"""The reader: cutting the stream never changes the events."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from atoll.protocols.imap.limits import Limits
from atoll.protocols.imap.proxy import literal_limit
from atoll.protocols.imap.wire.reader import Broken, Command, Continue, Event, Line, Reader, TooBig

SMALL = Limits(line=64, literal=20, command=60, append=40, append_command=100, drain=30)


def events_of(pieces: list[bytes], *, lines: bool = False) -> list[Event]:
    """All events of a stream. lines: after IDLE, a line is expected, as a session does."""
    reader = Reader(SMALL.line, SMALL.literal_limit, SMALL.drain)
    events = []
    for piece in pieces:
        reader.feed(piece)
        while (event := reader.next()) is not None:
            events.append(event)
            if lines and isinstance(event, Command) and event.data.endswith(b"IDLE"):
                reader.expect_line()
    return events


WORDS = st.sampled_from(
    [
        b"a1 NOOP\r\n",
        b"a2 APPEND x {5}\r\n",
        b"hello\r\n",
        b"{3+}\r\n",
        b"{0}\r\n",
        b"a3 X ~{4}\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"{",
        b"}",
        b"a4 IDLE\r\n",
        b"DONE\r\n",
        b"{41}\r\n",
        b"a APPEND y {41+}\r\n",
        b"{99999999999999999999}\r\n",
        b"{-1}\r\n",
        b"{1x}\r\n",
        b"\0",
        b"x" * 30,
        b"{25+}\r\n",
        b" ",
    ]
)
STREAMS = st.one_of(st.binary(max_size=300), st.lists(WORDS, max_size=30).map(b"".join))


@given(STREAMS, st.lists(st.integers(1, 7), max_size=200), st.booleans())
@example(b"a APPEND x {5+}\r\nhello\r\n", [1] * 30, False)
def test_cutting_the_stream_never_changes_the_events(stream: bytes, cuts: list[int], lines: bool) -> None:
    whole = events_of([stream], lines=lines)
    pieces, at = [], 0
    for size in cuts:
        pieces.append(stream[at : at + size])
        at += size
    assert events_of([*pieces, stream[at:]], lines=lines) == whole


@given(STREAMS)
def test_byte_by_byte_is_the_same(stream: bytes) -> None:
    assert events_of([stream[at : at + 1] for at in range(len(stream))]) == events_of([stream])


@given(STREAMS)
def test_what_is_held_is_bounded(stream: bytes) -> None:
    reader = Reader(SMALL.line, SMALL.literal_limit, SMALL.drain)
    for at in range(len(stream)):
        reader.feed(stream[at : at + 1])
        while reader.next() is not None:
            pass
        assert len(reader) <= SMALL.line * 2 + SMALL.append_command


def test_literals_are_part_of_their_command() -> None:
    assert events_of([b"a APPEND x {3}\r\nfoo {2+}\r\nhi\r\nb NOOP\r\n"]) == [
        Continue(),
        Command(b"a APPEND x {3}\r\nfoo {2+}\r\nhi"),
        Command(b"b NOOP"),
    ]


def test_a_synchronizing_literal_that_is_too_big_is_not_read() -> None:
    assert events_of([b"a APPEND x {41}\r\nb NOOP\r\n"]) == [TooBig(b"a", 41), Command(b"b NOOP")]


def test_the_text_of_a_refused_literal_never_becomes_a_command() -> None:
    data = b"x" * 14 + b"\r\nz DELETE q\r\n"
    stream = b"a SEARCH TEXT {%d+}\r\n%b {5+}\r\nz END\r\nb NOOP\r\n" % (len(data), data)
    events = events_of([stream])
    assert events == [TooBig(b"a", len(data)), Command(b"b NOOP")]


def test_a_literal_that_cannot_be_skipped_ends_the_stream() -> None:
    events = events_of([b"a APPEND x {1000000+}\r\nb NOOP\r\n"])
    assert events == [Broken(b"a", "Literal too big")]


def test_line_too_long() -> None:
    assert events_of([b"a " + b"(" * 1000]) == events_of([b"a " + b"(" * 1000 + b"\r\nb NOOP\r\n"])
    assert isinstance(events_of([b"a " + b"(" * 1000])[0], Broken)


def test_only_crlf_ends_a_line() -> None:
    assert events_of([b"a NOOP\nb NOOP\r\n"]) == [Command(b"a NOOP\nb NOOP", "Forbidden octet in a command line")]
    assert events_of([b"a NO\0OP\r\n"])[0] == Command(b"a NO\0OP", "Forbidden octet in a command line")


def test_an_idle_line_is_no_command() -> None:
    assert events_of([b"a IDLE\r\nDONE\r\nb NOOP\r\n"], lines=True) == [
        Command(b"a IDLE"),
        Line(b"DONE"),
        Command(b"b NOOP"),
    ]


def test_before_sign_in_only_sign_in_has_literals() -> None:
    reader = Reader(8192, literal_limit)
    reader.feed(b"a LOGIN {5}\r\n")
    assert reader.next() == Continue()
    reader = Reader(8192, literal_limit)
    reader.feed(b"a ID {5}\r\n")
    assert isinstance(reader.next(), TooBig)
    reader = Reader(8192, literal_limit)
    reader.feed(b"a LOGIN {8193}\r\n")
    assert isinstance(reader.next(), TooBig)


def test_tags_that_cannot_be_repeated() -> None:
    assert Command(b"a1 NOOP").tag == b"a1"
    assert Command(b"(x NOOP").tag == b"*"
    assert Command(b"a{b NOOP").tag == b"*"
    assert Command(b"").tag == b"*"
