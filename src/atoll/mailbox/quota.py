"""The three steps of a quota, watched where the bytes are: the owner is warned, the directory is told who may not send.

In     commits of the mounted databases; limits from the directory, again after each change of theirs.
Out    the step of a mailbox to the directory when it changes; one message a day to an owner who is over a limit.
Spec   STORE 0.5 (counters); the third step, no receiving, is place.check_room's.
Fails  a directory that is away is told everything when it is back.
Not    a question for each message: who is within his limits costs one look into a dict for each commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from atoll.base.ids import MailboxId
from atoll.directory.client.model import WITHIN, Changed, MailboxInfo, Quota, QuotaStep
from atoll.formats.mime import scan
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import StoreError
from atoll.mailbox.model import Content, Delivery, Notice
from atoll.mailbox.quota_message import key, quota_message
from atoll.mailbox.store import Store
from atoll.mailbox.watch import Watch
from atoll.runtime.rpc import RpcError

DAY_MS = 86_400_000
EVERY = 3600.0
"""Seconds between looks at who is still over a limit."""
PAGE = 500
"""Mailboxes that are looked at before the loop gets its turn."""
_NO_LIMITS = Quota()

log = logging.getLogger(__name__)


class Directory(Protocol):
    """What the watch asks of directory.client.backend.Backend."""

    async def mailbox(self, mailbox: bytes) -> MailboxInfo: ...

    async def quotas(self, database: str) -> list[tuple[bytes, Quota]]: ...

    async def quota_steps(self, database: str, steps: list[QuotaStep], *, whole: bool = False) -> None: ...

    def on_changed(self, callback: Callable[[Changed], None]) -> None: ...

    def on_connected(self, callback: Callable[[], None]) -> None: ...


class QuotaWatch:
    """Made once per mailbox process, before the first database is mounted."""

    def __init__(self, store: Store, directory: Directory, *, every: float = EVERY) -> None:
        self._store = store
        self._directory = directory
        self._every = every
        self._quotas: dict[str, dict[MailboxId, Quota]] = {}
        self._steps: dict[MailboxId, tuple[int, str]] = {}
        self._whole: set[str] = set()
        self._asked: set[MailboxId] = set()
        self._moved: set[MailboxId] = set()
        self._work = asyncio.Event()
        self._warn_at = 0.0
        store.on_mounted.append(self._mounted)
        directory.on_changed(self._changed)
        directory.on_connected(self._everything)
        self._watch = Watch("quotas", self._work, self._round, every)

    # -- what happens -------------------------------------------------------------------------------------------
    def _mounted(self, database: MailboxDatabase) -> None:
        database.listen(None, lambda notice: self._committed(database, notice))
        self._whole.add(database.name)
        self._work.set()

    def _everything(self) -> None:
        self._whole.update(self._store.mounted())
        self._work.set()

    def _changed(self, change: Changed) -> None:
        if change.kind == "setting":
            self._everything()
        elif change.kind == "mailbox":
            self._asked.add(MailboxId(change.id))
            self._work.set()

    def _committed(self, database: MailboxDatabase, notice: Notice) -> None:
        if notice.mailbox in self._quotas.get(database.name, ()) or notice.mailbox in self._steps:
            memory = database.memory.get(notice.mailbox)
            if memory is not None:
                self._look(database.name, notice.mailbox, memory.octets)

    def _look(self, database: str, mailbox: MailboxId, octets: int) -> None:
        """Compare; a step that was entered or left is work for the task."""
        step = self._quotas.get(database, {}).get(mailbox, _NO_LIMITS).step(octets)
        if step == self._steps.get(mailbox, (WITHIN, ""))[0]:
            return
        if step == WITHIN:
            self._steps.pop(mailbox, None)
        else:
            self._steps[mailbox] = (step, database)
        self._moved.add(mailbox)
        self._work.set()

    # -- what is done about it ----------------------------------------------------------------------------------
    async def _round(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._whole:
            name = next(iter(self._whole))
            await self._load(name)
            self._whole.discard(name)
        while self._asked:
            mailbox = next(iter(self._asked))
            await self._ask(mailbox)
            self._asked.discard(mailbox)
        moved = self._moved.copy()
        for name in self._store.mounted():
            await self._publish(name, [mailbox for mailbox in moved
                                       if self._steps.get(mailbox, (WITHIN, name))[1] == name])
        self._moved -= moved
        due = now >= self._warn_at
        if due:
            self._warn_at = now + self._every
        for mailbox in list(self._steps) if due else moved:
            await self._warn(mailbox)

    async def _publish(self, name: str, moved: list[MailboxId], *, whole: bool = False) -> None:
        if moved or whole:
            await self._directory.quota_steps(
                name, [QuotaStep(mailbox, self._steps.get(mailbox, (WITHIN, ""))[0]) for mailbox in moved], whole=whole)

    async def _load(self, name: str) -> None:
        """Limits and sizes of a whole database; the directory is told all of it."""
        limits = await self._directory.quotas(name)
        if name not in self._store.mounted():
            return
        database = self._store.database(name)
        self._quotas[name] = {MailboxId(mailbox): quota for mailbox, quota in limits}
        last = b""
        while rows := database.reader.all("SELECT guid, bytes FROM mailbox WHERE guid > ? ORDER BY guid LIMIT ?",
                                          (last, PAGE)):
            for guid, octets in rows:
                self._look(name, MailboxId(guid), octets)
            last = rows[-1][0]
            await asyncio.sleep(0)
            if database.closed:
                return
        await self._publish(name, [mailbox for mailbox, (_, where) in self._steps.items() if where == name], whole=True)

    async def _ask(self, mailbox: MailboxId) -> None:
        """The limits of one mailbox that was changed."""
        try:
            info = await self._directory.mailbox(mailbox)
        except RpcError as error:
            if error.code != "not_found":
                raise
            for quotas in self._quotas.values():
                quotas.pop(mailbox, None)
            self._steps.pop(mailbox, None)
            return
        if info.database not in self._store.mounted():
            return
        quotas = self._quotas.setdefault(info.database, {})
        quotas[mailbox] = info.quota
        if info.quota == _NO_LIMITS:
            del quotas[mailbox]
        database = self._store.database(info.database)
        if database.has(mailbox):
            self._look(info.database, mailbox, database.view(mailbox).octets)

    async def _warn(self, mailbox: MailboxId) -> None:
        """The owner hears of it, at most once in 24 hours; the delivery keys remember when."""
        step, name = self._steps.get(mailbox, (WITHIN, ""))
        quota = self._quotas.get(name, {}).get(mailbox)
        if step == WITHIN or quota is None or name not in self._store.mounted():
            return
        database, now = self._store.database(name), self._store.clock.now_ms()
        view = database.view(mailbox)
        told = database.reader.one("SELECT max(at) FROM delivery_key WHERE mid = ? AND key IN (?, ?)",
                                   (view.mid, key(now // DAY_MS), key(now // DAY_MS - 1)))
        if told is not None and told[0] is not None and told[0] > now - DAY_MS:
            return
        info = await self._directory.mailbox(mailbox)
        data = quota_message(info.address, step, view.octets, quota, now)
        done = await self._store.deliver([Delivery(mailbox, "INBOX", Content(data, scan(data)), now, key(now // DAY_MS),
                                                   limited=False)])
        if isinstance(done[0], StoreError):
            log.warning("an owner could not be warned", extra={"f": {"why": done[0].code.value}})

    async def close(self) -> None:
        await self._watch.close()
