"""AUTH PLAIN and LOGIN, the server's half, pure [RFC 4616, RFC 4954].

In     the mechanism, then base64 lines.
Out    a challenge to send, or Credentials.
Fails  NotSasl: 501.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass


class NotSasl(Exception):
    """The line is no answer to the challenge."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client typed."""

    login: str
    password: bytes
    authzid: str = ""


def _decode(text: bytes) -> bytes:
    if text == b"=":
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NotSasl from None


def _name(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise NotSasl from None


class Exchange:
    """One AUTH exchange; MECHANISMS it speaks."""

    MECHANISMS = ("PLAIN", "LOGIN")

    def __init__(self, mechanism: str) -> None:
        self._mechanism = mechanism
        self._login: str | None = None

    def challenge(self) -> bytes:
        """What is said next, base64."""
        if self._mechanism == "PLAIN":
            return b""
        return b"VXNlcm5hbWU6" if self._login is None else b"UGFzc3dvcmQ6"

    def answer(self, line: bytes) -> Credentials | None:
        """The client's line; None: there is another challenge."""
        raw = _decode(line)
        if self._mechanism == "PLAIN":
            parts = raw.split(b"\0")
            if len(parts) != 3 or not parts[1] or not parts[2]:
                raise NotSasl
            return Credentials(_name(parts[1]), parts[2], _name(parts[0]))
        if self._login is None:
            self._login = _name(raw)
            return None
        return Credentials(self._login, raw)
