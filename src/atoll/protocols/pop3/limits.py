"""protocols.pop3.limits -- every number of POP3, its source and its place.

In     nothing. Out  Limits, frozen. Not  the rates of whole networks (runtime.admission).
"""

from __future__ import annotations

from dataclasses import dataclass

LINE = 4096
"""Octets of a line. [RFC 2449 §4] asks for 255; SASL answers, passwords and our tokens are longer."""
HANDSHAKE_SECONDS = 30.0
SIGN_IN_SECONDS = 60.0
BAD_COMMANDS = 20
"""Answers with -ERR that are the client's mistake, then the connection ends."""
PASSWORD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the mailbox process's half."""

    idle_seconds: float = 600.0
    """[RFC 1939 §3]: an autologout timer is at least ten minutes."""
    slice_seconds: float = 0.002
    """How long a session may work before others have their turn (ARCHITECTURE, the store)."""
    read_ahead: int = 64 * 1024
    """Pipelined octets kept while answers are on their way."""
    rows: int = 200
    """Rows read at once."""
    piece: int = 256 * 1024
    """Octets of a large message read at once."""


DEFAULT = Limits()
