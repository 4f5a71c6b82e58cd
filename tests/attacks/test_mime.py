"""MIME rows of the attack catalogue: one test per row, named by its id, one case per input of the row.

Times are CPU of this thread with room for a loaded machine; each one is far below what a quadratic step would take.
"""

from __future__ import annotations

import base64
import io
import os
import struct
import time
import tracemalloc
import zipfile
import zlib

import pytest

from atoll.formats.mime import (
    ScanLimits,
    Scanned,
    body_of,
    decode,
    decoded,
    header_lines,
    parse_addresses,
    parse_date,
    parse_tree,
    scan,
    search_text,
    section,
)
from atoll.formats.mime.tree import Node
from tests.formats.wire_reader import read_value


def cpu_ms(function, *args):
    """(result, CPU milliseconds) of one call."""
    started = time.thread_time()
    result = function(*args)
    return result, (time.thread_time() - started) * 1000


def depth_of(node: Node) -> int:
    deepest, todo = 0, [(node, 1)]
    while todo:
        at, level = todo.pop()
        deepest = max(deepest, level)
        todo.extend((child, level + 1) for child in at.children)
    return deepest


def parts_of(node: Node) -> int:
    count, todo = 0, [node]
    while todo:
        at = todo.pop()
        count += 1
        todo.extend(at.children)
    return count


def check(data: bytes, within_ms: float) -> Scanned:
    """Scan, index and BODY of a message within a time, and the wire forms can be read back."""
    scanned, spent = cpu_ms(scan, data)
    assert spent < within_ms, f"scan took {spent:.0f} ms"
    text, spent = cpu_ms(search_text, data)
    assert spent < within_ms, f"search_text took {spent:.0f} ms"
    body, spent = cpu_ms(body_of, scanned.structure)
    assert spent < within_ms, f"body_of took {spent:.0f} ms"
    for wire in (scanned.envelope, scanned.structure, body):
        value, end = read_value(wire)
        assert end == len(wire)
        assert isinstance(value, list)
    assert len(scanned.preview) <= 256
    assert text.body.encode("utf-8").decode("utf-8") == text.body  # no half characters
    return scanned


def nested_multiparts(levels: int, closed: bool) -> bytes:
    out = [b"From: a@example.com\r\nSubject: deep\r\nContent-Type: multipart/mixed; boundary=b0\r\n\r\n"]
    for level in range(levels):
        out.append(b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (level, level + 1))
    out.append(b"--b%d\r\n\r\nneedle\r\n" % levels)
    if closed:
        out.extend(b"--b%d--\r\n" % level for level in range(levels, -1, -1))
    return b"".join(out)


@pytest.mark.parametrize("closed", [True, False])
def test_M001_multipart_nested_3000_deep(closed):
    data = nested_multiparts(3000, closed)
    scanned = check(data, 200)
    root = parse_tree(data)
    assert depth_of(root) == 101
    assert b'"application" "octet-stream"' in scanned.structure
    assert scanned.structure.count(b'"mixed"') == 100
    assert section(data, (1,) * 100) is not None
    assert section(data, (1,) * 101) is None


def test_M002_100_000_flat_parts():
    data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 100_000 + b"--b--\r\n"
    scanned = check(data, 1000)
    root = parse_tree(data)
    assert parts_of(root) == 10_000
    assert root.children[-1].end == len(data)
    assert scanned.structure.endswith(b'"mixed" ("boundary" "b") NIL NIL NIL)')


@pytest.mark.parametrize("name", [b"To", b"Cc", b"From", b"Bcc"])
@pytest.mark.parametrize(
    "address",
    [b"a%d@example.com", b'"N, %d" <a%d@example.com>', b"(c) <@r.example:x%d@example.com>"],
    ids=["bare", "named", "obsolete"],
)
def test_M003_20_000_addresses(name, address):
    value = b", ".join(address.replace(b"%d", b"%d" % at) for at in range(20_000))
    data = name + b": " + value + b"\r\nSubject: many\r\n\r\nbody\r\n"
    scanned = check(data, 200)
    assert scanned.envelope.count(b"example.com") <= 3 * 10_000
    # As many short headers of the same name as it takes: the bound is on addresses, not on octets of one header.
    folded = b"".join(name + b": " + address.replace(b"%d", b"%d" % at) + b"\r\n" for at in range(20_000))
    value_list, _ = read_value(check(folded + b"\r\n", 400).envelope)
    assert all(item is None or isinstance(item, bytes) or len(item) <= 10_000 for item in value_list)


@pytest.mark.parametrize("unit", [b"a@b,", b"(c)a@b,", b"<@r:a@b>,"], ids=["common", "comment", "route"])
def test_M003_addresses_are_counted_over_all_fields(unit):
    assert len(parse_addresses(unit * 20_000)) == 10_000
    data = b"".join(name + b": " + unit * 20_000 + b"\r\n" for name in (b"To", b"Cc", b"Bcc")) + b"\r\n"
    value, _ = read_value(check(data, 400).envelope)
    assert sum(len(item) for item in value if isinstance(item, list)) == 10_000


@pytest.mark.parametrize(
    "open_",
    [
        b"(" * 30_000,
        b'"' * 30_001,
        b"<" * 30_000,
        b"[" * 30_000,
        b"\\" * 30_001,
        b"(\\" * 20_000,
        b":;" * 20_000,
        b"a:" * 20_000,
        b"@" * 30_000,
        b"<@" * 20_000,
        b"=?" * 20_000,
        b"((a)" * 9_000,
    ],
)
def test_M003_addresses_that_never_close(open_):
    check(
        b"To: "
        + open_
        + b"\r\nContent-Type: "
        + open_
        + b"\r\nDate: "
        + open_
        + b"\r\nSubject: "
        + open_
        + b"\r\n\r\n",
        200,
    )


@pytest.mark.parametrize("separator", [b" ", b"\r\n ", b""])
@pytest.mark.parametrize("word", [b"=?utf-8?q?x=C3=A4?=", b"=?utf-8?b?w6Q=?=", b"=?x-none?q?=FF?=", b"=?utf-8?b?w6Q"])
def test_M004_20_000_encoded_words(separator, word):
    data = b"Subject: " + separator.join([word] * 20_000) + b"\r\n\r\nbody"
    scanned = check(data, 100)
    assert len(scanned.subject) <= 65_536


def test_M004_raw_header_is_kept():
    data = b"Subject: " + b" ".join([b"=?utf-8?q?x?="] * 20_000) + b"\r\n\r\nbody"
    assert b"".join(raw for _, raw in header_lines(data)) == data[:-6]


@pytest.mark.parametrize(
    "value",
    [
        b"text/plain" + b"".join(b"; p%d=v" % at for at in range(20_000)),
        b"text/plain" + b"".join(b"; a*%d*=v" % at for at in range(10_000)),
        b"text/plain" + b"".join(b'; a*%d="v"' % at for at in range(10_000)),
        b"text/plain; name*0*=utf-8''" + b"%41" * 20_000,
        b"text/plain" + b";" * 60_000,
        b"text/plain" + b"; =" * 20_000,
        b'text/plain; a="' + b"\\" * 60_000,
    ],
    ids=["plain", "2231-encoded", "2231", "one-long", "semicolons", "nameless", "backslashes"],
)
def test_M005_parameters(value):
    data = b"Content-Type: " + value + b"\r\nContent-Disposition: attachment" + value[10:] + b"\r\n\r\nbody"
    scanned = check(data, 200)
    root = parse_tree(data)
    assert len(root.params) <= 100
    assert scanned.structure.startswith(b'("text" "plain"')


@pytest.mark.parametrize(
    "header",
    [
        b"X-Big: " + b"x" * 50_000_000 + b"\r\n",
        b"Subject: " + b"x" * 50_000_000 + b"\r\n",
        b"".join(b"X-%d: y\r\n" % at for at in range(100_000)),
        b"no colon here at all\r\nSubject: still here\r\n",
        b"Subject: a\0b\r\n",
        b"Subject: \xe4\xf6\xfc\xff\r\n",
        b" starts with a space\r\nSubject: still here\r\n",
        b"\tX\r\n" * 30_000,
        b"Subject:\r\n" + b" \r\n" * 100_000,
    ],
    ids=["one-50MB", "subject-50MB", "100000-headers", "no-colon", "nul", "8bit", "space-first", "tabs", "empty-folds"],
)
def test_M007_headers(header):
    data = header + b"From: a@example.com\r\n\r\nbody"
    tracemalloc.start()
    try:
        scanned = scan(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024 * 1024
    assert b"\0" not in scanned.envelope
    assert scanned.header_size == len(data) - 4
    check(data, 500)
    if len(header) < 1_000:
        assert b'"a" "example.com"' in scanned.envelope
        assert b"Subject: still here" not in header or scanned.subject == "still here"


def test_M008_rfc822_nested_500_deep():
    data = b"Content-Type: message/rfc822\r\n\r\n" * 500 + b"Subject: in\r\n\r\nneedle"
    check(data, 200)
    assert depth_of(parse_tree(data)) == 101


@pytest.mark.parametrize(
    "kind",
    [
        b'message/partial; id="x"; number=1; total=3',
        b'message/external-body; access-type=local-file; name="/etc/passwd"',
        b'message/external-body; access-type=URL; URL="http://192.0.2.1/"',
    ],
)
def test_M008_partial_and_external_body_are_leaves(kind):
    data = b"Content-Type: " + kind + b"\r\n\r\nContent-Type: text/plain\r\n\r\nphantom"
    root = parse_tree(data)
    assert root.children == []
    assert b'"message"' in check(data, 50).structure
    assert "root:" not in search_text(data).body


@pytest.mark.parametrize(
    "boundary",
    [b"same", b"(a+)+$", b"[", b".*", b"\\", b"x" * 999, b"--", b"-", b"'()+_,-./:=? x"],
    ids=lambda b: repr(b[:12]),
)
def test_M009_equal_boundaries_are_finite(boundary):
    quoted = b'"' + boundary.replace(b"\\", b"\\\\") + b'"'
    head = b"Content-Type: multipart/mixed; boundary=" + quoted + b"\r\n\r\n"
    data = (
        head + (b"--" + boundary + b"\r\n" + head) * 50 + b"--" + boundary + b"\r\n\r\nx\r\n--" + boundary + b"--\r\n"
    )
    check(data, 200)
    root = parse_tree(data)
    assert root.kind != 0
    assert parts_of(root) == 52


@pytest.mark.parametrize("boundary", [b'""', b"", b'"' + b"x" * 1001 + b'"'], ids=["empty", "absent", "1001"])
def test_M009_unusable_boundary_is_text(boundary):
    data = b"Content-Type: multipart/mixed; boundary=" + boundary + b"\r\n\r\n--\r\n\r\nx\r\n----\r\n"
    assert check(data, 50).structure.startswith(b'("text" "plain"')


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\n<b>x</b>", b'("text" "plain" NIL'),
        (
            b"Content-Type: multipart/mixed; boundary=a; boundary=b\r\n\r\n--b\r\n\r\nno\r\n--a\r\n\r\nyes\r\n--a--",
            b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0',
        ),
        (
            b"Content-Transfer-Encoding: base64\0\r\n\r\nAAAA",
            b'("text" "plain" ("charset" "us-ascii") NIL NIL {7}\r\nbase64?',
        ),
        (
            b"Content-Type: application/x; name=a.txt; name*=utf-8''b.exe\r\n\r\nx",
            b'("application" "x" ("name" "a.txt" "name*" "utf-8',
        ),
    ],
    ids=["two-types", "two-boundaries", "cte-nul", "names"],
)
def test_M010_one_canonical_tree(data, expected):
    scanned = check(data, 50)
    assert scanned.structure.startswith(expected)


def test_M010_names_follow_one_rule_everywhere():
    data = (
        b"Content-Type: application/x; name=a.txt; name*=utf-8''b.exe\r\n"
        b"Content-Disposition: attachment; filename=c.txt; filename*=utf-8''d.exe\r\n\r\nx"
    )
    assert search_text(data).body == "d.exe"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"QUJD*\xff-_.*REVG", b"ABCDEF"),
        (b"QUJD*garbage*REVG", b"ABC\x81\xaa\xdbj\x07\x91\x11Q"),  # the letters of "garbage" are of the alphabet
        (b"QUJDREVG=", b"ABCDEF"),
        (b"QUJDR", b"ABC"),
        (b"====", b""),
        (b"\xff\xfe", b""),
        (b"QUJD=\r\nREVG", b"ABCDEF"),
    ],
)
def test_M010_base64_with_garbage_is_read_in_one_way(body, expected):
    """What is not of the alphabet is left out [RFC 2045 §6.8], for whoever fetches and for whoever searches."""
    assert decode(body, "base64") == expected
    data = b"Content-Type: text/plain; charset=latin-1\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body
    part = section(data, (1,))
    assert decode(data[slice(*part.body)], part.encoding) == expected
    if expected.isalpha():
        assert search_text(data).body.split() == [expected.decode("latin-1")]


def attached(name: str, octets: bytes) -> bytes:
    """A message with one attachment."""
    return (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n"
        b"Content-Type: application/octet-stream; name=%b\r\nContent-Transfer-Encoding: base64\r\n\r\n%b\r\n--b--\r\n"
        % (name.encode(), base64.encodebytes(octets).replace(b"\n", b"\r\n"))
    )


def zipped(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, octets in members:
            archive.writestr(name, octets)
    return out.getvalue()


@pytest.mark.parametrize(
    "octets",
    [
        zlib.compress(bytes(200_000_000), 1),
        zipped(*[(f"{at}", bytes(10_000_000)) for at in range(10)]),
        zipped(("inner.zip", zipped(("inner.zip", zipped(("x", bytes(1_000_000))))))),
    ],
    ids=["zlib-200MB", "zip", "nested"],
)
def test_M011_archives_are_opaque_to_the_scanner(octets):
    data = attached("bomb.zip", octets)
    tracemalloc.start()
    try:
        assert check(data, 300).has_attachment
        assert search_text(data).body.split() == ["text", "bomb.zip"]
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024 + 4 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("member", ["../../../tmp/evil", "/etc/cron.d/evil", "word/document.xml"])
def test_M012_attachments_never_touch_the_file_system(member, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the scanner opened a file")

    data = attached("a.docx", zipped((member, b"<x/>")))
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(os, "open", refuse)
    scan(data)
    assert search_text(data).body.split() == ["text", "a.docx"]


@pytest.mark.parametrize(
    "octets",
    [
        struct.pack("<IH", 0x223E9F78, 1) + struct.pack("<BII", 2, 0x00069003, 0xFFFFFFF0) + b"x" * 64,
        struct.pack("<IH", 0x223E9F78, 1) + "\\\\10.0.0.1\\x".encode("utf-16-le") + struct.pack("<I", 0x0000851F),
        b"0\x84\xff\xff\xff\xff" + b"\0" * 100,
        b"-----BEGIN PGP MESSAGE-----\r\n\r\n" + b"\xff" * 100,
    ],
    ids=["tnef-lengths", "tnef-851F", "asn1", "pgp"],
)
def test_M014_containers_are_not_interpreted(octets):
    data = attached("winmail.dat", octets)
    check(data, 50)
    part = section(data, (2,))
    assert decode(data[slice(*part.body)], part.encoding) == octets
    assert "10.0.0.1" not in search_text(data).body


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        (b"utf-7", b"+ADw-script+AD4-alert(1)+ADw-/script+AD4-"),
        (b"unknown", "süß".encode()),
        (b"utf-16", b"\xff\xfea\x00b\x00c"),
        (b"utf-8", ("ä" * 300).encode()[:-1]),
        (b"utf-8", ("a" + "\u0301" * 1_000_000).encode()),
        (b"zlib", b"x\x9c\xcbH\xcd\xc9\xc9\x07\x00\x06,\x02\x15"),
        (b"unicode_escape", b"\\u003cscript>"),
        (b"idna", b"xn--" * 1000),
        (b"\0", b"x"),
        (b"hz", b"~{<:Ky"),
    ],
    ids=["utf-7", "unknown", "odd-utf-16", "cut-utf-8", "combining", "zlib", "unicode_escape", "idna", "nul", "hz"],
)
def test_M015_character_sets(charset, body):
    data = b'Content-Type: text/plain; charset="' + charset + b'"\r\n\r\n' + body
    scanned = check(data, 300)
    assert "<script" not in scanned.preview
    assert "<script" not in search_text(data).body


@pytest.mark.parametrize(
    "date",
    [
        b"1" * 100_000,
        b"Mon, 1 Jan 99999999 00:00:00 +0000",
        b"Mon, " + b"1" * 5_000 + b" Jan 2020 00:00:00 +0000",
        b"Mon, 1 Jan " + b"9" * 100_000,
        b"Mon, 0 Jan 2020 00:00:00 +0000",
        b"Mon, 30 Feb 2020 00:00:00 +0000",
        b"Mon, 1 Jan 2020 25:00:00 +0000",
        b"Mon, 1 Jan 0001 00:00:00 +0000",
        b"",
        b"\0",
    ],
)
def test_M017_no_date(date):
    assert parse_date(date) is None
    assert scan(b"Date: " + date + b"\r\n\r\n").sent is None


def test_M017_zone_out_of_range_counts_as_utc():
    assert parse_date(b"Mon, 1 Jan 2020 00:00:00 +9999") == 1_577_836_800_000


@pytest.mark.parametrize(
    "html",
    [
        b"<" * 1_000_000,
        b"<!--" * 250_000,
        b"<script>" * 120_000,
        b"<a " * 300_000,
        b"&#" * 500_000,
        b"&#" + b"9" * 1_000_000,
        b"<style><!--" * 90_000,
    ],
    ids=["lt", "comments", "scripts", "tags", "entities", "digits", "styles"],
)
def test_M015_html_in_linear_time(html):
    check(b"Content-Type: text/html\r\n\r\n" + html, 1000)


def test_header_of_parts_without_blank_line_is_linear():
    data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\nX: y\r\n" * 9_000 + b"z" * 5_000_000
    check(data, 1000)


def test_lines_like_boundaries_are_bounded():
    data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + b"--\n" * 3_000_000
    check(data, 4000)


def test_limits_are_parameters():
    data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 10
    assert parts_of(parse_tree(data, ScanLimits(parts=3))) == 3
    assert decoded(b"=?utf-8?q?=C3=A4?=") == "ä"
