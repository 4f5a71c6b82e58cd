"""Mailboxes, their quotas and recoverable items in the administration API (admin.ops has the table)."""

from __future__ import annotations

from typing import Literal

import msgspec


class Quota(msgspec.Struct):
    """Three steps in bytes, 0 = none."""

    warn: int = 0
    send: int = 0
    receive: int = 0


# -- mailboxes -------------------------------------------------------------------------------------------------------
class MailboxCreate(msgspec.Struct):
    """Without `password` and `hash` a password is made and told once. shared: nobody signs in with it."""

    address: str
    display: str = ""
    shared: bool = False
    database: str = ""
    quota: Quota | None = None
    password: bytes = b""
    hash: str = ""


class MailboxCreated(msgspec.Struct):
    address: str
    mailbox: str
    user: str
    database: str
    password: str = ""


class MailboxAddress(msgspec.Struct):
    address: str


class MailboxFilter(msgspec.Struct):
    """A page of mailboxes, by address: those behind `after`. text: part of address or display name."""

    domain: str = ""
    text: str = ""
    after: str = ""
    limit: int = 1000


class MailboxRow(msgspec.Struct):
    address: str
    display: str
    kind: Literal["user", "shared"]
    state: str
    enabled: bool
    database: str
    quota: Quota
    mailbox: str
    user: str


class Mailboxes(msgspec.Struct):
    mailboxes: list[MailboxRow]


class MailboxShow(msgspec.Struct):
    mailbox: MailboxRow
    aliases: list[str]
    protocols: list[str]
    app_passwords: int
    app_passwords_only: bool
    own_quota: bool
    created: int
    backend: str


class MailboxChange(msgspec.Struct):
    """What is None stays as it is."""

    address: str
    display: str | None = None
    protocols: list[str] | None = None
    app_passwords_only: bool | None = None


class RemovedMailbox(msgspec.Struct):
    """A removed mailbox: the newest that had this address, or the one with this id."""

    address: str = ""
    mailbox: str = ""


class MailboxRestore(msgspec.Struct):
    """address, mailbox: as RemovedMailbox. new: the address that it gets, "" for the one it had."""

    address: str = ""
    mailbox: str = ""
    new: str = ""


class MailboxRestored(msgspec.Struct):
    address: str


class RemovedRow(msgspec.Struct):
    """purged_after: when its mail goes at the earliest; removed, purged_after 0: not known, never by its age."""

    address: str
    display: str
    database: str
    mailbox: str
    removed: int
    purged_after: int


class RemovedRows(msgspec.Struct):
    mailboxes: list[RemovedRow]


class MailboxPassword(msgspec.Struct):
    """A new password, or an imported hash, or (both empty) one that is made and told once."""

    address: str
    password: bytes = b""
    hash: str = ""


class Password(msgspec.Struct):
    password: str


class QuotaSet(msgspec.Struct):
    """quota None: the organization's default."""

    address: str
    quota: Quota | None = None


Reached = Literal["", "warned", "no-sending", "full"]
"""The step of its quota that a mailbox has come to."""


class QuotaShow(msgspec.Struct):
    address: str
    quota: Quota
    own: bool
    used: int = -1
    """Bytes; -1: the mailbox is not mounted."""
    items: int = -1
    reached: Reached = ""


class QuotaRow(msgspec.Struct):
    """A mailbox that is over one of its limits."""

    address: str
    reached: Reached
    quota: Quota


class QuotaRows(msgspec.Struct):
    mailboxes: list[QuotaRow]


class Usage(msgspec.Struct):
    """mailbox.usage, asked of a mailbox role."""

    used: int
    items: int


# -- recoverable items -----------------------------------------------------------------------------------------------
class RecoverableFilter(msgspec.Struct):
    address: str
    text: str = ""
    limit: int = 1000


class RecoverableRow(msgspec.Struct):
    id: str
    subject: str
    sender: str
    folder: str
    deleted: int
    size: int


class Recoverables(msgspec.Struct):
    items: list[RecoverableRow]


class Recover(msgspec.Struct):
    """ids empty: everything that matches `text`. into "": where each item was, or the Inbox."""

    address: str
    ids: list[str] = []
    text: str = ""
    into: str = ""
