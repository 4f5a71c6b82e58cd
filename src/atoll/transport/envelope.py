"""What a message travels with, apart from its content."""

from __future__ import annotations

import msgspec

from atoll.base.ids import NetworkMessageId


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the frontend states about the client (XATOLL on MAIL): for audit, limits and the trace, never for rights."""

    ip: str = ""
    port: int = 0
    tls: str = ""
    cipher: str = ""
    helo: str = ""
    sid: str = ""


class Recipient(msgspec.Struct, frozen=True, omit_defaults=True):
    """One address of RCPT TO with what DSN asks for [RFC 3461 §4]."""

    address: str
    notify: tuple[str, ...] = ()
    orcpt: str = ""


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """One accepted transaction. id follows it through all hops and copies; received: milliseconds since 1970, UTC."""

    id: NetworkMessageId
    sender: str
    recipients: tuple[Recipient, ...]
    received: int
    facts: Facts = Facts()
    user: bytes = b""
    body: str = "7BIT"
    utf8: bool = False
    ret: str = ""
    envid: str = ""
    own: bool = False
    """A report of ours: like a person's mail it may leave the island."""
    junk: bool = False
    """Its copies belong in the folder for junk."""

    @property
    def may_leave(self) -> bool:
        """Mail of strangers is for recipients of the organization only: this is no open relay."""
        return self.own or bool(self.user)


def delivery_key(message: NetworkMessageId, mailbox: bytes, detail: str, hop: int = 0) -> bytes:
    """(network message id, recipient as resolved, hop): a retry of ours carries the same (ISLANDS 11.5)."""
    return message + hop.to_bytes(1, "big") + mailbox + detail.encode("utf-8", "surrogatepass")


class LmtpFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """XATOLL on RCPT of the LMTP hop: the delivery key, the folder asked for by +detail, the time of arrival (ms).

    junk: into the folder for junk, whatever +detail says.
    """

    key: bytes
    detail: str = ""
    received: int = 0
    junk: bool = False


class Target(msgspec.Struct, frozen=True):
    """One copy: the mailbox, its database, and what travels with it."""

    mailbox: bytes
    database: str
    facts: LmtpFacts
