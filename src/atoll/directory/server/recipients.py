"""Who is behind a name: the directory's questions that change nothing.

In     addresses, ids.
Out    RecipientInfo, MailboxInfo, Account; None when there is none.
Spec   an exact address first, then its part before the + ([RFC 5233 §4]), then the domain's catch-all.
       All reads go through the replica interface of Database.rows (ISLANDS 11.13).
"""

from __future__ import annotations

from typing import NamedTuple

from atoll.directory.client.model import Addressee, DatabaseInfo, MailboxInfo, Quota, RecipientInfo
from atoll.directory.server.database import Database, Row
from atoll.directory.server.groups import Groups
from atoll.directory.server.names import BadName, Name, address_of, domain_of, local_of, split_detail

MAILBOX_COLUMNS = """m.id, m.person, m.kind, m.db, b.backend, b.island, b.owner_epoch, m.quota_warn, m.quota_send,
    m.quota_receive, m.state, m.address, m.display"""
"""What info_of() reads, in this order."""
MAILBOX_TABLES = "mailbox m JOIN mailbox_db b ON b.name = m.db AND b.deleted = 0"
_MAILBOX = f"SELECT {MAILBOX_COLUMNS} FROM {MAILBOX_TABLES}"  # noqa: S608 -- constants
_BY_ADDRESS = _MAILBOX + """ JOIN address a ON a.mailbox = m.id AND a.deleted = 0
    JOIN domain d ON d.id = a.domain AND d.deleted = 0 WHERE d.name = ? AND a.local = ? AND m.deleted = 0"""
_BY_ID = _MAILBOX + " WHERE m.id = ? AND m.deleted = 0"
_CATCH_ALL = _MAILBOX + " JOIN domain d ON d.catch_all = m.id AND d.deleted = 0 WHERE d.name = ? AND m.deleted = 0"
_FIRST = _MAILBOX + " WHERE m.deleted = 0 ORDER BY m.created, m.kind DESC, m.address LIMIT 1"
_ACCOUNT = "SELECT id, hash, app_only, protocols, disabled, epoch FROM person WHERE id = ? AND deleted = 0"


class Account(NamedTuple):
    """What sign-in needs to know of a person."""

    user: bytes
    hash: str | None
    app_only: bool
    protocols: frozenset[str]
    disabled: bool
    epoch: int
    mailbox: MailboxInfo


class Recipients:
    """Answers from the directory's local copy."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.groups = Groups(database)
        self._default_quota: Quota | None = None
        database.on_committed.append(lambda events: self._forget())

    def _forget(self) -> None:
        self._default_quota = None

    def default_quota(self) -> Quota:
        """The organization's quota for mailboxes that have none of their own."""
        if self._default_quota is None:
            known: dict[str, str] = dict(self._db.rows(
                "SELECT name, value FROM setting WHERE name LIKE 'quota-%' AND deleted = 0"))
            self._default_quota = Quota(*(int(known.get(f"quota-{step}", 0)) for step in ("warn", "send", "receive")))
        return self._default_quota

    def _quota(self, warn: int | None, send: int | None, receive: int | None) -> Quota:
        base = self.default_quota()
        return Quota(base.warn if warn is None else warn, base.send if send is None else send,
                     base.receive if receive is None else receive)

    def _mailbox(self, row: Row | None) -> MailboxInfo | None:
        return None if row is None else self.info_of(row)

    def info_of(self, row: Row) -> MailboxInfo:
        """A row that begins with MAILBOX_COLUMNS."""
        return MailboxInfo(mailbox=row[0], user=row[1], kind=row[2], database=row[3], backend=row[4], island=row[5],
                           owner_epoch=row[6], quota=self._quota(*row[7:10]), state=row[10], address=row[11],
                           display=row[12])

    def is_local_domain(self, text: str) -> bool:
        try:
            name = domain_of(text)
        except BadName:
            return False
        return self._db.one("SELECT 1 FROM domain WHERE name = ? AND deleted = 0", (name,)) is not None

    def by_name(self, name: Name) -> MailboxInfo | None:
        """The mailbox with exactly this address."""
        return self._mailbox(self._db.one(_BY_ADDRESS, (name.domain, name.local)))

    def mailbox_of(self, address: str) -> MailboxInfo | None:
        """The mailbox with exactly this address, however it is written."""
        try:
            return self.by_name(address_of(address))
        except BadName:
            return None

    def mailbox(self, mailbox: bytes) -> MailboxInfo | None:
        return self._mailbox(self._db.one(_BY_ID, (mailbox,)))

    def quotas(self, database: str) -> list[tuple[bytes, Quota]]:
        """The mailboxes of a database that have limits, their own or the organization's."""
        rows = self._db.rows("""SELECT id, quota_warn, quota_send, quota_receive FROM mailbox
            WHERE db = ? AND deleted = 0""", (database,))
        found = [(row[0], self._quota(*row[1:])) for row in rows]
        return [(mailbox, quota) for mailbox, quota in found if quota != Quota()]

    def recipient(self, address: str) -> Addressee | None:
        """Where mail for this address goes."""
        bare = address.casefold() == "postmaster"  # [RFC 5321 §4.5.1] also without a domain
        try:
            name = address_of(address) if not bare else self.login_name(address)
        except BadName:
            return None
        if name is None:
            return None
        detail = ""
        info = self.by_name(name)
        if info is None and (group := self.groups.by_name(name)) is not None:
            return group
        if info is None:
            base, detail = split_detail(name.local)
            if detail:
                info = self.by_name(Name(base, name.domain))
        if info is None:
            detail = ""
            info = self._mailbox(self._db.one(_CATCH_ALL, (name.domain,)))
        if info is None and name.local == "postmaster" and self.is_local_domain(name.domain):
            info = self._postmaster()
        if info is None:
            return None
        return RecipientInfo(address=info.address, kind="mailbox", mailbox=info.mailbox, database=info.database,
                             backend=info.backend, island=info.island, owner_epoch=info.owner_epoch, quota=info.quota,
                             detail=detail, user=info.user, display=info.display)

    def _postmaster(self) -> MailboxInfo | None:
        """Who reads mail for postmaster where no such mailbox is: as set, or the organization's first mailbox."""
        chosen = self._db.one("SELECT value FROM setting WHERE name = 'postmaster' AND deleted = 0")
        info = self.mailbox_of(chosen[0]) if chosen else None
        return info or self._mailbox(self._db.one(_FIRST))

    def login_name(self, login: str) -> Name | None:
        """What a login name means: an address, or a local part of the organization's main domain."""
        try:
            if "@" in login:
                return address_of(login)
            domain = self._db.one("SELECT value FROM setting WHERE name = 'default-domain' AND deleted = 0")
            if domain is None:
                found = self._db.rows("SELECT name FROM domain WHERE deleted = 0 ORDER BY name LIMIT 2")
                domain = found[0] if len(found) == 1 else None
            return Name(local_of(login), domain[0]) if domain else None
        except BadName:
            return None

    def account(self, name: Name) -> Account | None:
        """The person who signs in with this address (primary or alias)."""
        info = self.by_name(name)
        if info is None or info.kind != "user":
            return None
        row = self._db.one(_ACCOUNT, (info.user,))
        if row is None:
            return None
        return Account(row[0], row[1], bool(row[2]), frozenset(row[3].split()), bool(row[4]), row[5], info)

    def epoch(self, user: bytes) -> int:
        """The person's credential epoch now; -1 when there is no such person."""
        row = self._db.one("SELECT epoch FROM person WHERE id = ? AND deleted = 0", (user,))
        return int(row[0]) if row else -1

    def app_password(self, user: bytes, digest: bytes, protocol: str) -> bytes | None:
        """The id of the app password with this digest, if it is good for this protocol."""
        row = self._db.one("SELECT id, protocols FROM app_password WHERE person = ? AND digest = ? AND deleted = 0",
                           (user, digest))
        return row[0] if row and protocol in row[1].split() else None

    def may_send_as(self, user: bytes, address: str) -> bool:
        """A person may write as any address of his own mailbox, +detail included."""
        try:
            name = address_of(address)
        except BadName:
            return False
        info = self.by_name(name)
        if info is None:
            base, detail = split_detail(name.local)
            info = self.by_name(Name(base, name.domain)) if detail else None
        return info is not None and info.user == user

    def databases(self, backend: str = "") -> list[DatabaseInfo]:
        """The mailbox databases of one role, or all."""
        rows = self._db.rows("""SELECT name, backend, island, owner_epoch, mounted FROM mailbox_db
            WHERE deleted = 0 AND backend LIKE 'mailbox-%' AND (? = '' OR backend = ?) ORDER BY name""",
                             (backend, backend))
        return [DatabaseInfo(row[0], row[1], row[2], row[3], bool(row[4])) for row in rows]
