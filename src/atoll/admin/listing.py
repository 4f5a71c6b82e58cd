"""The directory's rows as administrators read them.

In     filters of ops.
Out    result Structs of ops. Changes nothing.
Fails  RpcError("not_found"), RpcError("invalid").
"""

from __future__ import annotations

from typing import Any

from atoll.admin import ops
from atoll.base.ids import to_text
from atoll.directory.client.model import FULL, NO_SENDING, WARNED, WITHIN, MailboxInfo
from atoll.directory.server.database import Database
from atoll.directory.server.names import BadName, domain_of
from atoll.directory.server.recipients import MAILBOX_COLUMNS, MAILBOX_TABLES, Recipients
from atoll.directory.server.register import SETTINGS
from atoll.directory.server.sessions import Sessions
from atoll.runtime.rpc import RpcError

MAX_PAGE = 10_000
REACHED: dict[int, ops.Reached] = {WITHIN: "", WARNED: "warned", NO_SENDING: "no-sending", FULL: "full"}
_DOMAINS = """SELECT d.name,
    (SELECT count(*) FROM address a WHERE a.domain = d.id AND a.deleted = 0 AND a.is_primary = 1),
    (SELECT count(*) FROM address a WHERE a.domain = d.id AND a.deleted = 0 AND a.is_primary = 0),
    coalesce((SELECT m.address FROM mailbox m WHERE m.id = d.catch_all), '')
    FROM domain d WHERE d.deleted = 0 AND (? = '' OR d.name = ?) ORDER BY d.name"""
_MAILBOXES = f"""SELECT {MAILBOX_COLUMNS}, p.disabled FROM {MAILBOX_TABLES} JOIN person p ON p.id = m.person
    WHERE m.deleted = 0 AND m.address > ? AND (? = '' OR m.address LIKE ? ESCAPE '!')
    AND (? = '' OR m.address LIKE ? ESCAPE '!' OR m.display LIKE ? ESCAPE '!') ORDER BY m.address LIMIT ?"""  # noqa: S608 -- constants
_REMOVED = """SELECT address, display, db, id, coalesce(removed, 0) FROM mailbox
    WHERE deleted = 1 AND state = 'soft-deleted' AND (? = '' OR address LIKE ? ESCAPE '!')
    AND (? = '' OR address LIKE ? ESCAPE '!' OR display LIKE ? ESCAPE '!') ORDER BY removed DESC, address LIMIT ?"""
_ALIASES = """SELECT a.local || '@' || d.name, m.address FROM address a JOIN domain d ON d.id = a.domain
    JOIN mailbox m ON m.id = a.mailbox WHERE a.deleted = 0 AND a.is_primary = 0
    AND (? IS NULL OR m.id = ?) AND (? = '' OR d.name = ?) ORDER BY 1"""


def _like(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _domain(text: str) -> str:
    try:
        return domain_of(text)
    except BadName as error:
        raise RpcError("invalid", str(error)) from None


class Listing:
    """Reads for the administration API."""

    def __init__(self, database: Database, recipients: Recipients, sessions: Sessions) -> None:
        self._db = database
        self._sessions = sessions
        self._recipients = recipients

    def domains(self, name: str = "") -> list[ops.DomainRow]:
        wanted = _domain(name) if name else ""
        rows = [ops.DomainRow(*row) for row in self._db.rows(_DOMAINS, (wanted, wanted))]
        if wanted and not rows:
            raise RpcError("not_found", f"no such domain: {wanted}")
        return rows

    def info(self, address: str) -> MailboxInfo:
        """The mailbox with this address; RpcError("not_found")."""
        info = self._recipients.mailbox_of(address)
        if info is None:
            meant = self._recipients.login_name(address) if "@" not in address else None
            hint = f" (an address is name@domain: {meant}?)" if meant is not None else ""
            raise RpcError("not_found", f"no such mailbox: {address[:320]}{hint}")
        return info

    def mailboxes_of_databases(self) -> dict[str, int]:
        """database -> how many mailboxes live there."""
        return dict(self._db.rows("SELECT db, count(*) FROM mailbox WHERE deleted = 0 GROUP BY db"))

    def row(self, info: MailboxInfo, disabled: bool) -> ops.MailboxRow:
        quota = ops.Quota(info.quota.warn, info.quota.send, info.quota.receive)
        return ops.MailboxRow(address=info.address, display=info.display, kind=info.kind, state=info.state,
                              enabled=not disabled, database=info.database, quota=quota,
                              mailbox=to_text(info.mailbox), user=to_text(info.user))

    def mailboxes(self, ask: ops.MailboxFilter) -> list[ops.MailboxRow]:
        """One page, by address."""
        domain = "%@" + _like(_domain(ask.domain)) if ask.domain else ""
        text = f"%{_like(ask.text)}%"
        found = self._db.rows(_MAILBOXES, (ask.after, domain, domain, ask.text, text, text,
                                           max(1, min(ask.limit, MAX_PAGE))))
        return [self.row(self._recipients.info_of(row), bool(row[-1])) for row in found]

    def removed(self, ask: ops.MailboxFilter, keep_days: int) -> list[ops.RemovedRow]:
        """Removed mailboxes that can be restored, the newest first."""
        domain = "%@" + _like(_domain(ask.domain)) if ask.domain else ""
        text = f"%{_like(ask.text)}%"
        rows = self._db.rows(_REMOVED, (domain, domain, ask.text, text, text, max(1, min(ask.limit, MAX_PAGE))))
        keep = keep_days * 86_400_000
        return [ops.RemovedRow(row[0], row[1], row[2], to_text(row[3]), row[4], row[4] and row[4] + keep)
                for row in rows]

    def show(self, address: str) -> ops.MailboxShow:
        info = self.info(address)
        person = self._db.one("SELECT protocols, disabled, app_only, created FROM person WHERE id = ?", (info.user,))
        assert person is not None
        return ops.MailboxShow(mailbox=self.row(info, bool(person[1])),
                               aliases=[row.alias for row in self.aliases(ops.AliasFilter(mailbox=address))],
                               protocols=person[0].split(), app_passwords=len(self.app_passwords(info.user)),
                               app_passwords_only=bool(person[2]), own_quota=self.own_quota(info), created=person[3],
                               backend=info.backend)

    def over_quota(self, reached: dict[bytes, int]) -> list[ops.QuotaRow]:
        """Mailboxes that are over a limit, the fullest first."""
        rows = []
        for mailbox, step in reached.items():
            info = self._recipients.mailbox(mailbox)
            if info is not None:
                quota = ops.Quota(info.quota.warn, info.quota.send, info.quota.receive)
                rows.append((-step, info.address, ops.QuotaRow(info.address, REACHED[step], quota)))
        return [row for *_, row in sorted(rows, key=lambda row: row[:2])]

    def own_quota(self, info: MailboxInfo) -> bool:
        row = self._db.one("SELECT quota_warn FROM mailbox WHERE id = ?", (info.mailbox,))
        return row is not None and row[0] is not None

    def aliases(self, ask: ops.AliasFilter) -> list[ops.AliasRow]:
        mailbox = self.info(ask.mailbox).mailbox if ask.mailbox else None
        domain = _domain(ask.domain) if ask.domain else ""
        return [ops.AliasRow(*row) for row in self._db.rows(_ALIASES, (mailbox, mailbox, domain, domain))]

    def app_passwords(self, user: bytes) -> list[ops.AppPasswordRow]:
        rows = self._db.rows("""SELECT id, name, protocols, created FROM app_password
            WHERE person = ? AND deleted = 0 ORDER BY created, id""", (user,))
        return [ops.AppPasswordRow(to_text(row[0]), row[1], row[2].split(), row[3]) for row in rows]

    def given_to(self, backend: str, user: str) -> list[ops.SessionRow]:
        """Sessions as the directory gave them out: what is known of a backend that does not answer."""
        return [ops.SessionRow(live.sid, live.address, live.protocol, live.facts.ip, live.since, backend)
                for live in self._sessions.given_to(backend) if user in ("", to_text(live.user))]

    def settings(self, name: str) -> list[ops.SettingRow]:
        if name and name not in SETTINGS:
            raise RpcError("not_found", f"settings are {', '.join(sorted(SETTINGS))}")
        known: dict[str, Any] = dict(self._db.rows("SELECT name, value FROM setting WHERE deleted = 0"))
        return [ops.SettingRow(each, known.get(each), SETTINGS[each][0]) for each in sorted(SETTINGS)
                if name in ("", each)]
