"""The values of the directory's answers (docs/seams.md 3).

In/Out  msgspec Structs; ids are 16 bytes, quotas are bytes, times are milliseconds since 1970 UTC.
Fails   Refused: a sign-in was not granted.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Protocol = Literal["imap", "pop3", "submit"]
PROTOCOLS: tuple[Protocol, ...] = ("imap", "pop3", "submit")
"""Protocol classes: an app password is made for some of them, a user may be denied some of them."""

RefusedReason = Literal["credentials", "temporary", "disabled", "protocol", "slow", "authorization"]
MAX_PASSWORD = 1024
"""Bytes of a password; longer ones are refused unread."""
MAX_LOGIN = 512
"""Octets of a login name; longer ones are refused unread."""
MAX_ADDRESS = 320
"""Octets of an address: 64 + "@" + 255 [RFC 5321 §4.5.3.1]."""


class ClientFacts(msgspec.Struct, frozen=True):
    """What the frontend states about a client: for audit and rate limits, never for rights."""

    ip: str
    port: int = 0
    tls: str = ""
    cipher: str = ""
    sni: str = ""
    helo: str = ""


class Quota(msgspec.Struct, frozen=True):
    """Three steps in bytes, 0 = none: warn the owner, stop sending, stop receiving as well."""

    warn: int = 0
    send: int = 0
    receive: int = 0

    def step(self, octets: int) -> int:
        """How far a mailbox of this size has come: WITHIN, WARNED, NO_SENDING or FULL."""
        for step, limit in ((FULL, self.receive), (NO_SENDING, self.send), (WARNED, self.warn)):
            if limit and octets >= limit:
                return step
        return WITHIN


WITHIN, WARNED, NO_SENDING, FULL = range(4)
"""The steps of a quota that a mailbox has reached."""


class QuotaStep(msgspec.Struct, frozen=True):
    """A mailbox and the step that its process says it has reached."""

    mailbox: bytes
    step: int


class Fate(msgspec.Struct, frozen=True):
    """A mailbox that was removed, when (0: not known), and whether its data are to be purged."""

    mailbox: bytes
    purged: bool
    removed: int


class Sending(msgspec.Struct, frozen=True):
    """Whether a person may send, as far as the quota of his mailbox goes."""

    user: bytes
    allowed: bool


class SignedIn(msgspec.Struct, frozen=True):
    """A granted sign-in: `token` opens `mailbox` for `user` at the process named `backend`, once, within 60 s."""

    token: str
    backend: str
    user: bytes
    mailbox: bytes
    sid: str
    address: str


class RecipientInfo(msgspec.Struct, frozen=True):
    """Where mail for an address goes. `address` is the mailbox's primary one; `detail` is what stood behind the +."""

    address: str
    kind: Literal["mailbox"]
    mailbox: bytes
    database: str
    backend: str
    island: str
    owner_epoch: int
    quota: Quota
    detail: str
    user: bytes
    display: str


Who = Literal["anyone", "organization", "members", "listed"]
"""Who may send to a group: everybody; people of ours who have signed in; of those its members and owners; of those
the ones it lists."""
Role = Literal["member", "owner", "sender"]


class GroupInfo(msgspec.Struct, frozen=True):
    """A distribution group. Members, owners and senders are addresses as the directory compares them."""

    group: bytes
    address: str
    display: str
    who: Who
    members: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()

    @property
    def backend(self) -> str:
        """No one process has all of it."""
        return ""


Addressee = RecipientInfo | GroupInfo
"""What an address of ours stands for."""


class MailboxInfo(msgspec.Struct, frozen=True):
    """One mailbox. state: active, locked, arriving, moved or soft-deleted (ISLANDS 11.11)."""

    mailbox: bytes
    user: bytes
    kind: Literal["user", "shared"]
    database: str
    backend: str
    island: str
    owner_epoch: int
    quota: Quota
    state: str
    address: str
    display: str


class DatabaseInfo(msgspec.Struct, frozen=True):
    """A mailbox database: which process mounts it, and the highest owner epoch ever given out for it."""

    name: str
    backend: str
    island: str
    owner_epoch: int
    mounted: bool = True


class Revocation(msgspec.Struct, frozen=True):
    """Sessions of `user` that were opened under a lower credential epoch end now.

    kind: password, disabled, removed, app-password or sessions.
    """

    seq: int
    user: bytes
    epoch: int
    kind: str


class Changed(msgspec.Struct, frozen=True):
    """Something was changed: what was cached about it is stale. kind: domain, mailbox, address, database or setting."""

    change: int
    kind: str
    id: bytes = b""


class AuditEvent(msgspec.Struct, frozen=True):
    """One fact for the audit log. Never a secret in it. `kind` is dotted: "auth.failed", "mailbox.create"."""

    kind: str
    user: str = ""
    mailbox: str = ""
    ip: str = ""
    protocol: str = ""
    outcome: str = "ok"
    detail: dict[str, str] = {}


class Refused(Exception):
    """A sign-in was not granted. `text` may be shown to the client; `delay`: seconds until another try makes sense."""

    def __init__(self, reason: RefusedReason, text: str = "", delay: float = 0.0) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason: RefusedReason = reason
        self.text = text
        self.delay = delay


class SigningKey(msgspec.Struct, frozen=True):
    """A DKIM key of a domain of ours. private: PKCS #8."""

    domain: str
    selector: str
    private: bytes

    def __repr__(self) -> str:
        return f"SigningKey({self.selector}._domainkey.{self.domain})"
