"""Deliveries of a group, handed over as data and written set by set.

In     Delivery values that came while the writer was busy.
Out    Delivered or StoreError for each, in order.
Spec   ISLANDS 11.5 (delivery key with its first result), ARCHITECTURE "One thread of Python".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import cache

from atoll.base.ids import MailboxId
from atoll.directory.client.model import Quota
from atoll.mailbox.blobs import Prepared, RecentDigests
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import StoreError, no_folder
from atoll.mailbox.memory import MailboxMemory
from atoll.mailbox.model import Delivered, Delivery, WellKnown
from atoll.mailbox.place import Threads, check_room, check_uids, kw_column, place, thread_hashes
from atoll.mailbox.tx import INSERT_KEY, Tx
from atoll.sql.engine import Record, Value

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


KEYS = "SELECT mid, key, fid, uid, id FROM delivery_key WHERE mid = ? AND key = ?"
HASHES = "SELECT mid, hash, conv FROM thread_key WHERE mid = ? AND hash = ?"
CONVERSATIONS = "SELECT mid, conv, items, last_received FROM conversation WHERE mid = ? AND conv = ?"
MAX_PAIRS = 256
"""Look-ups of one statement; SQLite takes 500."""


def deliver(batch: Batch, recent: RecentDigests,
            now: int) -> Callable[[Tx], Generator[None, None, Results]]:
    """The unit of work of a batch."""
    def work(tx: Tx) -> Generator[None, None, Results]:
        batch.started = True
        mailboxes: dict[MailboxId, _Mailbox | StoreError] = {}
        for request in batch.requests:
            guid = request.delivery.mailbox
            if guid not in mailboxes:
                try:
                    memory = tx.mailbox(guid)
                    mailboxes[guid] = _Mailbox(memory, Threads(memory), {})
                except StoreError as error:
                    mailboxes[guid] = error
        yield from _look_up(tx, batch.requests, mailboxes)
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


def _look_up(tx: Tx, requests: list[Request],
             mailboxes: dict[MailboxId, _Mailbox | StoreError]) -> Generator[None, None, None]:
    """What is there of these messages already: their keys, their relatives; of all mailboxes in one statement each."""
    by_mid: dict[int, _Mailbox] = {}
    keys: list[tuple[int, Value]] = []
    hashes: dict[tuple[int, Value], None] = {}
    for request in requests:
        mailbox = mailboxes[request.delivery.mailbox]
        if isinstance(mailbox, _Mailbox):
            mid = mailbox.memory.mid
            by_mid[mid] = mailbox
            if request.delivery.key:
                keys.append((mid, request.delivery.key))
            request.prepared.hashes = thread_hashes(request.prepared.content.scanned)
            for value in request.prepared.hashes:
                hashes[mid, value] = None
    for mid, key, fid, uid, id_ in (yield from _pairs(tx, KEYS, keys)):
        by_mid[mid].keys[key] = Delivered(uid, id_, fid, duplicate=True)
    known: dict[tuple[int, Value], None] = {}
    for mid, value, conv in (yield from _pairs(tx, HASHES, list(hashes))):
        by_mid[mid].threads.known[value] = conv
        known[mid, conv] = None
    for mid, conv, items, last in (yield from _pairs(tx, CONVERSATIONS, list(known))):
        by_mid[mid].threads.rows[conv] = [items, last]


def _pairs(tx: Tx, select: str, pairs: list[tuple[int, Value]]) -> Generator[None, None, list[Record]]:
    """The rows of (mid, value) each, a part a slice. A part is filled up to a power of two: few statements are made."""
    rows: list[Record] = []
    for at in range(0, len(pairs), MAX_PAIRS):
        if at:
            yield
        part = pairs[at:at + MAX_PAIRS]
        part += part[-1:] * ((1 << (len(part) - 1).bit_length()) - len(part))
        rows += tx.all(_union(select, len(part)), [value for pair in part for value in pair])
    return rows


@cache
def _union(select: str, count: int) -> str:
    return " UNION ALL ".join([select] * count)


def _one(tx: Tx, mailbox: _Mailbox, request: Request, recent: RecentDigests, now: int) -> Delivered:
    delivery = request.delivery
    known = mailbox.keys.get(delivery.key) if delivery.key else None
    if known is not None:
        return known
    memory = mailbox.memory
    folder = (memory.wellknown(WellKnown.JUNK) if delivery.junk else None) or memory.at(delivery.path)
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
