"""The administration API's handlers, in the directory role (docs/seams.md 7).

In     calls on admin.sock: the operator's own uid, by the kernel's word.
Out    what ops.py says. Every change is in the audit log, durably, before it is answered; passwords never are.
Fails  RpcError. A change whose audit event cannot be written is refused before it is made.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from atoll.admin import ops
from atoll.admin.listing import REACHED, Listing
from atoll.admin.relay import Relay
from atoll.base import audit as audit_log
from atoll.base.ids import from_text, to_text
from atoll.directory.client.model import MAX_PASSWORD, ClientFacts, GroupInfo, MailboxInfo, Quota
from atoll.directory.server.auth import hashes
from atoll.directory.server.dkim import KINDS
from atoll.directory.server.groups import name_of
from atoll.directory.server.parts import Parts
from atoll.directory.server.register import secret
from atoll.directory.server.removal import Removed
from atoll.directory.server.sessions import Grant, NoAudience
from atoll.runtime.rpc import Call, Empty, Handler, RpcError

_SECRET = frozenset({"password", "hash"})
"""Parameters that never reach the audit log."""
_READS = frozenset({"check", "list", "show", "get", "verify", "usage", "backups", "recoverable", "trace", "removed"})


class AdminService:
    """One method per operation that the directory does itself; the others are relayed."""

    def __init__(self, parts: Parts, relay: Relay, *, audit_path: Path,
                 sockets: dict[str, Callable[[str], Path]], keep_days: int = 30) -> None:
        """sockets: protocol -> path of a backend's socket. keep_days: for which removed mailboxes are kept."""
        self._parts = parts
        self._relay = relay
        self._register = parts.register
        self._removed = Removed(parts.database)
        self._groups = parts.recipients.groups
        self._keep_days = keep_days
        self._listing = Listing(parts.database, parts.recipients, parts.sessions)
        self._audit = parts.audit
        self._audit_path = audit_path
        self._sockets = sockets
        self._own: dict[str, Callable[[Call, Any], Awaitable[msgspec.Struct | None]]] = {
            "domain.create": self.domain_create, "domain.list": self.domain_list, "domain.show": self.domain_show,
            "domain.change": self.domain_change, "domain.remove": self.domain_remove,
            "dkim.create": self.dkim_create, "dkim.list": self.dkim_list, "dkim.remove": self.dkim_remove,
            "mailbox.create": self.mailbox_create, "mailbox.list": self.mailbox_list,
            "mailbox.show": self.mailbox_show, "mailbox.change": self.mailbox_change,
            "mailbox.disable": self.mailbox_disable, "mailbox.enable": self.mailbox_enable,
            "mailbox.remove": self.mailbox_remove, "mailbox.removed": self.mailbox_removed,
            "mailbox.restore": self.mailbox_restore, "mailbox.purge": self.mailbox_purge,
            "mailbox.password": self.mailbox_password,
            "alias.create": self.alias_create, "alias.list": self.alias_list, "alias.remove": self.alias_remove,
            "group.create": self.group_create, "group.list": self.group_list, "group.show": self.group_show,
            "group.change": self.group_change, "group.remove": self.group_remove,
            "group.add": self.group_add, "group.drop": self.group_drop,
            "app-password.create": self.app_password_create, "app-password.list": self.app_password_list,
            "app-password.remove": self.app_password_remove,
            "quota.show": self.quota_show, "quota.list": self.quota_list, "quota.set": self.quota_set,
            "setting.get": self.setting_get, "setting.set": self.setting_set,
            "audit.list": self.audit_list, "audit.verify": self.audit_verify, "token.create": self.token_create,
            "session.list": self.session_list, "session.end": self.session_end,
            "database.list": self.database_list, "database.mount": self.database_mount,
            "database.dismount": self.database_dismount,
        }

    def handlers(self) -> dict[str, Handler]:
        """The whole table."""
        return {name: (op.params, self._audited(name, self._own.get(name) or self._relayed(name, op)))
                for name, op in ops.OPS.items()}

    def _audited(self, name: str, handler: Callable[[Call, Any], Awaitable[msgspec.Struct | None]]
                 ) -> Callable[[Call, Any], Awaitable[msgspec.Struct | None]]:
        if name.partition(".")[2] in _READS:
            return handler

        async def audited(call: Call, params: msgspec.Struct) -> msgspec.Struct | None:
            what = {key: _fact(value) for key, value in msgspec.structs.asdict(params).items()
                    if key not in _SECRET and value not in ("", None, [])}
            who = {"operator": call.peer.uid, "pid": call.peer.pid}
            try:
                await self._audit.durable(f"admin.{name}", **who, phase="asked", params=what)
                result = await handler(call, params)
            except audit_log.AuditFailed:
                raise RpcError("temporary", "the audit log cannot be written: nothing is changed") from None
            except RpcError as error:
                self._audit.append(f"admin.{name}", **who, phase="refused", why=error.code, params=what)
                raise
            try:
                await self._audit.durable(f"admin.{name}", **who, phase="done", params=what)
            except audit_log.AuditFailed:
                pass  # the change is committed and was announced; the event stays queued
            return result

        return audited

    # -- domains, aliases --------------------------------------------------------------------------------------
    async def domain_create(self, call: Call, ask: ops.DomainName) -> None:
        await self._register.create_domain(ask.name)

    async def domain_list(self, call: Call, ask: Empty) -> ops.Domains:
        return ops.Domains(self._listing.domains())

    async def domain_show(self, call: Call, ask: ops.DomainName) -> ops.DomainRow:
        return self._listing.domains(ask.name)[0]

    async def domain_change(self, call: Call, ask: ops.DomainChange) -> None:
        await self._register.change_domain(ask.name, ask.catch_all)

    async def domain_remove(self, call: Call, ask: ops.DomainName) -> None:
        await self._register.remove_domain(ask.name)

    async def dkim_create(self, call: Call, ask: ops.DkimCreate) -> None:
        await self._parts.dkim.create(ask.domain, ask.kinds or KINDS)

    async def dkim_list(self, call: Call, ask: ops.DkimFilter) -> ops.DkimRows:
        return ops.DkimRows([ops.DkimRow(name, selector, kind, f"{selector}._domainkey.{name}", record, created)
                             for name, selector, kind, record, created in self._parts.dkim.rows(ask.domain)])

    async def dkim_remove(self, call: Call, ask: ops.DkimName) -> None:
        await self._parts.dkim.remove(ask.domain, ask.selector)

    async def alias_create(self, call: Call, ask: ops.AliasCreate) -> None:
        await self._register.create_alias(ask.alias, ask.mailbox)

    async def alias_list(self, call: Call, ask: ops.AliasFilter) -> ops.Aliases:
        return ops.Aliases(self._listing.aliases(ask))

    async def alias_remove(self, call: Call, ask: ops.AliasName) -> None:
        await self._register.remove_alias(ask.alias)

    # -- groups -------------------------------------------------------------------------------------------------
    async def group_create(self, call: Call, ask: ops.GroupCreate) -> None:
        await self._groups.create(ask.address, ask.display, ask.who, ask.members, ask.owners)

    async def group_list(self, call: Call, ask: ops.GroupFilter) -> ops.GroupRows:
        return ops.GroupRows([_group(one) for one in self._groups.all(ask.domain)])

    async def group_show(self, call: Call, ask: ops.GroupName) -> ops.GroupRow:
        found = self._groups.by_name(name_of(ask.address))
        if found is None:
            raise RpcError("not_found", f"no such group: {ask.address}")
        return _group(found)

    async def group_change(self, call: Call, ask: ops.GroupChange) -> None:
        await self._groups.change(ask.address, display=ask.display, who=ask.who)

    async def group_remove(self, call: Call, ask: ops.GroupName) -> None:
        await self._groups.remove(ask.address)

    async def group_add(self, call: Call, ask: ops.GroupMembers) -> ops.Count:
        return ops.Count(await self._groups.add(ask.address, ask.role, ask.others))

    async def group_drop(self, call: Call, ask: ops.GroupMembers) -> ops.Count:
        return ops.Count(await self._groups.drop(ask.address, ask.role, ask.others))

    # -- settings -----------------------------------------------------------------------------------------------
    async def setting_get(self, call: Call, ask: ops.SettingName) -> ops.Settings:
        return ops.Settings(self._listing.settings(ask.name))

    async def setting_set(self, call: Call, ask: ops.SettingSet) -> None:
        await self._register.set_setting(ask.name, ask.value)

    # -- mailboxes ----------------------------------------------------------------------------------------------
    async def _hashed(self, password: bytes, hash_: str) -> tuple[str, str]:
        """(stored hash, a made password or "")."""
        if hash_:
            try:
                return hashes.normal(hash_), ""
            except hashes.UnknownHash as error:
                raise RpcError("invalid", str(error)) from None
        if len(password) > MAX_PASSWORD:
            raise RpcError("invalid", f"a password has at most {MAX_PASSWORD} bytes")
        if password and len(password) < 8:
            raise RpcError("invalid", "a password has at least 8 bytes")
        made = "" if password else secret()
        chosen = password or made.encode()
        return await self._parts.lane.run("admin", "", lambda: hashes.make(chosen)), made

    async def mailbox_create(self, call: Call, ask: ops.MailboxCreate) -> ops.MailboxCreated:
        hash_, made = (None, "") if ask.shared else await self._hashed(ask.password, ask.hash)
        quota = Quota(ask.quota.warn, ask.quota.send, ask.quota.receive) if ask.quota else None
        _check_steps(quota)
        mailbox, user = await self._register.create_mailbox(
            ask.address, kind="shared" if ask.shared else "user", display=ask.display, hash_=hash_,
            database=ask.database, quota=quota)
        info = self._listing.info(ask.address)
        return ops.MailboxCreated(info.address, to_text(mailbox), to_text(user), info.database, made)

    async def mailbox_list(self, call: Call, ask: ops.MailboxFilter) -> ops.Mailboxes:
        return ops.Mailboxes(self._listing.mailboxes(ask))

    async def mailbox_show(self, call: Call, ask: ops.MailboxAddress) -> ops.MailboxShow:
        return self._listing.show(ask.address)

    async def mailbox_change(self, call: Call, ask: ops.MailboxChange) -> None:
        await self._register.change_mailbox(ask.address, display=ask.display, protocols=ask.protocols,
                                            app_only=ask.app_passwords_only)

    async def mailbox_disable(self, call: Call, ask: ops.MailboxAddress) -> None:
        await self._register.enable_mailbox(ask.address, False)

    async def mailbox_enable(self, call: Call, ask: ops.MailboxAddress) -> None:
        await self._register.enable_mailbox(ask.address, True)

    async def mailbox_remove(self, call: Call, ask: ops.MailboxAddress) -> None:
        await self._register.remove_mailbox(ask.address)

    async def mailbox_removed(self, call: Call, ask: ops.MailboxFilter) -> ops.RemovedRows:
        return ops.RemovedRows(self._listing.removed(ask, self._keep_days))

    async def mailbox_restore(self, call: Call, ask: ops.MailboxRestore) -> ops.MailboxRestored:
        restored = await self._removed.restore(ask.address, _id(ask.mailbox), ask.new)
        return ops.MailboxRestored(restored)

    async def mailbox_purge(self, call: Call, ask: ops.RemovedMailbox) -> None:
        await self._removed.purge(ask.address, _id(ask.mailbox))

    def _a_person(self, address: str) -> MailboxInfo:
        info = self._listing.info(address)
        if info.kind == "shared":
            raise RpcError("refused", "nobody signs in to a shared mailbox")
        return info

    async def mailbox_password(self, call: Call, ask: ops.MailboxPassword) -> ops.Password:
        info = self._a_person(ask.address)
        hash_, made = await self._hashed(ask.password, ask.hash)
        await self._register.set_hash(info.user, hash_)
        return ops.Password(made)

    async def app_password_create(self, call: Call, ask: ops.AppPasswordCreate) -> ops.AppPasswordCreated:
        self._a_person(ask.address)
        entity, password = await self._register.create_app_password(ask.address, ask.name, ask.protocols)
        return ops.AppPasswordCreated(to_text(entity), password)

    async def app_password_list(self, call: Call, ask: ops.MailboxAddress) -> ops.AppPasswords:
        return ops.AppPasswords(self._listing.app_passwords(self._listing.info(ask.address).user))

    async def app_password_remove(self, call: Call, ask: ops.AppPasswordRemove) -> None:
        try:
            entity = from_text(ask.id)
        except ValueError:
            raise RpcError("not_found", "no such app password") from None
        await self._register.remove_app_password(ask.address, entity)

    async def quota_show(self, call: Call, ask: ops.MailboxAddress) -> ops.QuotaShow:
        info = self._listing.info(ask.address)
        quota = ops.Quota(info.quota.warn, info.quota.send, info.quota.receive)
        shown = ops.QuotaShow(info.address, quota, self._listing.own_quota(info))
        try:
            async with asyncio.timeout(2):
                usage = await self._relay.ask(info.backend, "mailbox.usage", ask, ops.Usage)
            shown.used, shown.items = usage.used, usage.items
            shown.reached = REACHED[info.quota.step(usage.used)]
        except (RpcError, TimeoutError):
            pass  # its limits are worth showing without its use
        return shown

    async def quota_list(self, call: Call, ask: Empty) -> ops.QuotaRows:
        return ops.QuotaRows(self._listing.over_quota(self._parts.service.steps.reached()))

    async def quota_set(self, call: Call, ask: ops.QuotaSet) -> None:
        quota = Quota(ask.quota.warn, ask.quota.send, ask.quota.receive) if ask.quota else None
        _check_steps(quota)
        await self._register.change_mailbox(ask.address, quota=quota, default_quota=quota is None)

    # -- audit, tokens ------------------------------------------------------------------------------------------
    async def audit_list(self, call: Call, ask: ops.AuditFilter) -> ops.AuditEvents:
        user = ask.user
        if "@" in user:
            user = to_text(self._listing.info(user).user)

        def matching() -> list[dict[str, Any]]:
            found: deque[dict[str, Any]] = deque(maxlen=max(1, min(ask.limit, 10_000)))
            for event in audit_log.read(self._audit_path):
                kind = event["kind"]
                of_kind = not ask.kind or kind == ask.kind or kind.startswith(ask.kind + ".")
                if of_kind and event["time"] >= ask.since and user in ("", event.get("user")):
                    found.append(event)
            return list(found)

        return ops.AuditEvents(await asyncio.to_thread(matching))

    async def audit_verify(self, call: Call, ask: Empty) -> ops.AuditVerified:
        found = await asyncio.to_thread(audit_log.verify, self._audit_path)
        broken = f"{found.broken.file} line {found.broken.line}: {found.broken.why}" if found.broken else ""
        if not broken and (found.seq < self._audit.seq):
            broken = f"its end is missing: {found.seq} of {self._audit.seq} events"
        return ops.AuditVerified(not broken, found.lines, found.seq, found.hash, broken)

    async def token_create(self, call: Call, ask: ops.TokenAsk) -> ops.Token:
        info = self._listing.info(ask.address)
        epoch = self._parts.recipients.epoch(info.user)
        grant = Grant(info.user, info.mailbox, epoch, ask.protocol, info.address, "admin",
                      ClientFacts(ip=f"uid {call.peer.uid}"))
        try:
            signed = self._parts.sessions.issue(info.backend, grant, call.peer.pid)
        except NoAudience:
            raise RpcError("temporary", f"{info.backend} is not running") from None
        return ops.Token(signed.token, info.backend, str(self._sockets[ask.protocol](info.backend)),
                         to_text(info.mailbox), info.address)

    # -- relayed ------------------------------------------------------------------------------------------------
    def _backends(self) -> list[str]:
        return sorted({info.backend for info in self._parts.recipients.databases()})

    def _backend_of(self, database: str) -> str:
        for info in self._parts.recipients.databases():
            if info.name == database:
                return info.backend
        raise RpcError("not_found", f"no such database: {database[:64]}")

    def _relayed(self, name: str, op: ops.Op) -> Callable[[Call, Any], Awaitable[msgspec.Struct | None]]:
        async def relayed(call: Call, ask: Any) -> msgspec.Struct:
            role: str = op.where
            if op.where == "mailbox":
                role = self._listing.info(ask.address).backend if hasattr(ask, "address") \
                    else self._backend_of(ask.database)
            return await self._relay.ask(role, name, ask, op.result)

        return relayed

    async def session_list(self, call: Call, ask: ops.SessionFilter) -> ops.Sessions:
        user = to_text(self._listing.info(ask.address).user) if ask.address else ""
        answers = await self._relay.ask_all([*self._backends(), "transport"], "session.list",
                                            ops.SessionFilter(user=user), ops.Sessions)
        rows = []
        for role, answer in answers.items():
            rows += answer.sessions if isinstance(answer, ops.Sessions) else self._listing.given_to(role, user)
        return ops.Sessions(sorted(rows, key=lambda row: row.since))

    async def session_end(self, call: Call, ask: ops.SessionEnd) -> ops.Count:
        if bool(ask.sid) == bool(ask.address):
            raise RpcError("invalid", "a session id or an address")
        if ask.address:
            info = self._listing.info(ask.address)
            before = await self.session_list(call, ops.SessionFilter(ask.address))
            await self._register.end_sessions(info.user)
            return ops.Count(len(before.sessions))
        answers = await self._relay.ask_all([*self._backends(), "transport"], "session.end", ask, ops.Count)
        count = sum(answer.count for answer in answers.values() if isinstance(answer, ops.Count))
        if not count:
            raise RpcError("not_found", "no such session")
        return ops.Count(count)

    async def database_list(self, call: Call, ask: Empty) -> ops.Databases:
        answers = await self._relay.ask_all(self._backends(), "database.list", ask, ops.Databases)
        seen = {row.database: row for answer in answers.values() if isinstance(answer, ops.Databases)
                for row in answer.databases}
        for name, count in self._listing.mailboxes_of_databases().items():  # made at first use, they exist before
            if name in seen:
                seen[name].mailboxes = count
        return ops.Databases([seen.get(info.name) or ops.DatabaseRow(info.name, info.backend, "unknown",
                                                                     owner_epoch=info.owner_epoch)
                              for info in self._parts.recipients.databases()])

    async def _mounting(self, op: str, ask: ops.DatabaseName, on: bool) -> None:
        await self._relay.ask(self._backend_of(ask.database), op, ask, Empty)
        await self._register.set_mounted(ask.database, on)

    async def database_mount(self, call: Call, ask: ops.DatabaseName) -> None:
        await self._mounting("database.mount", ask, True)

    async def database_dismount(self, call: Call, ask: ops.DatabaseName) -> None:
        await self._mounting("database.dismount", ask, False)


def _check_steps(quota: Quota | None) -> None:
    if quota is None:
        return
    steps = (quota.warn, quota.send, quota.receive)
    if min(steps) < 0:
        raise RpcError("invalid", "a quota is 0 (none) or a number of bytes")
    wanted = [step for step in steps if step]
    if wanted != sorted(wanted):
        raise RpcError("invalid", "warn comes first, then no sending, then no receiving: a later step is not below an "
                                  "earlier one")


def _id(text: str) -> bytes:
    try:
        return from_text(text) if text else b""
    except ValueError:
        raise RpcError("not_found", "no such mailbox id") from None


def _fact(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def admits(uid: int) -> bool:
    """Who may administer: root and the user the island runs as."""
    return uid in (0, os.getuid())


def _group(one: GroupInfo) -> ops.GroupRow:
    return ops.GroupRow(one.address, one.display, one.who, list(one.members), list(one.owners), list(one.senders))
