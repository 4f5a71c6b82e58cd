"""Operations of signin.sock and backend.sock: their names, parameters and answers, once for both ends.

Spec   docs/seams.md 2 and 3. Pushes of both sockets: "revoked" (Revocation), "changed" (Changed). Of
       backend.sock: "sending" (Sending).
"""

from __future__ import annotations

import msgspec

from atoll.directory.client.model import (
    ClientFacts,
    DatabaseInfo,
    Fate,
    GroupInfo,
    MailboxInfo,
    Quota,
    QuotaStep,
    RecipientInfo,
    RefusedReason,
    Revocation,
    SignedIn,
    SigningKey,
)


class Password(msgspec.Struct):
    """signin "password": -> Verdict."""

    protocol: str
    login: str
    password: bytes
    facts: ClientFacts
    authzid: str = ""


class Verdict(msgspec.Struct):
    """Exactly one of `signed` and `reason` is set."""

    signed: SignedIn | None = None
    reason: RefusedReason | None = None
    text: str = ""
    delay: float = 0.0


class Address(msgspec.Struct):
    """"recipient": -> Recipient; "mailbox_of": -> Mailbox."""

    address: str


class Recipient(msgspec.Struct):
    """At most one of the two."""

    info: RecipientInfo | None = None
    group: GroupInfo | None = None


class Domain(msgspec.Struct):
    """"is_local_domain": -> YesNo."""

    domain: str


class YesNo(msgspec.Struct):
    yes: bool


class Subscribe(msgspec.Struct):
    """"subscribe": pushes from now on, and the revocations behind `since` (0: only what comes) -> Subscribed."""

    since: int = 0


class Subscribed(msgspec.Struct):
    """stopped: persons whose quota says that they send nothing; told to transport and mailbox processes only."""

    change: int
    revocations: list[Revocation]
    stopped: list[bytes] = []


class Audience(msgspec.Struct):
    """backend "audience": the asking process states its instance -> AudienceKey."""

    instance: str


class AudienceKey(msgspec.Struct):
    key: bytes


class MailboxId(msgspec.Struct):
    """backend "mailbox": -> Mailbox."""

    mailbox: bytes


class Mailbox(msgspec.Struct):
    info: MailboxInfo | None = None


class SendAs(msgspec.Struct):
    """backend "may_send_as": -> YesNo."""

    user: bytes
    address: str


class SigningKeys(msgspec.Struct):
    """backend "signing_keys" (of a Domain; transport only): newest first."""

    keys: list[SigningKey]


class OwnerEpoch(msgspec.Struct):
    """backend "owner_epoch": -> Epoch. The answer is durable before it is given."""

    database: str
    at_least: int = 0


class Epoch(msgspec.Struct):
    epoch: int


class Databases(msgspec.Struct):
    """backend "databases": those of one process -> DatabaseList."""

    backend: str


class DatabaseList(msgspec.Struct):
    databases: list[DatabaseInfo]


class QuotasOf(msgspec.Struct):
    """backend "quotas": the mailboxes of a database that have limits -> Quotas."""

    database: str


class FatesOf(msgspec.Struct):
    """backend "fates": the removed mailboxes of a database -> Fates."""

    database: str


class Fates(msgspec.Struct):
    fates: list[Fate]


class Purge(msgspec.Struct):
    """backend "purge": a removed mailbox of ours has been kept long enough; from now on nothing brings it back."""

    database: str
    mailbox: bytes


class Quotas(msgspec.Struct):
    quotas: list[tuple[bytes, Quota]]


class Steps(msgspec.Struct):
    """backend "quota_steps": what mailboxes have reached. whole: the others of the database are within their limits."""

    database: str
    steps: list[QuotaStep]
    whole: bool = False


class Shares(msgspec.Struct):
    """backend "shares": (mailbox, persons who may look into it). whole: no other mailbox of the database is shared."""

    database: str
    shares: list[tuple[bytes, list[bytes]]]
    whole: bool = False


class SharedWith(msgspec.Struct):
    """backend "shared_with": what is shared with the person of a live session of ours -> MailboxIds."""

    sid: str


class MailboxIds(msgspec.Struct):
    mailboxes: list[bytes]


class Exchange(msgspec.Struct):
    """backend "exchange": a live session of ours wants a mailbox of another process -> Verdict."""

    sid: str
    user: bytes
    mailbox: bytes
    protocol: str = "imap"


class Ended(msgspec.Struct):
    """backend "ended": sessions that are over."""

    sids: list[str]
