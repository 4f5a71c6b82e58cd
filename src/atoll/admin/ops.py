"""The administration API: every operation's parameters and result, once (docs/adr/0001, docs/seams.md 7).

In/Out  msgspec Structs; ids in their text form, sizes in bytes, times in ms since 1970 UTC, durations in seconds.
Spec    OPS: name -> Op(params, result, where). `where` says who does it: "directory" itself; or it relays to "mailbox"
        (the role that has the database, or the mailbox's database), "mailboxes" (each of them, answers joined),
        "sessions" (mailboxes and transport), "transport", "supervisor". A relayed operation has the same name and types
        on the role's op socket.
Not     a place for behaviour.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from atoll.admin.ops_dkim import DkimCreate, DkimFilter, DkimName, DkimRow, DkimRows, DkimState, DkimStates
from atoll.admin.ops_groups import (
    GroupChange,
    GroupCreate,
    GroupFilter,
    GroupMembers,
    GroupName,
    GroupRow,
    GroupRows,
    Role,
    Who,
)
from atoll.admin.ops_mailbox import (
    MailboxAddress,
    MailboxChange,
    MailboxCreate,
    MailboxCreated,
    Mailboxes,
    MailboxFilter,
    MailboxPassword,
    MailboxRestore,
    MailboxRestored,
    MailboxRow,
    MailboxShow,
    Password,
    Quota,
    QuotaRow,
    QuotaRows,
    QuotaSet,
    QuotaShow,
    Reached,
    Recover,
    RecoverableFilter,
    RecoverableRow,
    Recoverables,
    RemovedMailbox,
    RemovedRow,
    RemovedRows,
    Usage,
)
from atoll.admin.ops_roles import RoleRestart, RoleRow, Roles
from atoll.admin.ops_transport import (
    Piece,
    PieceOf,
    QueueAct,
    QueuedMessage,
    QueuedMessages,
    QueueName,
    QueueRow,
    Queues,
    QueueStop,
    Trace,
    TraceFilter,
    TraceRow,
)
from atoll.runtime.rpc import Empty

__all__ = [
    "DkimCreate",
    "DkimFilter",
    "DkimName",
    "DkimRow",
    "DkimRows",
    "DkimState",
    "DkimStates",
    "GroupChange",
    "GroupCreate",
    "GroupFilter",
    "GroupMembers",
    "GroupName",
    "GroupRow",
    "GroupRows",
    "MailboxAddress",
    "MailboxChange",
    "MailboxCreate",
    "MailboxCreated",
    "MailboxFilter",
    "MailboxPassword",
    "MailboxRestore",
    "MailboxRestored",
    "MailboxRow",
    "MailboxShow",
    "Mailboxes",
    "Password",
    "Piece",
    "PieceOf",
    "QueueAct",
    "QueueName",
    "QueueRow",
    "QueueStop",
    "QueuedMessage",
    "QueuedMessages",
    "Queues",
    "Quota",
    "QuotaRow",
    "QuotaRows",
    "QuotaSet",
    "QuotaShow",
    "Reached",
    "Recover",
    "RecoverableFilter",
    "RecoverableRow",
    "Recoverables",
    "RemovedMailbox",
    "RemovedRow",
    "RemovedRows",
    "Role",
    "RoleRestart",
    "RoleRow",
    "Roles",
    "Trace",
    "TraceFilter",
    "TraceRow",
    "Usage",
    "Who",
]


class Count(msgspec.Struct):
    """How many were done."""

    count: int


# -- domains ---------------------------------------------------------------------------------------------------------
class DomainName(msgspec.Struct):
    name: str


class DomainChange(msgspec.Struct):
    name: str
    catch_all: str
    """A mailbox address; "" for none."""


class DomainRow(msgspec.Struct):
    name: str
    mailboxes: int
    aliases: int
    catch_all: str = ""


class Domains(msgspec.Struct):
    domains: list[DomainRow]


# -- aliases, app passwords, settings --------------------------------------------------------------------------------
class AliasCreate(msgspec.Struct):
    alias: str
    mailbox: str


class AliasName(msgspec.Struct):
    alias: str


class AliasFilter(msgspec.Struct):
    """Of one mailbox, of one domain, or all."""

    mailbox: str = ""
    domain: str = ""


class AliasRow(msgspec.Struct):
    alias: str
    mailbox: str


class Aliases(msgspec.Struct):
    aliases: list[AliasRow]


class AppPasswordCreate(msgspec.Struct):
    address: str
    name: str
    protocols: list[str]


class AppPasswordCreated(msgspec.Struct):
    id: str
    password: str


class AppPasswordRow(msgspec.Struct):
    id: str
    name: str
    protocols: list[str]
    created: int


class AppPasswords(msgspec.Struct):
    app_passwords: list[AppPasswordRow]


class AppPasswordRemove(msgspec.Struct):
    address: str
    id: str


class SettingName(msgspec.Struct):
    """name "": all of them."""

    name: str = ""


class SettingSet(msgspec.Struct):
    """value None: back to the default."""

    name: str
    value: str | None


class SettingRow(msgspec.Struct):
    name: str
    value: str | None
    about: str


class Settings(msgspec.Struct):
    settings: list[SettingRow]


# -- sessions --------------------------------------------------------------------------------------------------------
class SessionFilter(msgspec.Struct):
    """address "": everybody's. On an op socket `user` (text id) is set instead of the address."""

    address: str = ""
    user: str = ""


class SessionRow(msgspec.Struct):
    sid: str
    address: str
    protocol: str
    ip: str
    since: int
    backend: str
    idle: float = 0.0
    folder: str = ""


class Sessions(msgspec.Struct):
    sessions: list[SessionRow]


class SessionEnd(msgspec.Struct):
    """One session by its id, or all of a person by address."""

    sid: str = ""
    address: str = ""


# -- databases -------------------------------------------------------------------------------------------------------
class DatabaseName(msgspec.Struct):
    database: str


class DatabaseRow(msgspec.Struct):
    """state: mounted, dismounted, or unknown (its role does not answer)."""

    database: str
    backend: str
    state: str
    mailboxes: int = 0
    size: int = 0
    owner_epoch: int = 0


class Databases(msgspec.Struct):
    databases: list[DatabaseRow]


class DatabaseCheck(msgspec.Struct):
    database: str
    repair: bool = False


class Problem(msgspec.Struct):
    """One thing that does not hold. repaired: it was derived anew."""

    kind: str
    where: str
    text: str
    repaired: bool = False


class CheckReport(msgspec.Struct):
    database: str
    checked: dict[str, int]
    problems: list[Problem]
    seconds: float


class Rescanned(msgspec.Struct):
    """Contents that could not be looked into: looked at again, read now, refused again, left (content role away)."""

    database: str
    looked: int
    mended: int
    refused: int
    left: int


class BackupMade(msgspec.Struct):
    """The server names the file, under the data directory."""

    database: str
    backup: str
    size: int
    seconds: float


class BackupRow(msgspec.Struct):
    database: str
    backup: str
    size: int
    made: int


class Backups(msgspec.Struct):
    backups: list[BackupRow]


class DatabaseRestore(msgspec.Struct):
    """From a backup: the whole database (no mailbox given), one mailbox, one of its folders, or one item of it.

    What is restored of a mailbox lands in a folder of its own beside the live content.
    """

    database: str
    backup: str
    mailbox: str = ""
    folder: str = ""
    item: str = ""


class Restored(msgspec.Struct):
    """into: a folder, or the database; kept: the file with what was in the database before."""

    items: int
    into: str
    kept: str = ""


# -- health, audit, tokens -------------------------------------------------------------------------------------------
class HealthRow(msgspec.Struct):
    role: str
    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str = ""


class Health(msgspec.Struct):
    state: Literal["ok", "warn", "fail"]
    version: str
    rows: list[HealthRow]


class AuditFilter(msgspec.Struct):
    """The newest `limit` events that match, oldest of them first. kind: "auth" matches "auth.failed"."""

    kind: str = ""
    user: str = ""
    since: int = 0
    limit: int = 100


class AuditEvents(msgspec.Struct):
    events: list[dict[str, int | float | str | bool | dict[str, str] | None]]


class AuditVerified(msgspec.Struct):
    ok: bool
    lines: int
    seq: int
    hash: str
    broken: str = ""


class TokenAsk(msgspec.Struct):
    """A token that opens this mailbox as its owner, for the asking process itself, once, within 60 s."""

    address: str
    protocol: Literal["imap", "pop3"] = "imap"


class Token(msgspec.Struct):
    """socket: the path to connect to."""

    token: str
    backend: str
    socket: str
    mailbox: str
    address: str


Where = Literal["directory", "mailbox", "mailboxes", "sessions", "transport", "supervisor"]


class Op(NamedTuple):
    """One row of the API."""

    params: type[msgspec.Struct]
    result: type[msgspec.Struct]
    where: Where = "directory"


OPS: dict[str, Op] = {
    "domain.create": Op(DomainName, Empty),
    "domain.list": Op(Empty, Domains),
    "domain.show": Op(DomainName, DomainRow),
    "domain.change": Op(DomainChange, Empty),
    "domain.remove": Op(DomainName, Empty),
    "dkim.create": Op(DkimCreate, Empty),
    "dkim.check": Op(DkimFilter, DkimStates, "transport"),
    "dkim.list": Op(DkimFilter, DkimRows),
    "dkim.remove": Op(DkimName, Empty),
    "mailbox.create": Op(MailboxCreate, MailboxCreated),
    "mailbox.list": Op(MailboxFilter, Mailboxes),
    "mailbox.show": Op(MailboxAddress, MailboxShow),
    "mailbox.change": Op(MailboxChange, Empty),
    "mailbox.disable": Op(MailboxAddress, Empty),
    "mailbox.enable": Op(MailboxAddress, Empty),
    "mailbox.remove": Op(MailboxAddress, Empty),
    "mailbox.removed": Op(MailboxFilter, RemovedRows),
    "mailbox.restore": Op(MailboxRestore, MailboxRestored),
    "mailbox.purge": Op(RemovedMailbox, Empty),
    "mailbox.password": Op(MailboxPassword, Password),
    "mailbox.usage": Op(MailboxAddress, Usage, "mailbox"),
    "mailbox.recoverable": Op(RecoverableFilter, Recoverables, "mailbox"),
    "mailbox.recover": Op(Recover, Count, "mailbox"),
    "alias.create": Op(AliasCreate, Empty),
    "alias.list": Op(AliasFilter, Aliases),
    "alias.remove": Op(AliasName, Empty),
    "group.create": Op(GroupCreate, Empty),
    "group.list": Op(GroupFilter, GroupRows),
    "group.show": Op(GroupName, GroupRow),
    "group.change": Op(GroupChange, Empty),
    "group.remove": Op(GroupName, Empty),
    "group.add": Op(GroupMembers, Count),
    "group.drop": Op(GroupMembers, Count),
    "app-password.create": Op(AppPasswordCreate, AppPasswordCreated),
    "app-password.list": Op(MailboxAddress, AppPasswords),
    "app-password.remove": Op(AppPasswordRemove, Empty),
    "quota.show": Op(MailboxAddress, QuotaShow),
    "quota.list": Op(Empty, QuotaRows),
    "quota.set": Op(QuotaSet, Empty),
    "setting.get": Op(SettingName, Settings),
    "setting.set": Op(SettingSet, Empty),
    "session.list": Op(SessionFilter, Sessions, "sessions"),
    "session.end": Op(SessionEnd, Count, "sessions"),
    "database.list": Op(Empty, Databases, "mailboxes"),
    "database.mount": Op(DatabaseName, Empty, "mailbox"),
    "database.dismount": Op(DatabaseName, Empty, "mailbox"),
    "database.check": Op(DatabaseCheck, CheckReport, "mailbox"),
    "database.rescan": Op(DatabaseName, Rescanned, "mailbox"),
    "database.backup": Op(DatabaseName, BackupMade, "mailbox"),
    "database.backups": Op(DatabaseName, Backups, "mailbox"),
    "database.restore": Op(DatabaseRestore, Restored, "mailbox"),
    "queue.list": Op(Empty, Queues, "transport"),
    "queue.show": Op(QueueName, QueuedMessages, "transport"),
    "queue.retry": Op(QueueAct, Count, "transport"),
    "queue.remove": Op(QueueAct, Count, "transport"),
    "queue.suspend": Op(QueueStop, Empty, "transport"),
    "queue.export": Op(PieceOf, Piece, "transport"),
    "message.trace": Op(TraceFilter, Trace, "transport"),
    "health.show": Op(Empty, Health, "supervisor"),
    "role.list": Op(Empty, Roles, "supervisor"),
    "role.restart": Op(RoleRestart, RoleRow, "supervisor"),
    "audit.list": Op(AuditFilter, AuditEvents),
    "audit.verify": Op(Empty, AuditVerified),
    "token.create": Op(TokenAsk, Token),
}
