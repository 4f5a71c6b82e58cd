"""AUTH PLAIN and LOGIN, the server's half, pure [RFC 4616, RFC 4954].

In     the mechanism, then base64 lines.
Out    a challenge to send, or Credentials.
Fails  NotSasl: 501.
"""

from __future__ import annotations

from atoll.formats.sasl import Credentials, name, plain, unbase64


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
        raw = unbase64(line)
        if self._mechanism == "PLAIN":
            return plain(raw)
        if self._login is None:
            self._login = name(raw)
            return None
        return Credentials(self._login, raw)
