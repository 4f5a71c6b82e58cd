"""edge.canon -- canonical forms of fields and bodies, and the body's digest.

In     a Message.
Out    octets that are signed; BodyDigest gives one digest for each way that signatures ask for, computed once.
Spec   [RFC 6376 §3.4]. A long body is taken in slices, the event loop goes on between them.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterator

from atoll.edge.message import Field, Message

SLICE = 128 << 10
"""Octets of a body that are worked on in one go: less than 2 ms."""
_SPACES = re.compile(rb"[ \t]+")
_B_TAG = re.compile(rb"((?:^|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")


def field(one: Field, *, relaxed: bool) -> bytes:
    """A field as it is signed, with its line end [RFC 6376 §3.4.1, §3.4.2]."""
    if not relaxed:
        return one.raw if one.raw.endswith(b"\r\n") else one.raw + b"\r\n"
    name, _, value = one.raw.partition(b":")
    value = value.replace(b"\r\n", b"")
    if b"\t" in value or b"  " in value:
        value = _SPACES.sub(b" ", value)
    return name.strip(b" \t").lower() + b":" + value.strip(b" ") + b"\r\n"


def without_signature(one: Field, *, relaxed: bool) -> bytes:
    """A signature's own field: the value of b= and the last line end are not signed [RFC 6376 §3.5, §3.7]."""
    name, colon, value = one.raw.partition(b":")
    empty = Field(one.name, name + colon + _B_TAG.sub(rb"\1", value, count=1))
    return field(empty, relaxed=relaxed).removesuffix(b"\r\n")


def chosen(message: Message, names: list[str], *, relaxed: bool) -> list[bytes]:
    """The signed fields in their order: of equal ones the last first; a name that is not there adds nothing."""
    left: dict[bytes, list[Field]] = {}
    for one in message.fields:
        left.setdefault(one.name, []).append(one)
    found = []
    for name in names:
        fields = left.get(name.encode("utf-8"))
        if fields:
            found.append(field(fields.pop(), relaxed=relaxed))
    return found


def body(message: Message, *, relaxed: bool) -> Iterator[bytes]:
    """The canonical body, in pieces of at most a slice; some are empty."""
    content, at = message.content, message.body
    last = len(content)
    while last > at:  # white space at the end counts for nothing
        tail = content[max(at, last - SLICE) : last]
        kept = tail.rstrip(b" \t\r\n" if relaxed else b"\r\n")
        last -= len(tail) - len(kept)
        if kept:
            break
        yield b""
    empty, space = last == at, False
    while at < last:
        end = min(at + SLICE, last)
        if content[end - 1] == 0x0D:
            end += 1  # a line end is not cut
        piece, at = content[at:end], end
        if relaxed:
            piece, space = _relaxed(piece, space)
        yield piece
    if not empty or not relaxed:
        yield b"\r\n"


def _relaxed(piece: bytes, space: bool) -> tuple[bytes, bool]:
    """(a piece without needless white space, does some stand behind it?). space: some stands before it."""
    kept = piece.rstrip(b" \t")
    text = kept.lstrip(b" \t")
    if not text:
        return b"", True
    if b"\t" in text or b"  " in text:
        text = _SPACES.sub(b" ", text)
    before = b" " if (space or kept[0] in b" \t") and not text.startswith(b"\r\n") else b""
    return before + text.replace(b" \r\n", b"\r\n"), len(kept) < len(piece)


class BodyDigest:
    """SHA-256 of one message's body. Concurrent askers of the same form share the work."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self._known: dict[tuple[bool, int], tuple[bytes, int] | asyncio.Task[tuple[bytes, int]]] = {}

    async def get(self, *, relaxed: bool, length: int = -1) -> tuple[bytes, int]:
        """(digest of the first `length` octets, -1: all; octets that it leaves out, negative: that are missing)."""
        key = (relaxed, length)
        known = self._known.get(key)
        if known is None:
            if len(self._message.content) <= SLICE:
                known = self._known[key] = await self._compute(relaxed, length)  # at once
            else:
                known = self._known[key] = asyncio.ensure_future(self._compute(relaxed, length))
        return known if isinstance(known, tuple) else await asyncio.shield(known)

    async def _compute(self, relaxed: bool, length: int) -> tuple[bytes, int]:
        digest = hashlib.sha256()
        total = 0
        long = len(self._message.content) > SLICE
        for piece in body(self._message, relaxed=relaxed):
            if length < 0:
                digest.update(piece)
            elif total < length:
                digest.update(piece[: length - total])
            total += len(piece)
            if long:
                await asyncio.sleep(0)
        return digest.digest(), 0 if length < 0 else total - length
