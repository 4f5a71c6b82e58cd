"""Identifiers: 128-bit random, made once, never reused (ISLANDS 11.4).

In     nothing; the operating system's random source.
Out    bytes of length 16, or their text form (26 characters, base32 without padding, lower case).
"""

from __future__ import annotations

import base64
import os
from typing import NewType

UserId = NewType("UserId", bytes)
"""Who signs in: 16 bytes. Grants, audit and sessions name a person by it."""
MailboxId = NewType("MailboxId", bytes)
"""What is opened: 16 bytes. A user's own mailbox has an id of its own."""
NetworkMessageId = NewType("NetworkMessageId", bytes)
"""One message on its way through all hops and copies: 16 bytes."""

ID_BYTES = 16
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


def new_id() -> bytes:
    """Sixteen random bytes."""
    return os.urandom(ID_BYTES)


def to_text(value: bytes) -> str:
    """The text form of an id: 26 lower-case base32 characters."""
    number = int.from_bytes(value, "big") << 2  # 128 bits are 25.6 characters
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def from_text(text: str) -> bytes:
    """The id of a text form; ValueError when it is not one."""
    raw = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    if len(raw) != ID_BYTES:
        raise ValueError("not an id")
    return raw
