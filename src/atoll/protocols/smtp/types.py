"""Values of the front end: the kind of port, its limits, the facts that travel inside."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import msgspec

ELSEWHERE = "elsewhere"
"""In the place of a mailbox process: recipients of other domains."""


class Kind(Enum):
    """Which port a connection came to."""

    RELAY = 25
    SUBMISSION = 587
    SUBMISSIONS = 465

    @property
    def signs_in(self) -> bool:
        """AUTH is offered, and needed."""
        return self is not Kind.RELAY


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers of the front end; the first three come from the configuration."""

    message: int = 36 * 2**20
    recipients: int = 1000
    messages: int = 10_000
    messages_per_minute: int = 0
    recipients_per_hour: int = 0
    hard_errors: int = 20
    junk_commands: int = 100
    sign_ins: int = 3
    unknown_recipients: int = 10
    tarpit_seconds: float = 5.0
    command_seconds: float = 300.0
    content_seconds: float = 1800.0
    pregreet_seconds: float = 0.02
    in_memory: int = 256 * 1024
    """A message up to this size goes to transport in one write; a larger one in chunks as it comes."""


class HopFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """XATOLL= on MAIL: what the frontend states about the client, for audit, limits and the trace, never for rights."""

    ip: str = ""
    port: int = 0
    tls: str = ""
    cipher: str = ""
    helo: str = ""
    sid: str = ""
