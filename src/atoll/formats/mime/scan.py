"""One look at a message at delivery; reading it later is copying bytes.

In     a message, CRLF line ends (a bare LF is survived).
Out    Scanned: rendered ENVELOPE and BODYSTRUCTURE, preview, conversation and sort keys.
Spec   RFC 9051 §7.5.2; RFC 5256 §2; RFC 5322 §3.6.4.
Fails  never on content.
Not    search text: it is made in the background (text.search_text).
"""

from __future__ import annotations

import re

import msgspec

from .addresses import Address
from .dates import parse_date
from .envelope import Budget, envelope_addresses, render_envelope
from .limits import DEFAULT, ScanLimits
from .structure import render_structure
from .subjects import base_subject
from .text import preview_of
from .tree import MESSAGE, MULTIPART, Node, parse_tree
from .words import decoded, to_text

_MESSAGE_ID = re.compile(rb"<[^<>\s]{1,990}>")
MAX_REFERENCES = 200


class Scanned(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a message beside its bytes."""

    envelope: bytes
    """ENVELOPE for the wire; literals where a quoted string cannot hold the value."""
    structure: bytes
    """BODYSTRUCTURE for the wire."""
    preview: str
    """At most 256 characters, one line."""
    subject: str
    """Decoded."""
    subject_base: str
    """RFC 5256 §2.1, casefolded."""
    is_reply: bool
    """Did the subject say that it is a reply or a forward?"""
    from_: str
    to: str
    cc: str
    """Sort keys: the local part of the first address (RFC 5256 §3), casefolded."""
    message_id: bytes
    """With angle brackets; b"" when there is none."""
    references: tuple[bytes, ...]
    """References, else the first id of In-Reply-To; oldest first, at most 200."""
    sent: int | None
    """Milliseconds since 1970 of the Date field; None when it has none that can be read."""
    has_attachment: bool
    header_size: int
    """Octets up to and with the blank line."""
    opaque: bool = False
    """It was not looked into: only the header is known (atoll.content)."""


def scan(data: bytes, limits: ScanLimits = DEFAULT) -> Scanned:
    """Everything about a message that is computed once. Never raises on content."""
    root = parse_tree(data, limits)
    fields = root.fields
    budget = Budget(limits.addresses)
    addresses = envelope_addresses(fields, budget)
    subject = decoded(fields.get(b"subject", b""))
    ids = _MESSAGE_ID.search(fields.get(b"message-id", b""))
    base, is_reply = base_subject(subject)
    date_value = fields.get(b"date")
    return Scanned(
        envelope=render_envelope(fields, addresses),
        structure=render_structure(root, data, budget),
        preview=preview_of(root, data),
        subject=subject,
        subject_base=base.casefold(),
        is_reply=is_reply,
        from_=_sort_key(addresses[b"from"]),
        to=_sort_key(addresses[b"to"]),
        cc=_sort_key(addresses[b"cc"]),
        message_id=ids.group() if ids else b"",
        references=_references(fields),
        sent=parse_date(date_value) if date_value else None,
        has_attachment=_has_attachment(root),
        header_size=root.body,
    )


def _sort_key(addresses: list[Address]) -> str:
    mailbox = addresses[0].mailbox if addresses else None
    if mailbox is None:
        return ""
    return mailbox.decode("ascii").lower() if mailbox.isascii() else to_text(mailbox).casefold()


def _references(fields: dict[bytes, bytes]) -> tuple[bytes, ...]:
    value = fields.get(b"references")
    found = _MESSAGE_ID.findall(value) if value else []
    if not found:
        value = fields.get(b"in-reply-to")
        first = _MESSAGE_ID.search(value) if value else None
        return (first.group(),) if first else ()
    return tuple(found if len(found) <= MAX_REFERENCES else found[:1] + found[1 - MAX_REFERENCES :])


def _has_attachment(root: Node) -> bool:
    """A part that people would call an attachment: said to be one, or named and no text or picture of the body."""
    todo = [root]
    while todo:
        node = todo.pop()
        if node.kind == MULTIPART:
            todo.extend(node.children)
            continue
        disposition = node.disposition
        kind = disposition[0].lower() if disposition else b""
        if kind == b"attachment" or (node.kind == MESSAGE and kind != b"inline"):
            return True
        main = node.maintype.lower()
        if main not in (b"text", b"multipart") and not (kind == b"inline" or b"content-id" in node.fields):
            return True
    return False
