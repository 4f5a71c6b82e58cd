"""Known answers: the RFCs' own examples and the mail that people really send."""

from __future__ import annotations

import pytest

from atoll.formats.mime import (
    Address,
    base_subject,
    body_of,
    decode,
    decoded,
    header_fields,
    header_lines,
    parse_addresses,
    parse_date,
    scan,
    search_text,
    section,
    string,
)

A = Address


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a@b.example", [A(None, None, b"a", b"b.example")]),
        (b"<a@b.example>", [A(None, None, b"a", b"b.example")]),
        (
            b"Al Ice <a@b.example>, c@d.example",
            [A(b"Al Ice", None, b"a", b"b.example"), A(None, None, b"c", b"d.example")],
        ),
        (b'"Ice, Al" <a@b.example>', [A(b"Ice, Al", None, b"a", b"b.example")]),
        (b'"Q \\"x\\"" <a@b.example>', [A(b'Q "x"', None, b"a", b"b.example")]),
        (b'"local part"@b.example', [A(None, None, b"local part", b"b.example")]),
        (b"=?utf-8?q?D=C3=A4ve?= <a@b>", [A(b"=?utf-8?q?D=C3=A4ve?=", None, b"a", b"b")]),
        (b"J. R. Ewing <jr@b>", [A(b"J. R. Ewing", None, b"jr", b"b")]),
        (b"a@[192.0.2.1]", [A(None, None, b"a", b"[192.0.2.1]")]),
        (b"<@r1.example,@r2.example:a@b>", [A(None, b"@r1.example,@r2.example", b"a", b"b")]),
        (b"a@b (Alice)", [A(b"Alice", None, b"a", b"b")]),
        (b"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", [A(b"Pete", None, b"pete", b"silly.test")]),
        (b"root", [A(b"root"[:0] or None, None, b"root", b"MISSING_DOMAIN")]),
        (b"", []),
        (b" , ,a@b, ", [A(None, None, b"a", b"b")]),
        (
            b"A Group:Ed Jones <joe@where.test>,joe@where.test;",
            [
                A(None, None, b"A Group", None),
                A(b"Ed Jones", None, b"joe", b"where.test"),
                A(None, None, b"joe", b"where.test"),
                A(None, None, None, None),
            ],
        ),
        (b"Undisclosed recipients:;", [A(None, None, b"Undisclosed recipients", None), A(None, None, None, None)]),
        (b"me@home <a@b>", [A(b"me@home", None, b"a", b"b")]),
    ],
)
def test_addresses(value, expected):
    assert parse_addresses(value) == expected


@pytest.mark.parametrize(
    ("subject", "base", "marked"),
    [
        ("Re: hello", "hello", True),
        ("hello", "hello", False),
        ("RE : [list] Fwd: hello (fwd) (FWD)", "hello", True),
        ("[fwd: Re: hello]", "hello", True),
        ("[list] hello", "hello", False),
        ("[only]", "[only]", False),
        ("re[2]: hello", "hello", True),
        ("  a \t b  ", "a b", False),
        ("regarding: x", "regarding: x", False),
        ("Re:", "", True),
    ],
)
def test_base_subject(subject, base, marked):
    assert base_subject(subject) == (base, marked)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"Tue, 24 Nov 2026 11:42:16 +0000", 1795520536),
        (b"Tue, 24 Nov 2026 11:42:16 +0100 (CET)", 1795516936),
        (b"24 Nov 2026 11:42 GMT", 1795520520),
        (b"Tue, 24 Nov 26 06:42:16 EST", 1795520536),
        (b"Tue, 24 Nov 2026 11:42:16", 1795520536),
        (b"Tue (a day), 24 (x) Nov 2026 11:42:16 -0000", 1795520536),
        (b"Tue Nov 24 11:42:16 2026", 1795520536),
        (b"Tuesday, 24-Nov-26 11:42:16 GMT", 1795520536),
        (b"Fri, 01 Jan 1960 00:00:00 +0000", -315619200),
    ],
)
def test_dates(value, seconds):
    assert parse_date(value) == seconds * 1000


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        (b"=?ISO-8859-1?Q?a?=", "a"),
        (b"=?ISO-8859-1?Q?a?= b", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a_b?=", "a b"),
        (b"=?UTF-8?B?w6Q=?= =?UTF-8?Q?=C3?= =?UTF-8?Q?=A4?=", "ää"),
        (b"=?US-ASCII*EN?Q?Keith_Moore?=", "Keith Moore"),
        ("größe".encode(), "größe"),
        ("größe".encode("latin-1"), "größe"),
        (b"=?gb2312?B?xOO6ww==?=", "你好"),
        (b"=?utf-8?q?unfinished", "=?utf-8?q?unfinished"),
    ],
)
def test_encoded_words(raw, text):
    assert decoded(raw) == text


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (b"", b'""'),
        (b"plain", b'"plain"'),
        (b'a"b\\c', b'"a\\"b\\\\c"'),
        (b"\xc3\xa4", b"{2}\r\n\xc3\xa4"),
        (b"a\rb", b"{3}\r\na\rb"),
        (b"a\0\n", b"{3}\r\na?\n"),
        (b"x" * 2000, b"{2000}\r\n" + b"x" * 2000),
    ],
)
def test_strings(value, wire):
    assert string(value) == wire


MIXED = b"""From: Al <al@example.com>\r
Content-Type: multipart/mixed; boundary="xx"\r
\r
preamble\r
--xx\r
\r
hi\r
--xx\r
Content-Type: message/rfc822\r
Content-ID: <cid@x>\r
Content-Language: de, en\r
\r
From: q@q\r
Subject: inner\r
Content-Type: multipart/alternative; boundary=yy\r
\r
--yy\r
\r
A\r
B\r
\r
--yy\r
Content-Type: text/html; charset="utf-8"\r
\r
<p>B</p>\r
--yy--\r
\r
--xx\r
Content-Type: application/pdf; name="a.pdf"\r
Content-Disposition: attachment; filename=a.pdf\r
Content-Transfer-Encoding: base64\r
Content-MD5: Q2hlY2s=\r
Content-Location: http://example.com/\r
\r
QUFB\r
--xx--\r
epilogue"""


def test_structure_of_a_mixed_message():
    scanned = scan(MIXED)
    plain = b'"text" "plain" ("charset" "us-ascii") NIL NIL "7bit"'
    inner_envelope = b'(NIL "inner" ((NIL NIL "q" "q")) ((NIL NIL "q" "q")) ((NIL NIL "q" "q")) NIL NIL NIL NIL NIL)'
    inner = (
        b"((%b 6 2 NIL NIL NIL NIL)"
        b'("text" "html" ("charset" "utf-8") NIL NIL "7bit" 8 0 NIL NIL NIL NIL) '
        b'"alternative" ("boundary" "yy") NIL NIL NIL)' % plain
    )
    assert scanned.structure == (
        b"((%b 2 0 NIL NIL NIL NIL)"
        b'("message" "rfc822" NIL "<cid@x>" NIL "7bit" 163 %b %b 14 NIL NIL ("de" "en") NIL)'
        b'("application" "pdf" ("name" "a.pdf") NIL NIL "base64" 4 "Q2hlY2s=" ("attachment" ("filename" "a.pdf")) NIL '
        b'"http://example.com/") "mixed" ("boundary" "xx") NIL NIL NIL)' % (plain, inner_envelope, inner)
    )
    assert body_of(scanned.structure) == (
        b'((%b 2 0)("message" "rfc822" NIL "<cid@x>" NIL "7bit" 163 %b '
        b'((%b 6 2)("text" "html" ("charset" "utf-8") NIL NIL "7bit" 8 0) "alternative") 14)'
        b'("application" "pdf" ("name" "a.pdf") NIL NIL "base64" 4) "mixed")' % (plain, inner_envelope, plain)
    )
    assert scanned.has_attachment
    assert scanned.preview == "hi"
    assert search_text(MIXED).body.split() == ["hi", "inner", "q@q", "A", "B", "B", "a.pdf"]


def octets(path, what):
    part = section(MIXED, path)
    span = part and getattr(part, what)
    return None if span is None else MIXED[slice(*span)]


def test_sections_of_a_mixed_message():
    assert octets((1,), "body") == b"hi"
    assert octets((1,), "mime") == b"\r\n"
    assert octets((1,), "header") is None
    assert octets((2,), "mime").startswith(b"Content-Type: message/rfc822\r\n")
    assert (
        octets((2,), "header")
        == b"From: q@q\r\nSubject: inner\r\nContent-Type: multipart/alternative; boundary=yy\r\n\r\n"
    )
    assert octets((2,), "header") + octets((2,), "text") == octets((2,), "body")
    assert octets((2, 1), "body") == b"A\r\nB\r\n"
    assert octets((2, 2), "body") == b"<p>B</p>"
    assert octets((2, 2), "mime") == b'Content-Type: text/html; charset="utf-8"\r\n\r\n'
    assert octets((3,), "body") == b"QUFB"
    assert [octets(path, "body") for path in [(0,), (4,), (1, 1), (2, 3), (2, 1, 1), (3, 1)]] == [None] * 6
    assert section(MIXED, (3,)).encoding == "base64"
    assert (section(MIXED, (2, 2)).maintype, section(MIXED, (2, 2)).subtype) == ("text", "html")
    assert section(MIXED, (2, 2)).charset == "utf-8"


def test_digest_parts_are_messages():
    data = b"Content-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nSubject: one\r\n\r\nbody\r\n--d--\r\n"
    assert b'("message" "rfc822" NIL NIL NIL "7bit" 20 (NIL "one"' in scan(data).structure


def test_envelope_defaults_and_literals():
    scanned = scan(
        "From: a@b\r\nReply-To: r@b\r\nSubject: süß\r\n folded\r\nTo: \r\nX: y\r\nDate: nonsense\r\n\r\n".encode()
    )
    a = b'((NIL NIL "a" "b"))'
    assert scanned.envelope == (
        b'("nonsense" {12}\r\n%b folded %b %b ((NIL NIL "r" "b")) NIL NIL NIL NIL NIL)' % ("süß".encode(), a, a)
    )
    assert scan(b"\r\nbody").envelope == b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"


def test_keys_of_threading_and_sorting():
    scanned = scan(
        b"From: Al <Al.Ice@example.com>\r\nTo: =?utf-8?q?=C3=84?= <Bob@example.com>\r\n"
        b"Subject: Re: =?utf-8?q?=C3=84hm?=\r\n"
        b"Message-ID: junk <i@x> more\r\nReferences: <r1@x>\r\n <r2@x> junk\r\nIn-Reply-To: <r2@x>\r\n\r\n"
    )
    assert (scanned.from_, scanned.to, scanned.cc) == ("al.ice", "bob", "")
    assert (scanned.subject, scanned.subject_base) == ("Re: Ähm", "ähm")
    assert scanned.message_id == b"<i@x>"
    assert scanned.references == (b"<r1@x>", b"<r2@x>")
    assert scan(b"In-Reply-To: a <x@y> <z@y>\r\n\r\n").references == (b"<x@y>",)
    many = b"References: " + b" ".join(b"<%d@x>" % at for at in range(500)) + b"\r\n\r\n"
    assert len(scan(many).references) == 200
    assert scan(many).references[0] == b"<0@x>"
    assert scan(many).references[-1] == b"<499@x>"


@pytest.mark.parametrize(
    ("head", "body", "preview"),
    [
        (b"", b"  one\r\n\r\ntwo ", "one two"),
        (b"Content-Type: text/html\r\n", b"<style>p{}</style><p>one&nbsp;&amp;</p><p>t<b>w</b>o</p>", "one & two"),
        (b"Content-Transfer-Encoding: base64\r\n", b"aGVsbG8=", "hello"),
        (b"Content-Transfer-Encoding: quoted-printable\r\n", b"a=C3=A4=\r\nb", "aäb"),
        (b"Content-Type: image/png\r\n", b"x", ""),
    ],
)
def test_preview(head, body, preview):
    assert scan(head + b"\r\n" + body).preview == preview


def test_bare_line_feeds_are_survived():
    unix = MIXED.replace(b"\r\n", b"\n")
    scanned = scan(unix)
    assert scanned.structure.count(b'"text"') == 3
    assert section(unix, (2, 1)) is not None
    assert unix[slice(*section(unix, (2, 1)).body)] == b"A\nB\n"


def test_header_lines_and_fields():
    data = b"A: 1\r\nSubject : x\r\n\ty\r\njunk\r\nB: 2\r\n\r\nbody"
    assert list(header_lines(data)) == [
        (b"A", b"A: 1\r\n"),
        (b"Subject", b"Subject : x\r\n\ty\r\n"),
        (b"", b"junk\r\n"),
        (b"B", b"B: 2\r\n"),
    ]
    assert header_fields(data, [b"SUBJECT", b"b"]) == b"Subject : x\r\n\ty\r\nB: 2\r\n\r\n"
    assert header_fields(data, [b"subject"], without=True) == b"A: 1\r\njunk\r\nB: 2\r\n\r\n"


def test_transfer_encodings():
    assert decode(b"QUJD\r\nREVG", "BASE64") == b"ABCDEF"
    assert decode(b"a=3Db=\r\nc", "quoted-printable") == b"a=bc"
    assert decode(b"x", "8bit") == b"x"
    assert decode(b"x", "uuencode") is None


@pytest.mark.parametrize(("written", "shown"), [
    (b'name*0="one "; name*1=two', b'"name" "one two"'),
    (b"x=1; name*1=b; name*0=a; y=2", b'"x" "1" "name" "ab" "y" "2"'),
    (b"name*0*=utf-8''%c3%a4; name*1=\" & b\"; name*2*=%20c", b"\"name*\" \"utf-8''%c3%a4%20&%20b%20c\""),
    (b'name*0="a b"; name*1*=%41', b"\"name*\" \"''a%20b%41\""),
    (b"name*=utf-8''%41; NAME*0=a; name*1=b", b"\"name*\" \"utf-8''%41\" \"NAME\" \"ab\""),
    (b"name*0=a; name*2=c; name*0=z", b'"name" "a" "name*2" "c"'),
    (b"name*1=b; name*01=c; *0=d", b'"name*1" "b" "name*01" "c" "*0" "d"'),
])
def test_continuations_are_joined_in_the_structure(written: bytes, shown: bytes) -> None:
    """[RFC 2231 §6] for BODY and BODYSTRUCTURE."""
    structure = scan(b"Content-Type: application/x; %b\r\n\r\n" % written).structure
    assert structure == b'("application" "x" (%b) NIL NIL "7bit" 0 NIL NIL NIL NIL)' % shown


def test_comments_in_the_transfer_encoding() -> None:
    scanned = scan(b"Content-Transfer-Encoding: BASE64 (as ever)\r\n\r\naGk=")
    assert b'"BASE64" 4 0' in scanned.structure
    assert scanned.preview == "hi"
