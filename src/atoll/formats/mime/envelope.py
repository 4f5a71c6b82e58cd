"""ENVELOPE, ready for the wire.

In     the fields of a message header.
Out    the parenthesized list of RFC 9051 §7.5.2.
Spec   RFC 9051 §7.5.2; RFC 5322 §3.6.
Fails  never.
Not    decoding: values stay as the sender wrote them, unfolded.
"""

from __future__ import annotations

from collections.abc import Iterable

from .addresses import Address, parse_addresses
from .wire import nstring


class Budget:
    """Addresses that may still be parsed in this message."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def parse(self, value: bytes | None) -> list[Address]:
        """The addresses of a value, within the budget."""
        if not value or self.left <= 0:
            return []
        found = parse_addresses(value, self.left)
        self.left -= len(found)
        return found


def _render(addresses: Iterable[Address]) -> bytes:
    out = [
        b"(%b %b %b %b)" % (nstring(name), nstring(route), nstring(mailbox), nstring(host))
        for name, route, mailbox, host in addresses
    ]
    return b"(%b)" % b"".join(out) if out else b"NIL"


def render_envelope(fields: dict[bytes, bytes], addresses: dict[bytes, list[Address]]) -> bytes:
    """The ENVELOPE of these fields; `addresses` as `envelope_addresses` gave them."""
    from_ = _render(addresses[b"from"])
    sender = _render(addresses[b"sender"]) if addresses[b"sender"] else from_
    reply_to = _render(addresses[b"reply-to"]) if addresses[b"reply-to"] else from_
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(fields.get(b"date")), nstring(fields.get(b"subject")), from_, sender, reply_to,
        _render(addresses[b"to"]), _render(addresses[b"cc"]), _render(addresses[b"bcc"]),
        nstring(fields.get(b"in-reply-to")), nstring(fields.get(b"message-id")),
    )  # fmt: skip


def envelope_addresses(fields: dict[bytes, bytes], budget: Budget) -> dict[bytes, list[Address]]:
    """Each address field of an envelope, parsed once."""
    get = fields.get
    return {name: budget.parse(get(name)) for name in (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")}
