"""IMAP: APPEND and FETCH [RFC 9051 §6.3.12, §6.4.5, §7.5.2], [RFC 3516] BINARY, [RFC 3502] MULTIAPPEND, [RFC 8474]."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.conftest import World
from tests.conformance.imap import Imap, numbers

pytestmark = pytest.mark.island

Fill = Callable[..., list[int]]

INNER = (b"From: inner@example.test\r\nSubject: inner\r\nMessage-ID: <in@x>\r\nMIME-Version: 1.0\r\n"
         b"Content-Type: multipart/alternative; boundary=\"in\"\r\n\r\n"
         b"pre\r\n--in\r\nContent-Type: text/plain\r\n\r\ninner plain\r\n"
         b"--in\r\nContent-Type: text/html; charset=utf-8\r\nX-Inner: yes\r\n\r\n<b>inner</b>\r\n--in--\r\nepi\r\n")
NESTED = (b"From: Outer <outer@example.test>\r\nTo: you@example.test\r\nSubject: outer\r\nMIME-Version: 1.0\r\n"
          b"Content-Type: multipart/mixed; boundary=\"out\"\r\n\r\n"
          b"preamble\r\n--out\r\nContent-Type: text/plain; charset=us-ascii\r\nContent-ID: <c1>\r\n"
          b"Content-Description: first\r\nX-One: 1\r\n\r\none line\r\ntwo lines\r\n"
          b"--out\r\nContent-Type: message/rfc822\r\nContent-Disposition: attachment; filename=\"in.eml\"\r\n\r\n"
          + INNER +
          b"\r\n--out\r\nContent-Type: image/png; name=\"a.png\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
          b"AAECAwQF\r\nBgcI\r\n--out\r\n\r\nno header\r\n--out--\r\nepilogue\r\n")


def sections(client: Imap, *names: str, uid: int = 1) -> dict[str, Any]:
    items = " ".join(f"BODY.PEEK[{name}]" for name in names)
    found = client.ok(f"FETCH {uid} ({items})").fetched()[uid]
    return {name: found[f"BODY[{name}]"] for name in names}


@pytest.fixture
def nested(imap: Imap, box: str, filled: Fill) -> Imap:
    filled(NESTED)
    imap.select(box)
    return imap


def test_6_4_5_1_every_section_of_a_nested_message(nested: Imap) -> None:
    header_end = NESTED.index(b"\r\n\r\n") + 4
    inner_end = INNER.index(b"\r\n\r\n") + 4
    mime1 = (b"Content-Type: text/plain; charset=us-ascii\r\nContent-ID: <c1>\r\n"
             b"Content-Description: first\r\nX-One: 1\r\n\r\n")
    wanted = {
        "": NESTED, "HEADER": NESTED[:header_end], "TEXT": NESTED[header_end:],
        "1": b"one line\r\ntwo lines", "1.MIME": mime1,
        "2": INNER, "2.HEADER": INNER[:inner_end], "2.TEXT": INNER[inner_end:],
        "2.MIME": b"Content-Type: message/rfc822\r\nContent-Disposition: attachment; filename=\"in.eml\"\r\n\r\n",
        "2.1": b"inner plain", "2.1.MIME": b"Content-Type: text/plain\r\n\r\n",
        "2.2": b"<b>inner</b>", "2.2.MIME": b"Content-Type: text/html; charset=utf-8\r\nX-Inner: yes\r\n\r\n",
        "3": b"AAECAwQF\r\nBgcI", "4": b"no header", "4.MIME": b"\r\n",
    }
    assert sections(nested, *wanted) == wanted


def test_6_4_5_1_sections_that_are_not_there(nested: Imap) -> None:
    found = sections(nested, "5", "1.1.1", "2.3", "9.MIME", "2.9.HEADER")
    assert all(value in (None, b"") for value in found.values()), found


def test_6_4_5_1_header_fields(nested: Imap) -> None:
    found = sections(nested, "HEADER.FIELDS (SUBJECT FROM)", "HEADER.FIELDS.NOT (SUBJECT FROM TO)",
                     "2.HEADER.FIELDS (Subject)", "HEADER.FIELDS (X-NONE)")
    assert found["HEADER.FIELDS (SUBJECT FROM)"] == (
        b"From: Outer <outer@example.test>\r\nSubject: outer\r\n\r\n")
    assert found["HEADER.FIELDS.NOT (SUBJECT FROM TO)"] == (
        b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="out"\r\n\r\n')
    assert found["2.HEADER.FIELDS (Subject)"] == b"Subject: inner\r\n\r\n"
    assert found["HEADER.FIELDS (X-NONE)"] == b"\r\n"


def test_6_4_5_1_header_fields_folded_and_repeated(imap: Imap, box: str, filled: Fill) -> None:
    filled(b"Received: a\r\n b\r\nTo: x@y\r\nreceived: c\r\n\td\r\nSubject : odd\r\nX-To: z\r\n\r\nbody\r\nTo: no\r\n")
    imap.select(box)
    found = sections(imap, "HEADER.FIELDS (RECEIVED)", "HEADER.FIELDS (TO)", "HEADER.FIELDS.NOT (RECEIVED TO)")
    assert found["HEADER.FIELDS (RECEIVED)"] == b"Received: a\r\n b\r\nreceived: c\r\n\td\r\n\r\n"
    assert found["HEADER.FIELDS (TO)"] == b"To: x@y\r\n\r\n"
    assert found["HEADER.FIELDS.NOT (RECEIVED TO)"] == b"Subject : odd\r\nX-To: z\r\n\r\n"


@pytest.mark.parametrize(("partial", "wanted"), [("0.10", (0, 10)), ("5.7", (5, 12)), ("0.4294967295", (0, 9999)),
                                                 ("99999.10", (9999, 9999)), ("3.1", (3, 4))])
def test_6_4_5_partial(nested: Imap, partial: str, wanted: tuple[int, int]) -> None:
    start = partial.partition(".")[0]
    items = nested.ok(f"FETCH 1 (BODY.PEEK[]<{partial}> BODY.PEEK[1]<{partial}>)").fetched()[1]
    assert items[f"BODY[]<{start}>"] == NESTED[wanted[0] : wanted[1]]
    assert items[f"BODY[1]<{start}>"] == b"one line\r\ntwo lines"[wanted[0] : wanted[1]]


def test_parts_of_a_message_that_is_not_multipart(imap: Imap, box: str, filled: Fill) -> None:
    mail = b"From: a@b\r\nSubject: s\r\n\r\nhello\r\n"
    filled(mail)
    imap.select(box)
    found = sections(imap, "1", "TEXT", "1.MIME", "2", "1.1")
    assert found["1"] == found["TEXT"] == b"hello\r\n"
    assert found["2"] in (None, b"")
    assert b"hello" not in (found["1.MIME"] or b"")


def test_message_rfc822_at_the_top(imap: Imap, box: str, filled: Fill) -> None:
    """imaptest: a message whose body is a message."""
    inner = b"From: in@x\r\nSubject: in\r\n\r\ninner body\r\n"
    filled(b"From: out@x\r\nContent-Type: message/rfc822\r\nMIME-Version: 1.0\r\n\r\n" + inner)
    imap.select(box)
    found = sections(imap, "1", "1.HEADER", "1.TEXT", "1.1", "TEXT")
    assert found["1"] == found["TEXT"] == inner
    assert found["1.HEADER"] == b"From: in@x\r\nSubject: in\r\n\r\n"
    assert found["1.TEXT"] == found["1.1"] == b"inner body\r\n"


def test_rfc3516_binary(nested: Imap) -> None:
    items = nested.ok("FETCH 1 (BINARY.PEEK[3] BINARY.SIZE[3] BINARY.SIZE[1] BINARY.PEEK[3]<2.4>)").fetched()[1]
    assert items["BINARY[3]"] == bytes(range(9))
    assert items["BINARY.SIZE[3]"] == "9"
    assert items["BINARY.SIZE[1]"] == str(len(b"one line\r\ntwo lines"))
    assert items["BINARY[3]<2>"] == bytes(range(2, 6))
    assert "\\Seen" not in nested.flags(1)
    nested.ok("FETCH 1 BINARY[3]")
    assert "\\Seen" in nested.ok("FETCH 1 FLAGS").fetched()[1]["FLAGS"]


def test_binary_of_headers_and_texts(nested: Imap) -> None:
    """imaptest's scripts ask for them; and for "<5>": all from there on."""
    for section in ("HEADER", "TEXT", "3.MIME", "HEADER.FIELDS (Subject)", "HEADER.FIELDS.NOT (Subject)"):
        items = nested.ok(f"FETCH 1 (BODY.PEEK[{section}] BINARY.PEEK[{section}] BINARY.SIZE[{section}])").fetched()[1]
        assert items[f"BINARY[{section}]"] == items[f"BODY[{section}]"]
        assert items[f"BINARY.SIZE[{section}]"] == str(len(items[f"BODY[{section}]"]))
    items = nested.ok("FETCH 1 (BODY.PEEK[1]<5> BINARY.PEEK[3]<5> BODY.PEEK[1]<1000>)").fetched()[1]
    assert items["BODY[1]<5>"] == b"one line\r\ntwo lines"[5:]
    assert items["BINARY[3]<5>"] == bytes(range(5, 9))
    assert items["BODY[1]<1000>"] == b""


def test_rfc3516_binary_qp_and_unknown_encoding(imap: Imap, box: str, filled: Fill) -> None:
    filled(b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
           b"caf=C3=A9 =\r\nsoft\r\n",
           b"Content-Type: text/plain\r\nContent-Transfer-Encoding: x-unknown\r\n\r\nbytes\r\n")
    imap.select(box)
    assert imap.ok("FETCH 1 BINARY.PEEK[1]").fetched()[1]["BINARY[1]"] == "café soft\r\n".encode()
    assert imap.no("FETCH 2 BINARY.PEEK[1]").code == "UNKNOWN-CTE"
    assert imap.ok("FETCH 2 BODY.PEEK[1]").fetched()[2]["BODY[1]"] == b"bytes\r\n"


def test_rfc3516_append_literal8(imap: Imap, box: str) -> None:
    mail = b"From: a@b\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\1\2\r\n"
    imap.append(box, mail)
    imap.select(box)
    assert imap.ok("FETCH 1 BINARY.PEEK[1]").fetched()[1]["BINARY[1]"] == b"\0\1\2\r\n"
    tag = imap.next_tag()
    imap.wire.send(f"{tag} APPEND {box} {{{len(mail)}+}}\r\n".encode() + mail + b"\r\n")  # NUL in a plain literal
    assert imap.until(tag).status in ("BAD", "NO")


def test_6_4_5_seen_is_set_and_told(imap: Imap, box: str, filled: Fill) -> None:
    filled(NESTED, NESTED, NESTED, NESTED)
    imap.select(box)
    assert "\\Seen" in imap.ok("FETCH 1 BODY[]").fetched()[1]["FLAGS"]
    assert "\\Seen" in imap.ok("FETCH 2 RFC822").fetched()[2]["FLAGS"]
    assert "\\Seen" in imap.ok("FETCH 3 RFC822.TEXT").fetched()[3]["FLAGS"]
    assert "FLAGS" not in imap.ok("FETCH 4 (RFC822.HEADER BODY.PEEK[] BODY.PEEK[1])").fetched()[4]
    assert "FLAGS" not in imap.ok("FETCH 1 BODY[]").fetched()[1]  # it was seen already
    imap.ok(f"EXAMINE {box}")
    assert "FLAGS" not in imap.ok("FETCH 4 BODY[1]").fetched()[4]
    assert imap.ok("SEARCH UNSEEN").search() == [4]


def test_rfc3501_rfc822_items(nested: Imap) -> None:
    items = nested.ok("FETCH 1 (RFC822 RFC822.HEADER RFC822.TEXT RFC822.SIZE)").fetched()[1]
    end = NESTED.index(b"\r\n\r\n") + 4
    assert (items["RFC822"], items["RFC822.HEADER"], items["RFC822.TEXT"]) == (NESTED, NESTED[:end], NESTED[end:])
    assert items["RFC822.SIZE"] == str(len(NESTED))


def test_6_4_5_macros(nested: Imap) -> None:
    def keys(command: str) -> set[str]:
        return set(nested.ok(command).fetched()[1])

    assert keys("FETCH 1 FAST") == {"FLAGS", "INTERNALDATE", "RFC822.SIZE"}
    assert keys("FETCH 1 ALL") == {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"}
    assert keys("FETCH 1 FULL") == {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"}
    assert keys("UID FETCH 1 FLAGS") == {"FLAGS", "UID"}


def test_6_4_5_sequence_sets(imap: Imap, box: str, filled: Fill) -> None:
    mail = b"Subject: x\r\n\r\n"
    filled(*[mail] * 6)
    imap.select(box)
    imap.ok("STORE 2,4 +FLAGS.SILENT (\\Deleted)")
    imap.ok("EXPUNGE")  # uids 1 3 5 6
    for given, wanted in (("1:*", [1, 3, 5, 6]), ("*", [6]), ("*:1", [1, 3, 5, 6]), ("3:2", [3, 5]), ("4,1", [1, 6]),
                          ("1:2,2:3", [1, 3, 5]), ("*:3", [5, 6])):
        found = imap.ok(f"FETCH {given} UID").fetched()
        assert sorted(int(items["UID"]) for items in found.values()) == wanted, given
    for given, wanted in (("1:*", [1, 3, 5, 6]), ("*", [6]), ("999:*", [6]), ("*:999", [6]), ("4", []), ("2:4", [3]),
                          ("6:1", [1, 3, 5, 6]), ("7", []), ("4294967295", []), ("1,3,3:5", [1, 3, 5])):
        assert sorted(imap.ok(f"UID FETCH {given} FLAGS").by_uid()) == wanted, given
    imap.bad("FETCH 5 FLAGS")
    imap.bad("FETCH 1:5 FLAGS")


def test_uids_alone_of_a_mailbox_with_gaps(imap: Imap, box: str) -> None:
    for _ in range(3):
        imap.ok(f"APPEND {box}" + " {5+}\r\nx\r\n\r\n" * 700)
    imap.select(box)
    imap.ok("STORE 3:1200,1202,1204:1206,2099 +FLAGS.SILENT (\\Deleted)")
    imap.ok("EXPUNGE")
    left = [1, 2, 1201, 1203, *range(1207, 2099), 2100]
    found = imap.ok("FETCH 1:* (UID)").fetched()
    assert {number: int(items["UID"]) for number, items in found.items()} == dict(enumerate(left, 1))
    assert list(imap.ok("UID FETCH 2:1203,2000:* UID").by_uid()) == [2, 1201, 1203, *range(2000, 2099), 2100]


def test_empty_mailbox(imap: Imap, box: str) -> None:
    imap.select(box)
    for command in ("FETCH 1:* FLAGS", "UID FETCH 1:* FLAGS", "UID FETCH * FLAGS", "UID STORE 1:* +FLAGS (\\Seen)",
                    "UID COPY 1:* INBOX", "UID MOVE 1:* INBOX", "EXPUNGE", "UID EXPUNGE 1:*", "UID SEARCH 1:*"):
        reply = imap.ok(command)
        assert not reply.all("FETCH")
        assert not reply.has_code("COPYUID")


# bodystructure and envelope


def test_7_5_2_bodystructure(nested: Imap) -> None:
    items = nested.ok("FETCH 1 (BODYSTRUCTURE BODY)").fetched()[1]
    full, short = items["BODYSTRUCTURE"], items["BODY"]
    assert [part[0] if isinstance(part, list) and isinstance(part[0], bytes) else part for part in full[:4]] \
        == [b"text", b"message", b"image", b"text"] or [part[0].lower() for part in full[:4]] \
        == [b"text", b"message", b"image", b"text"]
    text, message, image, plain = full[:4]
    assert full[4].lower() == b"mixed"
    assert [word.lower() if isinstance(word, bytes) else word for word in full[5]] == [b"boundary", b"out"]
    assert text[3] == b"<c1>"
    assert text[4] == b"first"
    assert text[6] == str(len(b"one line\r\ntwo lines"))
    assert text[7] in ("1", "2")
    assert message[1].lower() == b"rfc822"
    assert message[6] == str(len(INNER))
    assert message[7][1] == b"inner"           # its envelope
    assert message[8][2].lower() == b"alternative"
    assert int(message[9]) in (INNER.count(b"\r\n"), INNER.count(b"\r\n") + 1)
    assert message[11][0].lower() == b"attachment"
    assert message[11][1] == [b"filename", b"in.eml"] or message[11][1][1] == b"in.eml"
    assert image[2][1] == b"a.png"
    assert image[5].lower() == b"base64"
    assert image[6] == "14"
    assert (plain[0].lower(), plain[1].lower()) == (b"text", b"plain")
    assert len(short) == 5                      # no extension data
    assert len(short[0]) == 8
    assert len(short[2]) == 7


ENVELOPES: list[tuple[str, bytes, int, Any]] = [
    ("none", b"\r\n", 2, None),
    ("simple", b"From: user@domain.test\r\n\r\n", 2, [[None, None, b"user", b"domain.test"]]),
    ("name", b"From: Real Name <user@domain>\r\n\r\n", 2, [[b"Real Name", None, b"user", b"domain"]]),
    ("quoted", b'From: "Name, \\"Q\\" \\\\" <user@domain>\r\n\r\n', 2, [[b'Name, "Q" \\', None, b"user", b"domain"]]),
    ("comment", b"From: user@domain (Real Name)\r\n\r\n", 2, [[b"Real Name", None, b"user", b"domain"]]),
    ("group", b"To: Friends: a@x, B <b@y>;\r\n\r\n", 5, [
        [None, None, b"Friends", None], [None, None, b"a", b"x"], [b"B", None, b"b", b"y"], [None, None, None, None]]),
    ("empty group", b"To: undisclosed-recipients:;\r\n\r\n", 5, [
        [None, None, b"undisclosed-recipients", None], [None, None, None, None]]),
    ("several", b"To: a@x, <b@y>,\r\n \"c\" <c@z>\r\n\r\n", 5, [
        [None, None, b"a", b"x"], [None, None, b"b", b"y"], [b"c", None, b"c", b"z"]]),
    ("route", b"To: Name <@hop1,@hop2:user@host>\r\n\r\n", 5, [[b"Name", b"@hop1,@hop2", b"user", b"host"]]),
    ("quoted local", b'To: "a b"@x\r\n\r\n', 5, [[None, None, b"a b", b"x"]]),
    ("literal", b"To: a@[127.0.0.1]\r\n\r\n", 5, [[None, None, b"a", b"[127.0.0.1]"]]),
    ("encoded", b"From: =?utf-8?q?J=C3=B6rg?= <j@x>\r\n\r\n", 2, [[b"=?utf-8?q?J=C3=B6rg?=", None, b"j", b"x"]]),
    ("sender is from", b"From: a@x\r\n\r\n", 3, [[None, None, b"a", b"x"]]),
    ("reply-to is from", b"From: a@x\r\nSender: s@x\r\n\r\n", 4, [[None, None, b"a", b"x"]]),
    ("empty sender is from", b"From: a@x\r\nSender:\r\n\r\n", 3, [[None, None, b"a", b"x"]]),
    ("cc", b"Cc: c@x\r\n\r\n", 6, [[None, None, b"c", b"x"]]),
    ("bcc", b"Bcc: c@x\r\n\r\n", 7, [[None, None, b"c", b"x"]]),
    ("in-reply-to", b"In-Reply-To: <a@b>\r\n\r\n", 8, b"<a@b>"),
    ("message-id", b"Message-ID: <m@b>\r\n\r\n", 9, b"<m@b>"),
    ("subject", b"Subject: hello world\r\n\r\n", 1, b"hello world"),
    ("subject folded", b"Subject: hello\r\n world\r\n\r\n", 1, b"hello world"),
    ("subject raw", b"Subject: =?utf-8?q?=C3=A9?= x\r\n\r\n", 1, b"=?utf-8?q?=C3=A9?= x"),
    ("subject quotes", b'Subject: a "b" \\c\r\n\r\n', 1, b'a "b" \\c'),
    ("subject empty", b"Subject:\r\n\r\n", 1, b""),
    ("no subject", b"X: y\r\n\r\n", 1, None),
    ("date", b"Date: Mon, 7 Feb 1994 21:52:25 -0800\r\n\r\n", 0, b"Mon, 7 Feb 1994 21:52:25 -0800"),
    ("no date", b"X: y\r\n\r\n", 0, None),
    ("first of two", b"Subject: one\r\nSubject: two\r\n\r\n", 1, b"one"),
]


def test_7_5_2_envelopes(imap: Imap, box: str) -> None:
    uids = {name: imap.append(box, mail + b"body\r\n") for name, mail, _, _ in ENVELOPES}
    imap.select(box)
    found = imap.ok("UID FETCH 1:* ENVELOPE").by_uid()
    wrong = []
    for name, _, at, wanted in ENVELOPES:
        envelope = found[uids[name]]["ENVELOPE"]
        assert len(envelope) == 10
        if envelope[at] != wanted:
            wrong.append((name, envelope[at], wanted))
    assert wrong == []


def test_7_5_2_eight_bit_headers_stay_on_the_wire(imap: Imap, box: str) -> None:
    imap.append(box, "Subject: schön\r\nFrom: Jörg <j@x>\r\n\r\nx\r\n".encode())
    imap.append(box, b"Subject: sch\xf6n\r\nFrom: J\xf6rg <j@x>\r\n\r\nx\r\n")
    imap.select(box)
    found = imap.ok("FETCH 1:2 (ENVELOPE BODY.PEEK[HEADER])").fetched()
    assert found[1]["ENVELOPE"][1] == "schön".encode()
    assert b"sch\xf6n" in found[2]["BODY[HEADER]"]


# append


def test_6_3_12_append(imap: Imap, box: str) -> None:
    mail = b"Subject: x\r\n\r\nbody"
    reply = imap.ok(f'APPEND {box} (\\Seen $Work custom) "17-Jul-1996 02:44:25 -0700" ', mail)
    validity, uid = reply.code_of("APPENDUID").split()
    selected = imap.select(box)
    assert selected.code_of("UIDVALIDITY") == validity
    items = imap.ok(f"UID FETCH {uid} (FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])").by_uid()[int(uid)]
    assert set(items["FLAGS"]) - {"\\Recent"} == {"\\Seen", "$Work", "custom"}
    assert items["INTERNALDATE"] == b"17-Jul-1996 09:44:25 +0000"
    assert items["BODY[]"] == mail
    assert items["RFC822.SIZE"] == str(len(mail))


@pytest.mark.parametrize("date", [" 1-Jan-2000 00:00:00 +0000", "31-Dec-1999 23:59:59 +1400",
                                  "29-Feb-2024 12:00:00 -1200"])
def test_6_3_12_dates(imap: Imap, box: str, date: str) -> None:
    imap.append(box, b"Subject: x\r\n\r\n", date=date)


@pytest.mark.parametrize("middle", ["(\\Seen", "\\Seen ", '"1-Jan-2000 00:00:00 +0000" ', '"31-Feb-2000 00:00:00 +0000" ',
                                    '"01-Jan-2000" ', "() () ", '" 1-Foo-2000 00:00:00 +0000" '])
def test_6_3_12_bad_arguments(imap: Imap, box: str, middle: str) -> None:
    assert imap.cmd(f"APPEND {box} {middle}", b"Subject: x\r\n\r\n").status == "BAD"
    imap.ok("NOOP")


def test_6_3_12_append_to_the_selected_mailbox_is_told(imap: Imap, box: str) -> None:
    imap.select(box)
    reply = imap.ok(f"APPEND {box} ", b"Subject: x\r\n\r\n")
    assert reply.numbers("EXISTS") == [1]


def test_rfc3502_multiappend(imap: Imap, box: str) -> None:
    reply = imap.ok(f"APPEND {box} (\\Seen) ", b"Subject: 1\r\n\r\n", " ", b"Subject: 2\r\n\r\n",
                    ' (\\Flagged) "17-Jul-1996 02:44:25 +0000" ', b"Subject: 3\r\n\r\n")
    uids = numbers(reply.code_of("APPENDUID").split()[1])
    imap.select(box)
    found = imap.ok("UID FETCH 1:* (FLAGS INTERNALDATE)").by_uid()
    assert list(found) == uids
    assert [("\\Seen" in one["FLAGS"], "\\Flagged" in one["FLAGS"]) for one in found.values()] \
        == [(True, False), (False, False), (False, True)]
    assert imap.cmd(f"APPEND {box} ", b"Subject: 4\r\n\r\n", " (\\Foo) ", b"Subject: 5\r\n\r\n").status != "OK"
    assert imap.ok(f"STATUS {box} (MESSAGES)").one("STATUS").values[1] == ["MESSAGES", "3"]


def test_large_message_whole_and_in_parts(imap: Imap, box: str) -> None:
    data = base64.encodebytes(bytes(range(256)) * 8192).replace(b"\n", b"\r\n")
    mail = (b"Subject: large\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" + data)
    imap.append(box, mail)
    imap.select(box)
    assert imap.ok("FETCH 1 BODY.PEEK[]").fetched()[1]["BODY[]"] == mail
    joined = b""
    while len(joined) < len(mail):
        joined += imap.ok(f"FETCH 1 BODY.PEEK[]<{len(joined)}.1000000>").fetched()[1][f"BODY[]<{len(joined)}>"]
    assert joined == mail
    items = imap.ok("FETCH 1 (BODY.PEEK[1]<100.50> BINARY.PEEK[1]<1000000.16> BODY.PEEK[HEADER])").fetched()[1]
    assert items["BODY[1]<100>"] == data[100:150]
    assert items["BINARY[1]<1000000>"] == (bytes(range(256)) * 8192)[1000000:1000016]


def test_bare_line_ends_are_kept_or_made_crlf(imap: Imap, box: str) -> None:
    """What comes in by APPEND goes out byte for byte."""
    for mail in (b"Subject: x\n\nbody\nline\n", b"Subject: x\r\n\r\nbo\rdy\n", b"no header at all", b"\r\n", b"x"):
        uid = imap.append(box, mail)
        imap.select(box)
        assert imap.ok(f"UID FETCH {uid} BODY.PEEK[]").by_uid()[uid]["BODY[]"] == mail
        imap.ok(f"UID FETCH {uid} (ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[1])")


def test_rfc8474_object_ids(imap: Imap, box: str, filled: Fill) -> None:
    filled(NESTED)
    created = imap.ok(f"CREATE {box}.copy").code_of("MAILBOXID")
    assert imap.ok(f"STATUS {box}.copy (MAILBOXID)").one("STATUS").values[1][1] == [created.strip("()")]
    imap.select(box)
    one = imap.ok("FETCH 1 (EMAILID THREADID)").fetched()[1]
    imap.ok(f"COPY 1 {box}.copy")
    assert imap.select(f"{box}.copy").code_of("MAILBOXID") == created
    two = imap.ok("FETCH 1 (EMAILID THREADID)").fetched()[1]
    assert one["THREADID"] == two["THREADID"]
    assert imap.ok(f"SEARCH EMAILID {two['EMAILID'][0]}").search() == [1]
    assert imap.ok("SEARCH EMAILID nothing").search() == []
    imap.ok(f"RENAME {box}.copy {box}.new")
    assert imap.ok(f"STATUS {box}.new (MAILBOXID)").one("STATUS").values[1][1] == [created.strip("()")]


def test_rfc8474_5_1_emailid_of_a_copy(imap: Imap, box: str, filled: Fill) -> None:
    """The same EMAILID for both sides of a COPYUID pairing."""
    filled(NESTED)
    imap.select(box)
    imap.ok(f"COPY 1 {box}")
    imap.ok("NOOP")
    found = imap.ok("FETCH 1:2 EMAILID").fetched()
    assert found[1]["EMAILID"] == found[2]["EMAILID"]


def test_rfc8474_5_1_emailid_of_a_move(imap: Imap, box: str, filled: Fill) -> None:
    filled(NESTED)
    imap.ok(f"CREATE {box}.to")
    imap.select(box)
    before = imap.ok("FETCH 1 (EMAILID THREADID)").fetched()[1]
    imap.ok(f"MOVE 1 {box}.to")
    imap.select(f"{box}.to")
    assert imap.ok("FETCH 1 (EMAILID THREADID)").fetched()[1] == before


def test_internaldate_of_copies(imap: Imap, box: str) -> None:
    """[RFC 9051 §6.4.7] flags and internal date SHOULD be preserved."""
    imap.append(box, b"Subject: x\r\n\r\n", "\\Flagged kw", "17-Jul-1996 02:44:25 +0000")
    imap.select(box)
    imap.ok(f"COPY 1 {box}")
    assert imap.ok("NOOP").numbers("EXISTS") in ([], [2])
    items = imap.ok("FETCH 2 (FLAGS INTERNALDATE)").fetched()[2]
    assert {"\\Flagged", "kw"} <= set(items["FLAGS"])
    assert items["INTERNALDATE"] == b"17-Jul-1996 02:44:25 +0000"


def test_world_is_used(world: World) -> None:
    """FETCH answers survive a client that asks for everything at once."""
    client = world.alice()
    client.select("INBOX")
    client.ok("FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY MODSEQ EMAILID THREADID "
              "BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[1] BINARY.PEEK[1] BINARY.SIZE[1])")
