"""The pure parts of import and export: what servers say, names, dates, accounts."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.admin.transfer import names
from atoll.admin.transfer.accounts import Account, read_accounts, server_of
from atoll.admin.transfer.imap_client import Server, fetched, numbers_of, uid_set
from atoll.admin.transfer.message import crlf, date_time, flags_of, seconds_of
from atoll.admin.transfer.responses import BadServer, Reader

PIECES = [
    b"* ",
    b"A1 ",
    b"+ ",
    b"OK ",
    b"NO ",
    b"FETCH ",
    b"12 ",
    b"(",
    b")",
    b'"',
    b"\\",
    b"{3}\r\nabc",
    b"~{2}\r\nxy",
    b"{3+}\r\n",
    b"\r\n",
    b"\n",
    b" ",
    b"NIL",
    b"BODY[HEADER.FIELDS (A B)] ",
    b"[",
    b"]",
    b"[CAPABILITY X] ",
    b"x",
    b"\0",
    b"\xe4",
    b"{99999999999}\r\n",
]
junk = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)), max_size=40).map(b"".join)


def read_all(pieces, **limits):
    reader, found = Reader(**limits), []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (response := reader.next()) is not None:
                found.append((response.tag, response.name, response.number, response.values, response.text))
    except BadServer as bad:
        found.append(str(bad))
    return found


@given(junk)
@settings(max_examples=400, deadline=None)
def test_any_octets_are_responses_or_a_bad_server_whatever_the_pieces(data):
    whole = read_all([data])
    assert read_all([data[at : at + 1] for at in range(len(data))]) == whole
    half = len(data) // 2
    assert read_all([data[:half], data[half:]]) == whole


def one(data: bytes):
    reader = Reader()
    reader.feed(data)
    response = reader.next()
    assert response is not None
    assert reader.next() is None
    return response


def test_fetch_with_literals_and_names_with_brackets():
    pairs = fetched(
        one(
            b'* 12 FETCH (UID 7 FLAGS (\\Seen $X) INTERNALDATE " 1-Jan-2020 00:00:00 +0000" '
            b'BODY[HEADER.FIELDS (A B)] {5}\r\na)"\r\n BODY[] {0}\r\n NIL NIL X "a\\"b" Y {3}\r\nNIL)\r\n'
        )
    )
    assert pairs[b"UID"] == 7
    assert pairs[b"FLAGS"] == [b"\\Seen", b"$X"]
    assert pairs[b"BODY[HEADER.FIELDS (A B)]"] == b'a)"\r\n'
    assert pairs[b"BODY[]"] == b""
    assert pairs[b"X"] == b'a"b'
    assert pairs[b"Y"] == b"NIL"


def test_status_answers_and_codes():
    response = one(b"A1 NO [OVERQUOTA x] too much (really) {not a literal\r\n")
    assert (response.tag, response.name, response.code) == (b"A1", "NO", "OVERQUOTA")
    assert one(b"+ go on\r\n").text == b"go on"
    assert one(b"* 5 EXISTS\r\n").number == 5
    assert one(b"* SEARCH 1 2 3\r\n").values == [1, 2, 3]


@pytest.mark.parametrize(
    "data",
    [
        b"* " + b"x" * 2000,
        b"* X {5000}\r\n",
        b"* X " + b"(" * 1000 + b"\r\n",
        (b"* X {1}\r\na" * 1).rstrip() + b" {1}\r\na" * 500,
    ],
    ids=["line", "literal", "depth", "many-literals"],
)
def test_limits_of_a_server(data):
    assert isinstance(read_all([data], max_line=1500, max_literal=1000)[-1], str)


@pytest.mark.parametrize(
    ("name", "delimiter", "path"),
    [
        ("INBOX", "/", "INBOX"),
        ("inbox.Sub", ".", "INBOX/Sub"),
        ("Archive.2025", ".", "Archive/2025"),
        ("a/b", ".", "a_b"),
        ("..", "/", ".."),
        ("../../etc/passwd", "/", "../../etc/passwd"),
        ("x\r\ny", "/", "x__y"),
        ("", "/", "_"),
        ("//", "/", "_"),
        ("x" * 500, "/", "x" * 200),
    ],
)
def test_paths(name, delimiter, path):
    assert names.path_of(name, delimiter) == path


@given(st.text(max_size=60))
def test_file_names_stay_where_they_are(text):
    name = names.file_component(text)
    assert name not in ("", ".", "..")
    assert not set(name) & set('/\\\0:*?"<>|')
    assert not name.startswith(".")
    assert len(name.encode()) <= 255
    folder = names.maildir_name(text or "x")
    assert "/" not in folder
    assert "\0" not in folder
    assert folder.startswith(".")
    assert ".." not in folder


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20),
        min_size=1,
        max_size=3,
    )
)
def test_maildir_names_can_be_read_back(parts):
    path = names.path_of("/".join(names.component(part) for part in parts), "/")
    assert names.from_maildir_name(names.maildir_name(path)) == path


@pytest.mark.parametrize(
    ("attributes", "path", "use"),
    [
        (["\\Sent"], "Whatever", "\\sent"),
        (["\\HasNoChildren"], "Sent Items", "\\sent"),
        ([], "INBOX/Trash", "\\trash"),
        ([], "Archive/Trash", ""),
        (["\\All"], "[Gmail]/All Mail", "\\all"),
        ([], "Boats", ""),
    ],
)
def test_special_use(attributes, path, use):
    assert names.special_use(attributes, path) == use


@pytest.mark.parametrize(
    ("data", "expected", "mended"),
    [
        (b"a\r\nb\r\n", b"a\r\nb\r\n", False),
        (b"a\nb", b"a\r\nb", True),
        (b"a\r\r\nb", b"a\r\n\r\nb", True),
        (b"a\rb", b"a\r\nb", True),
    ],
)
def test_line_ends(data, expected, mended):
    assert crlf(data) == (expected, mended)


@given(st.integers(0, 250_000_000_000))
def test_dates_there_and_back(seconds):
    assert seconds_of(date_time(seconds)) == seconds


def test_dates_that_are_none():
    assert date_time(1e30) == b""
    assert seconds_of(b"99-Foo-2020 00:00:00 +0000") is None
    assert seconds_of(b" 1-Jan-2020 01:00:00 +0100") == 1577836800


def test_flags():
    assert flags_of(["\\seen", "\\Recent", "$Forwarded", "bad word", "\\Weird", "\\SEEN", 'a"b']) == (
        "\\Seen",
        "$Forwarded",
    )


@given(st.binary(max_size=40) | st.from_regex(rb"[0-9:,]{0,30}", fullmatch=True))
def test_any_set_of_a_server_is_numbers_or_none(text):
    found = numbers_of(text)
    assert len(found) <= 1_000_001
    assert all(number >= 0 for number in found)


def test_numbers_of_a_server():
    assert numbers_of(b"3:5,9") == [3, 4, 5, 9]
    assert numbers_of(b"1:99999999999") == numbers_of(b"") == numbers_of(b"x") == numbers_of(b"5,") == []


def test_uid_sets():
    assert uid_set([1, 2, 3, 7, 9, 10]) == b"1:3,7,9:10"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("imap://alice@old.example", (Server("old.example", 143, "starttls"), "alice")),
        ("imaps://alice%40x.example@old.example:9993", (Server("old.example", 9993, "tls"), "alice@x.example")),
        ("imaps://alice@x.example@old.example", (Server("old.example", 993, "tls"), "alice@x.example")),
        ("imap://old.example/", (Server("old.example", 143, "starttls"), "")),
    ],
)
def test_urls(url, expected):
    assert server_of(url) == expected


@pytest.mark.parametrize(
    "url", ["imap://a:secret@h", "http://h", "imap://", "imap://h/INBOX", "imap://h?x", "old.example"]
)
def test_urls_that_are_refused(url):
    with pytest.raises(ValueError):
        server_of(url)


def test_accounts_of_a_table():
    rows = read_accounts(
        io.StringIO('user,password,mailbox\nalice, "p,w ""x",alice@example.test\n\nbob,,b@example.test\n')
    )
    assert rows[0].user == "alice"
    assert rows[1] == Account("bob", "b@example.test", b"")
    assert "pw" not in repr(Account("a", "b", b"pw"))
    with pytest.raises(ValueError, match="line 2"):
        read_accounts(io.StringIO("a,b,c@d\nx,y\n"))
