"""Where BODY[...] and BINARY[...] find their octets.

In     a message and a section's part numbers.
Out    offsets; decoded octets for BINARY.
Spec   RFC 9051 §6.4.5.1 (part numbers, HEADER, TEXT, MIME), RFC 3516.
Fails  never: an absent part is None, an unknown transfer encoding is None.
Not    partial ranges and field lists: those are slices and `fields.header_fields`.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

from .limits import DEFAULT, ScanLimits
from .tree import MESSAGE, MULTIPART, Node, parse_tree
from .words import base64_bytes

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """Offsets into the message, each (start, end)."""

    body: Span
    """BODY[n]; for the empty path the whole message."""
    mime: Span | None
    """BODY[n.MIME]: the part's own header with its blank line. None for the empty path."""
    header: Span | None
    """BODY[HEADER], BODY[n.HEADER]: only of messages (the whole one or message/rfc822)."""
    text: Span | None
    """BODY[TEXT], BODY[n.TEXT]: only of messages."""
    maintype: str
    subtype: str
    """Lower case."""
    encoding: str
    """Content-Transfer-Encoding, lower case, "7bit" when absent."""
    charset: str
    """The charset parameter as written, "" when absent."""


def section(data: bytes, path: tuple[int, ...], limits: ScanLimits = DEFAULT) -> Part | None:
    """The part with these numbers; () is the message itself; None when there is no such part."""
    return find_part(parse_tree(data, limits), path)


def find_part(root: Node, path: tuple[int, ...]) -> Part | None:
    """As `section`, on a tree that is at hand."""
    if not path:
        return _part(root, (root.start, root.end), None, root)
    node: Node = root
    holder: Node | None = root  # whose parts the next number counts
    for number in path:
        if holder is None:
            return None
        if holder.kind == MULTIPART:
            if not 1 <= number <= len(holder.children):
                return None
            node = holder.children[number - 1]
        elif number == 1:
            node = holder  # part 1 of a message that is no multipart is its own body
        else:
            return None
        if node.kind == MESSAGE:
            holder = node.children[0]
        else:
            holder = node if node.kind == MULTIPART and node is not holder else None
    inner = node.children[0] if node.kind == MESSAGE else None
    return _part(node, (node.body, node.end), (node.start, node.body), inner)


def _part(node: Node, body: Span, mime: Span | None, message: Node | None) -> Part:
    charset = next((value for name, value in node.params if name.lower() == b"charset"), b"")
    return Part(
        body=body,
        mime=mime,
        header=None if message is None else (message.start, message.body),
        text=None if message is None else (message.body, message.end),
        maintype=node.maintype.decode("latin-1").lower(),
        subtype=node.subtype.decode("latin-1").lower(),
        encoding=node.encoding.decode("latin-1").lower(),
        charset=charset.decode("latin-1"),
    )


def decode(body: bytes, encoding: str) -> bytes | None:
    """The octets behind a transfer encoding, as far as they can be read; None: an encoding nobody knows."""
    encoding = encoding.partition(";")[0].strip().lower()
    if encoding in ("7bit", "8bit", "binary", ""):
        return body
    if encoding == "base64":
        return base64_bytes(body)
    if encoding == "quoted-printable":
        return binascii.a2b_qp(body)
    return None
