"""Properties of the scanner: it never raises, its offsets fit together, and it agrees with the standard library."""

from __future__ import annotations

import email
import email.message
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.formats.mime import (
    body_of,
    decoded,
    find_part,
    header_end,
    header_fields,
    header_lines,
    parse_addresses,
    parse_date,
    parse_tree,
    scan,
    search_text,
)
from atoll.formats.mime.tree import LEAF, MESSAGE, MULTIPART, Node
from tests.formats.wire_reader import read_value

PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"--",
    b"--b",
    b"--b--",
    b"--c",
    b"\r\n--b\r\n",
    b"\r\n--b--\r\n",
    b"\n--c\n",
    b" ",
    b"\t",
    b":",
    b";",
    b"=",
    b'"',
    b"\\",
    b"(",
    b")",
    b"<",
    b">",
    b"@",
    b",",
    b"[",
    b"]",
    b"\0",
    b"\xe4",
    b"\xc3\xa4",
    b"a",
    b"b",
    b"c",
    b"0",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"Content-Type: multipart/digest; boundary=c\r\n",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Type: text/html; charset=utf-8\r\n",
    b"Content-Type: ",
    b"Content-Disposition: attachment; filename*0*=utf-8''",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Subject: ",
    b"From: ",
    b"To: a <b@c>, ",
    b"Date: Tue, 24 Nov 2026 11:42:16 +0000\r\n",
    b"References: <a@b> ",
    b"=?utf-8?q?",
    b"?=",
    b"=?x?b?",
    b"Re: ",
    b"[fwd: ",
    b"<script>",
    b"<!--",
    b"&amp;",
    b"&#x",
    b"Message-ID: <",
    b"Content-Language: de, en\r\n",
]
junk = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=6)), max_size=60).map(b"".join)


def nodes(root: Node) -> list[Node]:
    found, todo = [], [root]
    while todo:
        node = todo.pop()
        found.append(node)
        todo.extend(node.children)
    return found


@given(junk)
@settings(max_examples=400, deadline=None)
def test_never_raises_and_renders_what_can_be_read(data):
    started = time.thread_time()
    scanned = scan(data)
    search_text(data)
    body = body_of(scanned.structure)
    assert time.thread_time() - started < 0.5
    envelope, end = read_value(scanned.envelope)
    assert end == len(scanned.envelope)
    assert len(envelope) == 10
    for wire in (scanned.structure, body):
        value, end = read_value(wire)
        assert end == len(wire)
        check_body(value, extended=wire is not body)
    assert scanned.header_size == header_end(data)
    assert len(scanned.preview) <= 256
    assert "\r" not in scanned.preview
    assert "\n" not in scanned.preview


def check_body(value, *, extended: bool) -> None:
    """RFC 9051 §9: body-type-mpart, body-type-basic, body-type-text, body-type-msg; extension fields: all or none."""
    if isinstance(value[0], list):
        subparts = [
            item for item in value if isinstance(item, list) and (not item or isinstance(item[0], list | bytes))
        ]
        count = 0
        while isinstance(value[count], list):
            check_body(value[count], extended=extended)
            count += 1
        assert subparts
        rest = value[count:]
        assert len(rest) == (5 if extended else 1)
        assert isinstance(rest[0], bytes)
        return
    main, sub, params, id_, description, encoding, size = value[:7]
    assert isinstance(main, bytes)
    assert isinstance(sub, bytes)
    assert isinstance(encoding, bytes)
    assert isinstance(size, int)
    assert params is None or len(params) % 2 == 0
    assert id_ is None or isinstance(id_, bytes)
    assert description is None or isinstance(description, bytes)
    rest = value[7:]
    if main.lower() == b"text":
        assert isinstance(rest.pop(0), int)
    elif main.lower() == b"message" and sub.lower() in (b"rfc822", b"global"):
        assert len(rest.pop(0)) == 10
        check_body(rest.pop(0), extended=extended)
        assert isinstance(rest.pop(0), int)
    assert len(rest) == (4 if extended else 0)


@given(junk)
@settings(max_examples=400, deadline=None)
def test_offsets_fit_together(data):
    root = parse_tree(data)
    whole = find_part(root, ())
    assert whole.body == (0, len(data))
    assert whole.header[0] == 0
    assert whole.header[1] == whole.text[0]
    assert whole.text[1] == len(data)
    for node in nodes(root):
        assert 0 <= node.start <= node.body <= node.end <= len(data)
        last = node.body
        for child in node.children:
            assert child.start >= last
            assert child.end <= node.end
            last = child.end
        if node.kind == MESSAGE:
            (inner,) = node.children
            assert (inner.start, inner.end) == (node.body, node.end)
        if node.kind == LEAF:
            assert node.children == []


@given(junk)
@settings(max_examples=300, deadline=None)
def test_header_lines_join_to_the_header(data):
    joined = b"".join(raw for _, raw in header_lines(data))
    end = header_end(data)
    assert data[:end] in (joined, joined + b"\r\n", joined + b"\n")
    everything = header_fields(data, [], without=True)
    assert everything.startswith(joined)
    assert header_fields(data, []) == b"\r\n"


@given(junk)
@settings(max_examples=300, deadline=None)
def test_values_never_raise(value):
    decoded(value)
    parse_date(value)
    for address in parse_addresses(value, 50):
        assert address.mailbox is not None or address.host is None


# Well-formed messages, made from a tree, so that we know what the right answer is.
line = st.text(alphabet=st.sampled_from("abc -.äß"), max_size=20).map(lambda text: text.encode().rstrip())
text_body = st.lists(line, max_size=5).map(b"\r\n".join)


@st.composite
def leaf(draw):
    kind = draw(
        st.sampled_from(
            [b"text/plain; charset=utf-8", b"text/html", b"application/pdf; name=x.pdf", b"image/png", None]
        )
    )
    head = b"" if kind is None else b"Content-Type: " + kind + b"\r\n"
    if draw(st.booleans()):
        head += b"Content-Disposition: attachment;\r\n filename=y.bin\r\n"
    return head + b"\r\n" + draw(text_body)


@st.composite
def multipart(draw, children):
    parts = draw(st.lists(children, min_size=1, max_size=3))
    boundary = b"=_%d" % sum(len(part) + 1 for part in parts)  # differs from every boundary inside
    preamble = draw(st.sampled_from([b"", b"preamble\r\n"]))
    epilogue = draw(st.sampled_from([b"", b"\r\n", b"\r\nepilogue"]))
    out = b'Content-Type: multipart/%b;\r\n boundary="%b"\r\n\r\n%b' % (
        draw(st.sampled_from([b"mixed", b"alternative"])),
        boundary,
        preamble,
    )
    return out + b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts) + b"--%b--" % boundary + epilogue


def forwarded(children):
    return children.map(lambda part: b"Content-Type: message/rfc822\r\n\r\nFrom: x@example.com\r\n" + part)


message = st.recursive(leaf(), lambda children: st.one_of(multipart(children), forwarded(children)), max_leaves=8)


def same(node: Node, data: bytes, other: email.message.Message) -> None:
    assert (node.maintype + b"/" + node.subtype).decode() == other.get_content_type()
    if node.kind == MULTIPART:
        assert other.is_multipart()
        assert len(node.children) == len(other.get_payload())
    elif node.kind == MESSAGE:
        assert other.get_content_type() == "message/rfc822"
    else:
        assert data[node.body : node.end] == other._payload.encode("ascii", "surrogateescape")
    if node.children:
        for child, twin in zip(node.children, other.get_payload(), strict=True):
            same(child, data, twin)


@given(message)
@settings(max_examples=300, deadline=None)
def test_agrees_with_the_standard_library(data):
    data = b"Subject: generated\r\n" + data
    same(parse_tree(data), data, email.message_from_bytes(data))


@given(message)
@settings(max_examples=150, deadline=None)
def test_structure_sizes_are_those_of_the_sections(data):
    data = b"Subject: generated\r\n" + data
    root = parse_tree(data)
    value, _ = read_value(scan(data).structure)

    def walk(body, path):
        if isinstance(body[0], list):
            number = 0
            while isinstance(body[number], list):
                walk(body[number], (*path, number + 1))
                number += 1
            assert find_part(root, (*path, number + 1)) is None
            return
        part = find_part(root, path or (1,))
        octets = data[slice(*part.body)]
        assert body[6] == len(octets)
        if body[0].lower() == b"text":
            assert body[7] == octets.count(b"\n")
        if body[0].lower() == b"message":
            assert data[part.header[0] : part.text[1]] == octets
            assert body[9] == octets.count(b"\n")
            inner = body[8]
            walk(inner, path or (1,)) if isinstance(inner[0], list) else walk(inner, (*(path or (1,)), 1))

    walk(value, ())
