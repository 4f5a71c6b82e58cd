"""protocols.imap.wire.utf7 -- mailbox names in modified UTF-7.

In     str, or bytes of the wire. Out  the other one.
Spec   [RFC 3501 §5.1.3]. Only the one canonical spelling of a name is read, so two spellings never name one mailbox.
Fails  Bad for whatever is not canonical: lone surrogates, NUL, encoded printable ASCII (an encoded "/" too), odd bits.
"""

from __future__ import annotations

import base64
import binascii
import re

from atoll.protocols.imap.wire.errors import Bad

_RUN = re.compile(r"[^\x20-\x7e]+")
_SHIFT = re.compile(rb"&([^-]*)-")


def encode(name: str) -> bytes:
    """The wire form of a name."""

    def shift(match: re.Match[str]) -> str:
        coded = base64.b64encode(match.group().encode("utf-16-be")).decode("ascii")
        return "&" + coded.rstrip("=").replace("/", ",") + "-"

    return _RUN.sub(shift, name.replace("&", "&-")).encode("ascii")


def decode(wire: bytes) -> str:
    """The name of a wire form; Bad when it is not canonical."""
    if b"&" not in wire and wire.isascii():
        return _printable(wire.decode("ascii"))
    try:
        text = wire.decode("ascii")
        at, parts = 0, []
        for match in _SHIFT.finditer(wire):
            parts.append(_plain(text[at : match.start()]))
            parts.append(_unshift(match.group(1)))
            at = match.end()
        parts.append(_plain(text[at:]))
        name = "".join(parts)
        if encode(name) != wire:
            raise Bad("Mailbox name is not canonical modified UTF-7")
    except (UnicodeError, binascii.Error):
        raise Bad("Mailbox name is not modified UTF-7") from None
    return _printable(name)


def _plain(text: str) -> str:
    if "&" in text:
        raise Bad("Mailbox name is not modified UTF-7")
    return text


def _unshift(coded: bytes) -> str:
    if not coded:
        return "&"
    padded = coded.replace(b",", b"/") + b"=" * (-len(coded) % 4)
    return base64.b64decode(padded, validate=True).decode("utf-16-be")


def _printable(name: str) -> str:
    if any(char < " " or char == "\x7f" for char in name):
        raise Bad("Control character in a mailbox name")
    return name
