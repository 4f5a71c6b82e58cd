"""The SMTP wire as a format: however the octets are cut, the events are the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atoll.formats.smtp import reader as reader_module
from atoll.formats.smtp import replies
from atoll.formats.smtp.commands import (
    BAD_RECIPIENT,
    BAD_SENDER,
    Chunk,
    MailFrom,
    RcptTo,
    Refuse,
    parse_bdat,
    parse_mail,
    parse_rcpt,
)
from atoll.formats.smtp.inside import InsideMail, inside_mail, inside_rcpt
from atoll.formats.smtp.reader import COMMAND_LINE, End, Line, LineTooLong, Piece, Reader, line_fault
from atoll.formats.smtp.replies import Reply, ReplyParser
from atoll.protocols.smtp.handoff import mail_line, rcpt_line

ALPHABET = st.sampled_from([b"\r", b"\n", b".", b"\0", b"a", b"\r\n", b"\r\n.\r\n", b"\r\n.", b"DATA\r\n", b"xyz"])


@example([b"\r", b"a", b"\n"])  # a bare CR and a bare LF, which are a pair where letters do not count
@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"\n\r", b"\0", b"a", b"\xff"]), max_size=8))
def test_line_ends_are_judged_one_by_one(parts: list[bytes]) -> None:
    text = b"".join(parts)
    alone = re.search(rb"\r(?!\n)|(?<!\r)\n", text)
    assert line_fault(text) == ("bare CR or LF" if alone else "NUL" if b"\0" in text else "")


def drive(pieces: list[bytes], limit: int = COMMAND_LINE) -> list[object]:
    """Events of a reader that goes into DATA at the line DATA, into a chunk of 5 at BDAT; content is joined."""
    reader, events, content = Reader(limit), [], b""
    try:
        for piece in pieces:
            reader.feed(piece)
            while (event := reader.next()) is not None:
                if isinstance(event, Piece):
                    content += event.data
                    continue
                if isinstance(event, End):
                    events.append((content, event.fault))
                    content = b""
                    continue
                events.append(event)
                if event.text == b"DATA":
                    reader.data()
                elif event.text == b"BDAT":
                    reader.chunk(5)
    except LineTooLong:
        events.append("too long")
    return events


@settings(max_examples=300)
@given(st.lists(ALPHABET, max_size=60).map(b"".join), st.lists(st.integers(1, 9), max_size=200), st.booleans())
@example(b"\r\n..\r\n.\r\n", [1] * 20, True)
@example(b".\r\nNOOP\r\n", [1] * 20, True)
@example(b"\r.\r\n\n.\r\n\r\n.\r\nQUIT\r\n", [1] * 40, True)
def test_cutting_the_stream_never_changes_the_events(stream: bytes, cuts: list[int], in_data: bool) -> None:
    stream = (b"DATA\r\n" if in_data else b"") + stream
    pieces, at = [], 0
    for size in cuts:
        pieces.append(stream[at : at + size])
        at += size
    assert drive([*pieces, stream[at:]], limit=30) == drive([stream], limit=30)


@given(st.lists(ALPHABET, max_size=40).map(b"".join))
def test_content_is_what_a_plain_reading_says(stream: bytes) -> None:
    """The end is the first CRLF.CRLF (or .CRLF at once), and a line's first dot goes."""
    (found,) = drive([b"DATA\r\n" + stream + b"\r\n.\r\n"])[1:2]
    whole = b"\r\n" + stream + b"\r\n.\r\n"
    body = whole[: whole.index(b"\r\n.\r\n")][2:] + (b"\r\n" if whole.index(b"\r\n.\r\n") else b"")
    plain = re.sub(rb"(?m)(\A|\r\n)\.", rb"\1", body)
    assert found == (plain, line_fault(body))


@settings(max_examples=25)
@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"y" * 11]), max_size=300).map(b"".join),
       st.integers(1, 97))
def test_large_content_is_given_out_in_pieces_that_join_to_the_same(stream: bytes, step: int) -> None:
    whole = drive([b"DATA\r\n" + stream + b"\r\n.\r\n"])
    hold, reader_module.HOLD = reader_module.HOLD, 64
    try:
        data = b"DATA\r\n" + stream + b"\r\n.\r\n"
        assert drive([data[at : at + step] for at in range(0, len(data), step)]) == whole
    finally:
        reader_module.HOLD = hold


@pytest.mark.parametrize("start", range(50, 80))
def test_a_piece_never_parts_a_line_end(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "HOLD", 64)
    content = b"y" * start + b"\r\n" + b"z" * 200 + b"\r\n"
    data = b"DATA\r\n" + content + b".\r\n"
    events = drive([data[at : at + 1] for at in range(len(data))])
    assert events[1:] == [(content, "")]


def test_a_flood_of_carriage_returns_is_not_kept() -> None:
    reader = Reader()
    reader.data()
    for _ in range(100):
        reader.feed(b"\r" * 65536)
        while reader.next() is not None:
            pass
        assert len(reader) <= 65536 + 10


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_command_line_limit(step: int) -> None:
    for length, fits in ((COMMAND_LINE, True), (COMMAND_LINE + 1, False)):
        data = b"x" * length + b"\r\n"
        events = drive([data[at : at + step] for at in range(0, len(data), step)])
        assert events == ([Line(b"x" * length, bare=False)] if fits else ["too long"])


def test_an_auth_line_may_be_longer_for_as_long_as_it_is_allowed() -> None:
    reader = Reader()
    reader.allow(12288)
    reader.feed(b"x" * 12288 + b"\r\n" + b"y" * 3000 + b"\r\n")
    assert reader.next() == Line(b"x" * 12288, bare=False)
    reader.allow(COMMAND_LINE)
    with pytest.raises(LineTooLong):
        reader.next()


@given(st.binary(max_size=60), st.integers(0, 60), st.integers(1, 7))
def test_chunks_are_counted_not_searched(data: bytes, size: int, step: int) -> None:
    reader, got = Reader(), b""
    reader.chunk(size)
    ended = False
    for at in range(0, len(data) + 1, step):
        reader.feed(data[at : at + step])
        while not ended and (event := reader.next()) is not None:
            if isinstance(event, End):
                ended = True
            else:
                assert isinstance(event, Piece)
                got += event.data
    assert got == data[:size]
    assert ended == (len(data) >= size)
    if ended:
        assert len(reader) == len(data) - size


# -- commands


def outcome(text: str, parse: Callable[[str], object]) -> int | None:
    """The code of its refusal."""
    try:
        parse(text)
    except Refuse as refuse:
        return refuse.reply.code
    return None


@given(st.text(max_size=60))
def test_parsers_answer_or_refuse(text: str) -> None:
    for parse in (parse_mail, lambda t: parse_rcpt(t, utf8=True), parse_bdat):
        assert outcome(text, parse) in (None, 501, 553, 555)


_atom = st.text("abcXYZ019!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=10)
_local = st.lists(_atom, min_size=1, max_size=4).map(".".join) | st.text(
    st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), min_size=1,
    max_size=20).map('"{}"'.format)
_label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
_domain = st.lists(_label, min_size=1, max_size=4).map(".".join)


@given(_local, _domain)
def test_addresses_of_the_grammar_are_taken(local: str, domain: str) -> None:
    address = f"{local}@{domain}"
    assert parse_mail(f"FROM:<{address}>") == MailFrom(address)
    assert parse_rcpt(f"to:<{address}> NOTIFY=FAILURE,DELAY", utf8=False).recipient == address


@pytest.mark.parametrize("address", [
    "a@b@c", "a b@c.example", "a@", "@b", "a@-b.example", "a..b@c.example", ".a@c.example", "a.@c.example", "a@b..c",
    "a@[1.2.3]", "a@[IPv6:::g]", "x" * 65 + "@c.example", "a@" + "b" * 64 + ".example", "a\tb@c.example", "a@b c",
    '"a@c.example', '"a"b@c.example', "a@c.example,d", "a;b@c.example", "<a@c.example>", "a\x7f@c.example"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(Refuse) as refused:
        parse_mail(f"FROM:<{address}>")
    assert refused.value.reply in (BAD_SENDER, replies.SYNTAX)
    with pytest.raises(Refuse) as refused:
        parse_rcpt(f"TO:<{address}>", utf8=False)
    assert refused.value.reply in (BAD_RECIPIENT, replies.SYNTAX)


@pytest.mark.parametrize(("text", "found"), [
    ("FROM:<>", MailFrom("")),
    ("from: <a@b.example>", MailFrom("a@b.example")),
    ("FROM:<a@[192.0.2.1]>", MailFrom("a@[192.0.2.1]")),
    ("FROM:<a@[IPv6:2001:db8::1]>", MailFrom("a@[IPv6:2001:db8::1]")),
    ('FROM:<"a>b"@c.example>', MailFrom('"a>b"@c.example')),
    ("FROM:<a@b.example> SIZE=5 BODY=8BITMIME RET=HDRS ENVID=x+2By",
     MailFrom("a@b.example", 5, "8BITMIME", ret="HDRS", envid="x+2By")),
    ("FROM:<ü@müller.example> SMTPUTF8", MailFrom("ü@müller.example", utf8=True)),
    ("FROM:<a@b.example> AUTH=<>", MailFrom("a@b.example")),
])
def test_mail(text: str, found: MailFrom) -> None:
    assert parse_mail(text) == found


@pytest.mark.parametrize("text", [
    "FROM:<a@b.example>SIZE=5", "FROM:<a@b.example> SIZE=x", "FROM:<a@b.example> SIZE=-1",
    "FROM:<a@b.example> SIZE=5 SIZE=5", "FROM:<a@b.example> BODY=9BIT", "FROM:<a@b.example> RET=ALL",
    "FROM:<a@b.example> ENVID=a+2", "TO:<a@b.example>",
    "FROM:<a@b.example> XATOLL=e30=", "FROM:<a@b.example> XID=x", "FROM:<a@b.example> SMTPUTF8=1", "FROM:<a@b.example"])
def test_mail_refused(text: str) -> None:
    with pytest.raises(Refuse):
        parse_mail(text)


@given(_local, _domain, st.sampled_from(["7BIT", "8BITMIME", "BINARYMIME"]), st.booleans(),
       st.sampled_from(["", "FULL", "HDRS"]), st.sampled_from(["", "x+2By"]))
def test_what_is_said_inside_is_read_as_it_was_meant(local: str, domain: str, body: str, utf8: bool, ret: str,
                                                     envid: str) -> None:
    mail = MailFrom(f"{local}@{domain}", 0, body, utf8, ret, envid)
    said = mail_line(mail, "e30=", "ab" * 16)
    assert said.endswith(b"\r\n")
    assert inside_mail(said[5:-2]) == InsideMail(mail, b"e30=", b"\xab" * 16)
    rcpt = RcptTo(f"{local}@{domain}", frozenset({"SUCCESS", "DELAY"} if utf8 else ()), "rfc822;x" if ret else "")
    assert inside_rcpt(rcpt_line(rcpt)[5:-2]) == rcpt


@pytest.mark.parametrize("octets", [
    b"", b"FROM:<>", b"FROM:<> XATOLL=", b"FROM:<> XATOLL= XID=0", b"FROM:<\xff> XATOLL= XID=" + b"0" * 32,
    b"FROM:<> XATOLL= XID=" + b"0" * 32 + b" X"])
def test_what_nobody_of_ours_says(octets: bytes) -> None:
    with pytest.raises(Refuse):
        inside_mail(octets)


@given(st.one_of(_local, st.text("abz.+-_", min_size=1, max_size=70)), st.one_of(_domain, st.text("ab.-", max_size=70)))
def test_the_short_way_has_the_outcome_of_the_long_one(local: str, domain: str) -> None:
    """A parameter that says nothing (AUTH=<>, NOTIFY empty) makes the same address go the long way."""
    def whole(text: str, parse: Callable[[str], MailFrom | RcptTo]) -> object:
        try:
            return parse(text)
        except Refuse as refuse:
            return refuse.reply

    address = f"<{local}@{domain}>"
    assert whole(f"FROM:{address}", parse_mail) == whole(f"FROM: {address}", parse_mail)
    rcpt = partial(parse_rcpt, utf8=False)
    assert whole(f"TO:{address}", rcpt) == whole(f"TO: {address}", rcpt)


@pytest.mark.parametrize(("text", "found"), [("0", Chunk(0, last=False)), ("12 LAST", Chunk(12, last=True)),
                                             (" 5  last ", Chunk(5, last=True))])
def test_bdat(text: str, found: Chunk) -> None:
    assert parse_bdat(text) == found


# -- replies


@given(st.integers(200, 559), st.sampled_from(["", "2.0.0", "5.1.1", "4.7.26"]),
       st.lists(st.text("abc XYZ.-", max_size=20).map(str.strip), min_size=1, max_size=4), st.lists(st.integers(1, 5)))
def test_replies_are_read_as_they_were_said(code: int, status: str, texts: list[str], cuts: list[int]) -> None:
    reply = Reply(code, status, "\n".join(texts))
    wire = reply.wire
    parser, at, found = ReplyParser(), 0, []
    for size in [*cuts, len(wire)]:
        parser.feed(wire[at : at + size])
        at += size
        while (one := parser.next()) is not None:
            found.append(one)
    assert found == [reply]


@pytest.mark.parametrize("octets", [b"hello\r\n", b"25 x\r\n", b"x" * 5000, b"250-a\r\n" * 200 + b"250 b\r\n"])
def test_what_is_no_reply(octets: bytes) -> None:
    parser = ReplyParser()
    parser.feed(octets)
    with pytest.raises(ValueError, match="reply"):
        parser.next()


HEAD = re.compile(rb"MAIL ([^\r\n]*)\r\nRCPT ([^\r\n]*)\r\nBDAT ([0-9]{1,9}) LAST\r\n")


@given(st.lists(st.tuples(st.sampled_from([1, 1, 1, 0, 2]), st.binary(max_size=30)), max_size=6), st.integers(1, 90))
def test_a_whole_transaction_is_what_its_lines_are(said: list[tuple[int, bytes]], step: int) -> None:
    octets = b"".join(b"MAIL a\r\n" + b"RCPT b\r\n" * recipients + b"BDAT %d LAST\r\n" % len(content) + content
                      for recipients, content in said)
    reader, found = Reader(), b""
    for at in range(0, len(octets), step):
        reader.feed(octets[at:at + step])
        while True:
            if (whole := reader.whole(HEAD)) is not None:
                (mail, rcpt, size), content = whole
                found += b"MAIL %s\r\nRCPT %s\r\nBDAT %s LAST\r\n%s" % (mail, rcpt, size, content)
            elif (event := reader.next()) is None:
                break
            elif isinstance(event, Line):
                found += event.text + b"\r\n"
                if event.text.startswith(b"BDAT"):
                    reader.chunk(int(event.text.split()[1]))
            elif isinstance(event, Piece):
                found += event.data
    assert found == octets
    assert len(reader) == 0
