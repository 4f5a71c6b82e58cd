"""What a message says: text for the search index and the preview.

In     a message, or its tree.
Out    SearchText, or at most 256 characters.
Spec   RFC 9051 §6.4.4 (TEXT and BODY search the decoded text).
Fails  never: dishonest encodings and character sets give the best guess.
Not    text inside attachments: that is decoded elsewhere, behind a process boundary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .addresses import without_comments
from .html import html_to_text
from .limits import DEFAULT, ScanLimits
from .params import param, plain
from .sections import decode
from .tree import MESSAGE, MULTIPART, Node, parse_tree
from .words import decoded, to_text

PREVIEW_CHARS = 256
_PREVIEW_START = 400
_PREVIEW_BYTES = 4096
_PREVIEW_HTML_BYTES = 65_536
_AROUND_AT = re.compile(rb"[ \t]*@[ \t]*")
_PLAIN = (b"7bit", b"8bit", b"binary")


@dataclass(frozen=True, slots=True)
class SearchText:
    """Decoded text by field; `body` also has the names of attachments and the headers of messages inside."""

    subject: str
    from_: str
    to: str
    cc: str
    bcc: str
    body: str
    opaque: bool = False
    """It was not looked into: `body` is missing (atoll.content)."""


def search_text(data: bytes, limits: ScanLimits = DEFAULT) -> SearchText:
    """All text of a message that SEARCH TEXT looks in."""
    root = parse_tree(data, limits)
    out: list[str] = []
    _collect(root, data, out)
    get = root.fields.get
    return SearchText(
        subject=decoded(get(b"subject", b"")),
        from_=_addresses(get(b"from", b"")),
        to=_addresses(get(b"to", b"")),
        cc=_addresses(get(b"cc", b"")),
        bcc=_addresses(get(b"bcc", b"")),
        body="\n".join(out),
    )


def _addresses(value: bytes) -> str:
    """As they stand; and without the comments that may stand within an address, so that it is found."""
    text = decoded(value)
    if b"(" not in value:
        return text
    return f"{text}\n{decoded(_AROUND_AT.sub(b'@', without_comments(value)))}"


def _collect(root: Node, data: bytes, out: list[str]) -> None:
    todo = [root]
    while todo:
        node = todo.pop()
        if node.kind == MULTIPART:
            todo.extend(reversed(node.children))
            continue
        if node.kind == MESSAGE:
            inner = node.children[0]
            for name in (b"subject", b"from", b"to", b"cc"):
                if name in inner.fields:
                    out.append(decoded(inner.fields[name]))
            todo.append(inner)
        name_of = file_name(node)
        if name_of:
            out.append(name_of)
        if node.kind not in (MULTIPART, MESSAGE) and node.maintype.lower() == b"text":
            out.append(part_text(node, data))


def file_name(node: Node) -> str | None:
    """The name of an attachment: filename of the disposition, else name of the type."""
    if b"content-disposition" in node.fields:
        disposition = node.disposition
        name = plain(disposition[1], b"filename") if disposition else None
        if name:
            return name
    return plain(node.params, b"name") if node.params else None


def part_text(node: Node, data: bytes, most: int | None = None) -> str:
    """The decoded text of a text part, of at most its first `most` octets; HTML as plain text."""
    end = node.end if most is None else min(node.end, node.body + most)
    raw = data[node.body : end]
    octets = decode(raw, node.encoding.decode("latin-1"))
    text = to_text(raw if octets is None else octets, param(node.params, b"charset") or b"")
    return html_to_text(text) if node.subtype.lower() == b"html" else text


def preview_of(root: Node, data: bytes) -> str:
    """The first words of the first text a reader would see; "" when there is none."""
    best: Node | None = None
    todo = [root]
    while todo:
        node = todo.pop()
        if node.children:
            todo.extend(reversed(node.children))
        elif node.kind not in (MULTIPART, MESSAGE) and node.maintype.lower() == b"text":
            subtype = node.subtype.lower()
            if subtype == b"plain" and node.end > node.body:
                best = node
                break
            if best is None and subtype == b"html":
                best = node
    if best is None:
        return ""
    html = best.subtype.lower() == b"html"
    start = data[best.body : min(best.end, best.body + _PREVIEW_START)]
    if not html and start.isascii() and best.encoding.lower() in _PLAIN and _is_ascii(best):
        shown = _one_line(start.decode("ascii"))  # most mail; what is shown is not to cost more than the envelope
        if len(shown) >= PREVIEW_CHARS or best.end - best.body <= _PREVIEW_START:
            return shown[:PREVIEW_CHARS]
    text = part_text(best, data, _PREVIEW_HTML_BYTES if html else _PREVIEW_BYTES)
    return _one_line(text[: 4 * PREVIEW_CHARS])[:PREVIEW_CHARS].rstrip("\ufffd")


def _is_ascii(node: Node) -> bool:
    """Do ASCII octets mean ASCII characters here?"""
    return (param(node.params, b"charset") or b"us-ascii").lower() in (b"us-ascii", b"utf-8", b"iso-8859-1")


def _one_line(text: str) -> str:
    """Without NUL: no protocol's text and no database's text column can hold one."""
    return " ".join(text.replace("\0", " ").split())
