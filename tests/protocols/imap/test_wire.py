"""Words, sets, items and keys: what is printed is read back as the same; what is not IMAP is Bad and nothing else."""

from __future__ import annotations

import contextlib
import datetime as dt
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.protocols.imap import types as t
from atoll.protocols.imap.commands import COMMANDS
from atoll.protocols.imap.errors import No
from atoll.protocols.imap.types import STAR, SequenceSet
from atoll.protocols.imap.wire import boundary, response, utf7
from atoll.protocols.imap.wire.cursor import Cursor
from atoll.protocols.imap.wire.errors import Bad
from atoll.protocols.imap.wire.fetch import parse_fetch, parse_store, print_fetch, print_store
from atoll.protocols.imap.wire.patterns import Pattern
from atoll.protocols.imap.wire.search import parse_search, print_search

NUMBERS = st.integers(1, 2**32 - 1)
RANGES = st.lists(
    st.tuples(NUMBERS, NUMBERS | st.just(STAR)).map(lambda pair: (min(pair), max(pair))), min_size=1, max_size=8
)
SETS = st.one_of(RANGES.map(lambda ranges: SequenceSet(t.merge(ranges))), st.just(SequenceSet(saved=True)))
FLAGS = st.sampled_from(["\\Seen", "\\Deleted", "$Junk", "work", "\\Answered"])
ATOMS = st.text(st.sampled_from("abcXYZ-019"), min_size=1, max_size=12)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)

PARTIALS = st.none() | st.builds(t.Partial, st.integers(0, 2**32 - 1), NUMBERS)
PARTS = st.lists(NUMBERS, max_size=4).map(tuple)
FIELDS = st.lists(ATOMS.map(str.encode), min_size=1, max_size=3).map(tuple)


@st.composite
def sections(draw: st.DrawFn) -> t.Section:
    part = draw(PARTS)
    words = ["", "HEADER", "TEXT", "HEADER.FIELDS", "HEADER.FIELDS.NOT"] + (["MIME"] if part else [])
    word = draw(st.sampled_from(words))
    return t.Section(part, word, draw(FIELDS) if word.startswith("HEADER.FIELDS") else ())


BODIES = st.one_of(
    st.builds(t.BodyItem, st.just("BODY"), sections(), st.booleans(), PARTIALS),
    st.builds(t.BodyItem, st.just("BINARY"), PARTS.map(t.Section), st.booleans(), PARTIALS),
    st.builds(t.BodyItem, st.just("BINARY.SIZE"), PARTS.map(t.Section), st.just(True)),
)
ITEMS = (
    st.sampled_from(["FLAGS", "UID", "ENVELOPE", "BODY", "BODYSTRUCTURE", "RFC822.SIZE", "MODSEQ", "EMAILID"]) | BODIES
)
MODSEQS = st.integers(0, 2**63 - 1)


@given(st.builds(t.Fetch, SETS, st.lists(ITEMS, min_size=1, max_size=6).map(tuple), st.none() | MODSEQS))
def test_fetch_is_read_as_it_was_printed(fetch: t.Fetch) -> None:
    assert parse_fetch(Cursor(print_fetch(fetch))) == fetch


@given(st.builds(t.Store, SETS, st.sampled_from("+-="), st.booleans(), st.lists(FLAGS).map(tuple), st.none() | MODSEQS))
def test_store_is_read_as_it_was_printed(store: t.Store) -> None:
    assert parse_store(Cursor(print_store(store))) == store


DATES = st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31))
LEAVES = st.one_of(
    st.just(t.All()),
    FLAGS.map(t.HasFlag),
    st.just(t.HasFlag("\\Recent")),
    st.builds(t.Text, st.sampled_from(["BCC", "BODY", "CC", "FROM", "SUBJECT", "TEXT", "TO"]), TEXTS),
    st.builds(t.Header, TEXTS, TEXTS),
    st.builds(t.OnDate, st.sampled_from(["BEFORE", "ON", "SINCE"]), DATES, st.booleans()),
    st.builds(t.Size, st.sampled_from(["LARGER", "SMALLER"]), st.integers(0, 2**63 - 1)),
    st.builds(t.Messages, SETS, st.booleans()),
    st.builds(t.ModSeq, MODSEQS),
    st.builds(t.ObjectId, st.sampled_from(["EMAILID", "THREADID"]), TEXTS),
)
KEYS = st.recursive(
    LEAVES,
    lambda keys: st.one_of(
        st.builds(t.Not, keys),
        st.builds(t.Or, keys, keys),
        st.lists(keys, min_size=2, max_size=4).map(tuple).map(t.And),
    ),
    max_leaves=12,
)


@given(KEYS, st.sets(st.sampled_from(["MIN", "MAX", "ALL", "COUNT", "SAVE"]), min_size=1) | st.none())
def test_search_is_read_as_it_was_printed(key: t.SearchKey, returns: set[str] | None) -> None:
    search = t.Search(key, frozenset(returns or ()), returns is not None)
    assert parse_search(Cursor(print_search(search))) == search


@given(st.sampled_from(sorted(COMMANDS)), st.binary(max_size=120), st.booleans())
def test_arguments_of_every_command_are_read_or_refused(name: str, data: bytes, utf8: bool) -> None:
    with contextlib.suppress(Bad, No):
        COMMANDS[name].parse(Cursor(data, utf8_names=utf8))


SOUP = st.lists(
    st.sampled_from(
        [
            b" ",
            b"(",
            b")",
            b"1:*",
            b"*",
            b"$",
            b"{3}\r\nabc",
            b'"x"',
            b"BODY[",
            b"]",
            b"1.2",
            b"<0.5>",
            b"HEADER.FIELDS",
            b"FLAGS",
            b"NOT",
            b"OR",
            b"RETURN",
            b"CHARSET",
            b"UTF-8",
            b"INBOX",
            b"QRESYNC",
            b"NIL",
            b"STATUS",
            b"%",
            b"\\Seen",
            b"+FLAGS",
            b"1-Feb-1994",
        ]
    ),
    max_size=20,
)


@given(st.sampled_from(sorted(COMMANDS)), SOUP.map(b"".join))
def test_word_soup_is_read_or_refused(name: str, data: bytes) -> None:
    with contextlib.suppress(Bad, No):
        COMMANDS[name].parse(Cursor(b" " + data))


@given(TEXTS.filter(lambda name: not re.search("[\x00-\x1f\x7f]", name)))
def test_mutf7_round_trip(name: str) -> None:
    assert utf7.decode(utf7.encode(name)) == name


@given(st.binary(max_size=30) | st.text("&-,+AZaz09/", max_size=12).map(str.encode))
def test_a_name_has_one_spelling(wire: bytes) -> None:
    try:
        name = utf7.decode(wire)
    except Bad:
        return
    assert utf7.encode(name) == wire


def test_mutf7_of_the_rfc() -> None:
    assert utf7.decode(b"~peter/mail/&U,BTFw-/&ZeVnLIqe-") == "~peter/mail/台北/日本語"


@pytest.mark.parametrize(
    ("text", "highest", "expected"),
    [
        (b"5:*", 3, ((3, 5),)),
        (b"*", 7, ((7, 7),)),
        (b"3,1:2", 9, ((1, 3),)),
        (b"4:2", 9, ((2, 4),)),
        (b"*:*", 2, ((2, 2),)),
        (b"1:*,5", 3, ((1, 3),)),
    ],
)
def test_sets_resolve(text: bytes, highest: int, expected: t.Ranges) -> None:
    assert Cursor(text).sequence_set().resolve(highest) == expected


NAMES = st.text("ab/", max_size=12)


@given(st.text("ab/*%", max_size=8), NAMES)
def test_patterns_match_as_their_definition(pattern: str, name: str) -> None:
    expression = "".join(".*" if char == "*" else "[^/]*" if char == "%" else re.escape(char) for char in pattern)
    assert Pattern(pattern).matches(name) == bool(re.fullmatch(expression, name))


def test_patterns_are_quick() -> None:
    assert not Pattern("*a" * 400 + "b").matches("a" * 1000)


def boundaries(stream: bytes) -> set[int]:
    """By the definition: after each line that does not end in a literal's header."""
    found, at = {0}, 0
    while (end := stream.find(b"\r\n", at)) >= 0:
        header = re.search(rb"\{(\d{1,19})\+?\}\Z", stream[at:end])
        at = end + 2
        if header is None:
            found.add(at)
        else:
            at += int(header.group(1))
            if at > len(stream):
                break
    return found


TOKENS = st.sampled_from(
    [
        b"* OK x\r\n",
        b"* 1 FETCH (BODY {5}\r\n",
        b"}\r\n",
        b"{0}\r\n",
        b"abc",
        b"{12}\r\n",
        b"\r",
        b"\n",
        b"{",
        b"3",
        b"}",
    ]
)


@given(st.lists(TOKENS, max_size=16).map(b"".join), st.lists(st.integers(1, 20), max_size=60))
def test_a_bye_is_only_said_between_two_answers(stream: bytes, cuts: list[int]) -> None:
    tracker, at, known = boundary.Boundary(), 0, boundaries(stream)
    for size in [*cuts, len(stream)]:
        piece = stream[at : at + size]
        at += len(piece)
        if piece:
            tracker.passed(piece)
        assert tracker.at_boundary == (at in known)


def test_a_text_never_adds_a_line() -> None:
    assert response.status(b"a", "NO", "x\r\n* BYE", "Y\r\nZ") == b"a NO [Y??Z] x??* BYE\r\n"


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (b"plain", b"plain"),
        (b"NIL", b'"NIL"'),
        (b"", b'""'),
        (b'a"b', b'"a\\"b"'),
        (b"a\r\nb", b"{4}\r\na\r\nb"),
        ("é".encode(), b"{2}\r\n\xc3\xa9"),
    ],
)
def test_strings(value: bytes, wire: bytes) -> None:
    assert response.astring(value) == wire


def test_internal_date() -> None:
    assert response.internal_date(837571465000) == b'"17-Jul-1996 02:44:25 +0000"'
    assert Cursor(b'"17-Jul-1996 02:44:25 -0700"').date_time() == (837571465 + 7 * 3600) * 1000
    assert Cursor(response.internal_date(837571465000)).date_time() == 837571465000


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_moment_has_a_form_that_is_read(at: int) -> None:
    assert Cursor(response.internal_date(at)).date_time() % 1000 == 0


def test_dates_at_the_edge() -> None:
    for text in (b'"01-Jan-0001 00:00:00 +2300"', b'"31-Dec-9999 23:59:59 -2300"'):
        with contextlib.suppress(Bad):
            response.internal_date(Cursor(text).date_time())
