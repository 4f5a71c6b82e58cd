"""What an operator asks of a mailbox process: databases, recoverable items, sessions.

In     the operations of admin.ops whose `where` is mailbox, mailboxes or sessions, on the op socket.
Out    their results; work goes on in the event loop beside the mail.
Spec   docs/seams.md 7. Files are named here, under DATA/mbox/N, never by the caller.
Fails  RpcError.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from atoll.admin import ops
from atoll.base.ids import MailboxId, UserId, to_text
from atoll.content import Scanner
from atoll.directory.client.backend import Backend
from atoll.directory.client.model import MailboxInfo
from atoll.directory.client.tokens import Claims
from atoll.mailbox.access import Access
from atoll.mailbox.backup import Archive, backup, bring_back, rebuild_database, restore_database
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import StoreCode, StoreError
from atoll.mailbox.integrity import check
from atoll.mailbox.model import Content, Deleted
from atoll.mailbox.store import Store
from atoll.runtime.rpc import Call, Empty, RpcError
from atoll.sql import Engine, SqlError

log = logging.getLogger(__name__)

CODES = {StoreCode.NO_FOLDER: "not_found", StoreCode.GONE: "not_found", StoreCode.EXISTS: "exists",
         StoreCode.NO_RIGHT: "denied", StoreCode.UNAVAILABLE: "temporary", StoreCode.OVER_QUOTA: "refused"}
ADMINISTRATOR = UserId(b"\xff" * 16)
Handler = tuple[type, Callable[[Call, Any], Awaitable[Any]]]


class Sessions(Protocol):
    """A server's open sessions."""

    def sessions(self) -> Iterable[Any]: ...


class Operator:
    """Serves the op socket of one mailbox process."""

    def __init__(self, store: Store, engine: Engine, backend: Backend, name: str, folder: Path,
                 servers: dict[str, Sessions], scanner: Scanner,
                 health: Callable[[str, str, str], None] = lambda name, state, detail: None) -> None:
        """health: told (name, state, detail) of databases that are opened and closed."""
        self._store = store
        self._scanner = scanner
        self._engine = engine
        self._backend = backend
        self._name = name
        self._folder = folder
        self._servers = servers
        self._health = health

    def handlers(self) -> dict[str, Handler]:
        """For RpcServer."""
        does: dict[str, Callable[[Call, Any], Awaitable[Any]]] = {
            "mailbox.usage": self.usage, "mailbox.recoverable": self.recoverable, "mailbox.recover": self.recover,
            "session.list": self.session_list, "session.end": self.session_end,
            "database.list": self.database_list, "database.mount": self.mount, "database.dismount": self.dismount,
            "database.check": self.check, "database.rescan": self.rescan,
            "database.backup": self.backup, "database.backups": self.backups,
            "database.restore": self.restore}
        return {name: (ops.OPS[name].params, _told(handler)) for name, handler in does.items()}

    async def _info(self, address: str) -> MailboxInfo:
        info = await self._backend.mailbox_of(address)
        if info is None:
            raise RpcError("not_found", f"no such mailbox: {address}")
        return info

    async def _open(self, address: str) -> Access:
        info = await self._info(address)
        return await self._store.open(MailboxId(info.mailbox), ADMINISTRATOR, scope="admin")

    # -- mailboxes ----------------------------------------------------------------------------------------------
    async def usage(self, call: Call, ask: ops.MailboxAddress) -> ops.Usage:
        quota = (await self._open(ask.address)).quota()
        return ops.Usage(quota.bytes, quota.items)

    async def recoverable(self, call: Call, ask: ops.RecoverableFilter) -> ops.Recoverables:
        access = await self._open(ask.address)
        return ops.Recoverables([ops.RecoverableRow(str(one.id), one.subject, one.sender, one.from_path, one.deleted,
                                                    one.size) for one in _matching(access, ask.text)[:ask.limit]])

    async def recover(self, call: Call, ask: ops.Recover) -> ops.Count:
        access = await self._open(ask.address)
        there = {str(one.id): one.id for one in _matching(access, ask.text)}
        missing = [one for one in ask.ids if one not in there]
        if missing:  # all or nothing: a mistyped id must not stand for everything
            raise RpcError("not_found", f"no such recoverable item: {missing[0][:64]}")
        target = None
        if ask.into:
            try:
                target = access.folder(ask.into)
            except StoreError:
                target = await access.create(ask.into)
        return ops.Count(len(await access.recover([there[one] for one in ask.ids] or list(there.values()), target)))

    # -- sessions -----------------------------------------------------------------------------------------------
    async def session_list(self, call: Call, ask: ops.SessionFilter) -> ops.Sessions:
        rows = []
        for protocol, server in self._servers.items():
            for session in server.sessions():
                claims: Claims | None = session.claims
                if claims is not None and ask.user in ("", to_text(claims.sub)):
                    idle = max(0.0, self._store.clock.monotonic() - session.last_active)
                    rows.append(ops.SessionRow(claims.sid, claims.adr, protocol, claims.ip, claims.iat, self._name,
                                               idle, _place(session)))
        return ops.Sessions(rows)

    async def session_end(self, call: Call, ask: ops.SessionEnd) -> ops.Count:
        count = 0
        for server in self._servers.values():
            for session in list(server.sessions()):
                if session.claims is not None and session.claims.sid == ask.sid:
                    session.transport.close()
                    count += 1
        return ops.Count(count)

    # -- databases ----------------------------------------------------------------------------------------------
    async def database_list(self, call: Call, ask: Empty) -> ops.Databases:
        rows = []
        mounted = self._store.mounted()
        for name in sorted({*mounted, *self._store.known()}):
            if name in mounted:
                database = self._store.database(name)
                (count,) = database.reader.one("SELECT count(*) FROM mailbox") or (0,)
                rows.append(ops.DatabaseRow(name, self._name, "mounted", count, database.database.size(),
                                            database.epoch))
            else:
                rows.append(ops.DatabaseRow(name, self._name, "dismounted"))
        return ops.Databases(rows)

    async def mount(self, call: Call, ask: ops.DatabaseName) -> Empty:
        await self._store.mount(ask.database, self._store.path_of(ask.database))
        self._health(f"database {ask.database}", "ok", "")
        return Empty()

    async def dismount(self, call: Call, ask: ops.DatabaseName) -> Empty:
        self._store.path_of(ask.database)
        await self._store.dismount(ask.database)
        self._health(f"database {ask.database}", "warn", dismounted(ask.database))
        return Empty()

    def _database(self, name: str) -> MailboxDatabase:
        if self._store.is_dismounted(name):
            raise RpcError("refused", f"{name} is {dismounted(name)}")
        return self._store.database(name)

    async def check(self, call: Call, ask: ops.DatabaseCheck) -> ops.CheckReport:
        started = time.monotonic()
        if ask.repair and ask.database not in self._store.mounted():  # perhaps because it is damaged
            await rebuild_database(self._store, self._engine, ask.database)
        report = await check(self._database(ask.database), repair=ask.repair)
        if ask.repair and any(problem.kind == "page" for problem in report.problems):
            kept = await rebuild_database(self._store, self._engine, ask.database)
            log.warning("database rebuilt", extra={"f": {"database": ask.database, "damaged": kept.name}})
            after = await check(self._store.database(ask.database), repair=True)
            report.problems += after.problems
        return ops.CheckReport(ask.database, report.checked,
                               [ops.Problem(one.kind, one.where, one.text, one.repaired) for one in report.problems],
                               time.monotonic() - started)

    async def rescan(self, call: Call, ask: ops.DatabaseName) -> ops.Rescanned:
        found = await self._store.rescan(ask.database).all()
        return ops.Rescanned(ask.database, found.looked, found.mended, found.refused, found.left)

    async def backup(self, call: Call, ask: ops.DatabaseName) -> ops.BackupMade:
        started = time.monotonic()
        database = self._database(ask.database)
        folder = self._folder / "backups"
        name = f"{ask.database}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(self._store.clock.now_ms() / 1000))}"
        await asyncio.to_thread(folder.mkdir, mode=0o700, exist_ok=True)
        size = await backup(database, self._engine, folder / f"{name}.sqlite")
        return ops.BackupMade(ask.database, name, size, time.monotonic() - started)

    async def backups(self, call: Call, ask: ops.DatabaseName) -> ops.Backups:
        return ops.Backups(await asyncio.to_thread(_listed, self._folder / "backups", ask.database))

    async def _scanned(self, data: bytes) -> Content:
        return Content(data, await self._scanner.scan(data))

    async def restore(self, call: Call, ask: ops.DatabaseRestore) -> ops.Restored:
        known = await asyncio.to_thread(_listed, self._folder / "backups", ask.database)
        if ask.backup not in [one.backup for one in known]:
            raise RpcError("not_found", f"no such backup: {ask.backup[:64]} (atoll database backups {ask.database})")
        source = self._folder / "backups" / f"{ask.backup}.sqlite"
        if not ask.mailbox:
            kept = await restore_database(self._store, self._engine, ask.database, source)
            self._health(f"database {ask.database}", "ok", "")
            return ops.Restored(0, ask.database, kept.name)
        if (await self._info(ask.mailbox)).database != ask.database:
            raise RpcError("not_found", f"{ask.mailbox} is not in {ask.database}")
        access = await self._open(ask.mailbox)
        into = f"Restored {ask.backup}"
        archive = Archive(self._engine, source)
        try:
            count = await bring_back(access, archive, self._scanned, into, folder=ask.folder, item=_item(ask.item))
        finally:
            archive.close()
        return ops.Restored(count, into)


def _place(session: Any) -> str:
    """The folder that an IMAP session has selected here; POP3 has the INBOX only, and does not say so."""
    selected = getattr(session, "selected", None)
    return "" if selected is None else str(selected.folder.path)


def dismounted(name: str) -> str:
    """What is said of a database that an administrator has closed."""
    return f"dismounted: atoll database mount {name} opens it"


def _item(text: str) -> int:
    """An item's id, as digits or as EMAILID ("M1f...")."""
    try:
        item = int(text[1:].partition("-")[0], 16) if text.startswith("M") else int(text or "0")
    except ValueError:
        item = -1
    if not 0 <= item < 1 << 63:
        raise RpcError("invalid", "not an item's id")
    return item


def _matching(access: Access, text: str) -> list[Deleted]:
    wanted = text.casefold()
    return [one for one in access.recoverable() if wanted in one.subject.casefold() or wanted in one.sender.casefold()]


def _listed(folder: Path, database: str) -> list[ops.BackupRow]:
    found = sorted(folder.glob(f"{database}-*Z.sqlite")) if folder.is_dir() else []
    return [ops.BackupRow(database, path.stem, path.stat().st_size, int(os.stat(path).st_mtime * 1000))
            for path in found if path.stem.rpartition("-")[0] == database]


def _told(handler: Callable[[Call, Any], Awaitable[Any]]) -> Callable[[Call, Any], Awaitable[Any]]:
    """Errors of the store as the caller's."""
    async def answer(call: Call, ask: Any) -> Any:
        try:
            return await handler(call, ask)
        except StoreError as error:
            raise RpcError(CODES.get(error.code, "invalid"), error.public) from error
        except (SqlError, OSError) as error:
            raise RpcError("temporary", f"{type(error).__name__}: {error}") from error
    return answer
