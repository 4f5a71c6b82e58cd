"""Deliveries of a group, handed over as data and written set by set.

In     Delivery values that came while the writer was busy.
Out    Delivered or StoreError for each, in order.
Spec   ISLANDS 11.5 (delivery key with its first result), ARCHITECTURE "One thread of Python".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from atoll.base.ids import MailboxId
from atoll.directory.client.model import Quota
from atoll.mailbox.blobs import Prepared, RecentDigests
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import StoreError, no_folder
from atoll.mailbox.memory import MailboxMemory
from atoll.mailbox.model import Delivered, Delivery
from atoll.mailbox.place import Threads, check_room, check_uids, in_list, kw_column, place, thread_hashes
from atoll.mailbox.tx import INSERT_KEY, Tx

SLICE = 24
"""Deliveries written before the loop gets its turn."""
MAX_BATCH = 256
KEY_AGE_MS = 4 * 86_400_000
"""Delivery keys are kept so long: transport gives up after two days, Safety Net time and a day more."""


Results = list[Delivered | StoreError]


@dataclass(slots=True)
class Request:
    """One delivery with everything that is looked up outside the transaction."""

    delivery: Delivery
    prepared: Prepared
    quota: Quota


@dataclass(slots=True)
class Batch:
    """Deliveries that wait for one unit of work. `started` closes it."""

    database: MailboxDatabase
    requests: list[Request] = field(default_factory=list)
    started: bool = False
    _unit: asyncio.Future[Results] | None = None
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def written_by(self, unit: asyncio.Future[Results]) -> None:
        """The unit of work that writes it."""
        self._unit = unit
        unit.add_done_callback(self._written)

    def _written(self, _: asyncio.Future[Results]) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    @property
    def over(self) -> bool:
        """Written or failed: a group that failed before any work ran has not set `started`."""
        return self._unit is not None and self._unit.done()

    async def written(self) -> Results:
        """Once committed: a result for each request. SqlError. One who waits may be cancelled: the others are not."""
        assert self._unit is not None
        if not self._unit.done():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
        return self._unit.result()


@dataclass(slots=True)
class _Mailbox:
    memory: MailboxMemory
    threads: Threads
    keys: dict[bytes, Delivered]


def deliver(batch: Batch, recent: RecentDigests,
            now: int) -> Callable[[Tx], Generator[None, None, Results]]:
    """The unit of work of a batch."""
    def work(tx: Tx) -> Generator[None, None, Results]:
        batch.started = True
        shares: dict[MailboxId, list[Request]] = {}
        for request in batch.requests:
            shares.setdefault(request.delivery.mailbox, []).append(request)
        mailboxes: dict[MailboxId, _Mailbox | StoreError] = {}
        for guid, mine in shares.items():
            try:
                mailboxes[guid] = _open(tx, tx.mailbox(guid), mine)
            except StoreError as error:
                mailboxes[guid] = error
            if len(mailboxes) % SLICE == 0:
                yield
        results: Results = []
        for at, request in enumerate(batch.requests, 1):
            mailbox = mailboxes[request.delivery.mailbox]
            try:
                results.append(mailbox if isinstance(mailbox, StoreError) else _one(tx, mailbox, request, recent, now))
            except StoreError as error:
                results.append(error)
            if at % SLICE == 0:
                tx.write_out()
                yield
        for mailbox in mailboxes.values():
            if isinstance(mailbox, _Mailbox):
                mailbox.threads.write(tx)
        return results
    return work


def _open(tx: Tx, memory: MailboxMemory, requests: list[Request]) -> _Mailbox:
    keys: dict[bytes, Delivered] = {}
    asked = [request.delivery.key for request in requests if request.delivery.key]
    if asked:
        marks, values = in_list(asked)
        for key, fid, uid, id_ in tx.all(
                f"SELECT key, fid, uid, id FROM delivery_key WHERE mid = ? AND key IN ({marks})",
                [memory.mid, *values]):  # type: ignore[list-item]
            keys[key] = Delivered(uid, id_, fid, duplicate=True)
    threads = Threads(memory)
    threads.prefetch(tx, [value for request in requests for value in thread_hashes(request.prepared.content.scanned)])
    return _Mailbox(memory, threads, keys)


def _one(tx: Tx, mailbox: _Mailbox, request: Request, recent: RecentDigests, now: int) -> Delivered:
    delivery = request.delivery
    known = mailbox.keys.get(delivery.key) if delivery.key else None
    if known is not None:
        return known
    memory = mailbox.memory
    folder = memory.at(delivery.path)
    if folder is None or folder.hidden:  # +detail names a folder that is not there: mail is never refused for that
        folder = memory.at("INBOX")
    if folder is None:
        raise no_folder()
    check_room(memory, request.quota, request.prepared.size)
    check_uids(folder, 1)
    kw = kw_column(tx, memory, delivery.keywords)
    uid, id_ = place(tx, memory, folder, mailbox.threads, recent, request.prepared, delivery.received,
                     int(delivery.flags), kw)
    done = Delivered(uid, id_, folder.fid)
    if delivery.key:
        tx.add(INSERT_KEY, (memory.mid, delivery.key, folder.fid, uid, id_, now))
        mailbox.keys[delivery.key] = Delivered(uid, id_, folder.fid, duplicate=True)
    return done
