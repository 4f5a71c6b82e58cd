"""A message's way through transport: receive, categorize, route, deliver or queue (ARCHITECTURE, Transport).

In     an envelope with its content, from a frontend's hop or from the queue.
Out    one reply: 250 once every recipient is committed in a mailbox or in the queue, and not before.
Spec   PROCESSES 7 (cut-through): recipients whose mailbox answers at once are delivered and never queued.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Protocol

from atoll.base.clock import Clock
from atoll.base.failpoints import FAILPOINTS
from atoll.base.ids import NetworkMessageId, new_id
from atoll.directory.client.backend import Backend
from atoll.directory.client.model import RecipientInfo
from atoll.formats.smtp import replies
from atoll.formats.smtp.replies import Reply
from atoll.runtime.metrics import Metrics
from atoll.runtime.rpc import RpcError
from atoll.sql import SqlError
from atoll.transport import dsn
from atoll.transport.envelope import Envelope, LmtpFacts, Recipient, Target, delivery_key
from atoll.transport.loops import is_loop
from atoll.transport.queue import GIVE_UP_MS, Job, Queue
from atoll.transport.tracking import Tracking

_log = logging.getLogger("atoll.transport")
Done = Callable[[list[Reply]], None]


class Deliver(Protocol):
    """delivery.into_mailbox: the only way from here into a mailbox."""

    def deliver(self, backend: str, sender: str, targets: Sequence[Target], content: bytes, done: Done) -> None:
        """done gets a reply for each target."""


class _Passage:
    """One message on its way: what each recipient's outcome is, and how many mailbox processes still have to answer."""

    __slots__ = ("content", "done", "envelope", "outcomes", "pending")

    def __init__(self, envelope: Envelope, content: bytes, done: Callable[[dict[str, Reply]], None]) -> None:
        self.envelope = envelope
        self.content = content
        self.done = done
        self.outcomes: dict[str, Reply] = {}
        self.pending = 1


class Pipeline:
    """The stages, joined."""

    def __init__(self, directory: Backend, mailboxes: Deliver, queue: Queue, tracking: Tracking, clock: Clock,
                 metrics: Metrics, *, host: str) -> None:
        self._directory = directory
        self._mailboxes = mailboxes
        self._queue = queue
        self._tracking = tracking
        self._clock = clock
        self._metrics = metrics
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()
        self.queued = asyncio.Event()

    # -- receive

    def accept(self, envelope: Envelope, content: bytes, done: Callable[[Reply], None]) -> None:
        """Take a message in; done gets the one reply."""
        self._tracking.event("RECEIVE", envelope.id, envelope.sender, ",".join([one.address for one in
                             envelope.recipients[:20]]), size=len(content), ip=envelope.facts.ip)
        if is_loop(content):
            self._tracking.event("FAIL", envelope.id, envelope.sender, "", "loop")
            done(replies.LOOP)
            return

        def settled(outcomes: dict[str, Reply]) -> None:
            later = [(address, f"{reply.code} {reply.text}") for address, reply in outcomes.items() if reply.temporary]
            failed = [one for one in envelope.recipients if outcomes[one.address].code >= 500]
            if len(failed) == len(envelope.recipients):
                done(outcomes[failed[0].address])
            elif later or failed:
                self._task(self._keep(envelope, content, later, failed, outcomes, done))
            else:
                self._accepted(envelope, done)

        self._categorize(_Passage(envelope, content, settled), envelope.recipients)

    def _accepted(self, envelope: Envelope, done: Callable[[Reply], None]) -> None:
        if FAILPOINTS.active:
            FAILPOINTS.hit("transport.reply.before")
        done(Reply(250, "2.0.0", f"Ok: {envelope.id.hex()}"))

    async def _keep(self, envelope: Envelope, content: bytes, later: list[tuple[str, str]], failed: list[Recipient],
                    outcomes: dict[str, Reply], done: Callable[[Reply], None]) -> None:
        """What is not in a mailbox is durable in the queue before the 250."""
        try:
            if later:
                await self._queue.put(envelope, content, later)
                self.queued.set()
                for address, last in later:
                    self._tracking.event("DEFER", envelope.id, envelope.sender, address, last)
            await self._tell_failures(envelope, content, [dsn.Failed(one, outcomes[one.address]) for one in failed])
        except SqlError as error:
            _log.error("the queue refuses", extra={"f": {"error": str(error)}})
            done(replies.NO_SPACE)
            return
        self._accepted(envelope, done)

    def _task(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- categorize and route

    def _categorize(self, passage: _Passage, recipients: Sequence[Recipient]) -> None:
        """Find each recipient's mailbox; ask the directory only for those not known now."""
        found: list[tuple[Recipient, RecipientInfo]] = []
        unknown: list[Recipient] = []
        for one in recipients:
            info = self._directory.cached_recipient(one.address)
            if info is None:
                unknown.append(one)
            else:
                found.append((one, info))
        if unknown:
            self._task(self._ask(passage, unknown, found))
        else:
            self._route(passage, found)

    async def _ask(self, passage: _Passage, unknown: list[Recipient],
                   found: list[tuple[Recipient, RecipientInfo]]) -> None:
        for one in unknown:
            try:
                info = await self._directory.recipient(one.address)
            except RpcError:
                passage.outcomes[one.address] = replies.TRY_LATER
                continue
            if info is None:
                passage.outcomes[one.address] = replies.NO_MAILBOX
            else:
                found.append((one, info))
        self._route(passage, found)

    def _route(self, passage: _Passage, found: list[tuple[Recipient, RecipientInfo]]) -> None:
        """One transaction for each mailbox process."""
        groups: dict[str, list[tuple[Recipient, RecipientInfo]]] = {}
        for one, info in found:
            groups.setdefault(info.backend, []).append((one, info))
        envelope = passage.envelope
        passage.pending = len(groups)
        if not groups:
            passage.done(passage.outcomes)
            return
        for backend, members in groups.items():
            targets = [Target(info.mailbox, info.database,
                              LmtpFacts(delivery_key(envelope.id, one.address), info.detail, envelope.received))
                       for one, info in members]
            addresses = [one.address for one, _ in members]
            self._mailboxes.deliver(backend, envelope.sender, targets, passage.content,
                                    partial(self._delivered, passage, addresses))

    def _delivered(self, passage: _Passage, addresses: list[str], answers: list[Reply]) -> None:
        envelope = passage.envelope
        for address, reply in zip(addresses, answers, strict=True):
            passage.outcomes[address] = reply
            if reply.code == 250:
                self._tracking.event("DELIVER", envelope.id, envelope.sender, address)
            self._metrics.count("deliveries_total", code=str(reply.code))
        passage.pending -= 1
        if passage.pending == 0:
            passage.done(passage.outcomes)

    # -- the queue

    async def run_queue(self) -> None:
        """Retry what waits, for ever."""
        while True:
            self.queued.clear()
            jobs = self._queue.due()
            if jobs:
                await self._retry(jobs)
                continue
            due = self._queue.next_due()
            wait = 60.0 if due is None else min(max((due - self._clock.now_ms()) / 1000, 0.05), 60.0)
            try:
                await asyncio.wait_for(self.queued.wait(), wait)
            except TimeoutError:
                pass

    async def _retry(self, jobs: list[Job]) -> None:
        messages: dict[bytes, list[Job]] = {}
        for job in jobs:
            messages.setdefault(job.envelope.id, []).append(job)
        await asyncio.gather(*[self._retry_one(group) for group in messages.values()])

    async def _retry_one(self, jobs: list[Job]) -> None:
        envelope = jobs[0].envelope
        content = self._queue.content(envelope.id)
        if content is None:
            return
        answer: asyncio.Future[dict[str, Reply]] = asyncio.get_running_loop().create_future()
        by_address = {one.address: one for one in envelope.recipients}
        self._categorize(_Passage(envelope, content, answer.set_result), [by_address[job.address] for job in jobs])
        outcomes = await answer
        old = self._clock.now_ms() - envelope.received > GIVE_UP_MS
        failed = [address for address, reply in outcomes.items() if reply.code >= 500 or (reply.temporary and old)]
        await self._tell_failures(envelope, content, [dsn.Failed(by_address[one], outcomes[one]) for one in failed])
        over = [address for address, reply in outcomes.items() if reply.code == 250] + failed
        if over:
            await self._queue.done(envelope.id, over)
        again = [(job.address, job.tries + 1, f"{outcomes[job.address].code} {outcomes[job.address].text}")
                 for job in jobs if job.address not in over]
        if again:
            await self._queue.again(envelope.id, again)

    async def _tell_failures(self, envelope: Envelope, content: bytes, failed: list[dsn.Failed]) -> None:
        """A non-delivery report into the queue: durable before what it tells of is forgotten."""
        for one in failed:
            self._tracking.event("FAIL", envelope.id, envelope.sender, one.recipient.address,
                                 f"{one.reply.code} {one.reply.text}")
        told = [one for one in failed if dsn.wanted(envelope, one.recipient)]
        if not told or await self._directory.recipient(envelope.sender) is None:
            return
        ident = NetworkMessageId(new_id())
        now = self._clock.now_ms()
        report = dsn.failure(envelope, told, content, host=self._host, ident=ident, now_ms=now)
        notice = Envelope(ident, "", (Recipient(envelope.sender),), now)
        await self._queue.put(notice, report, [(envelope.sender, "new")])
        self.queued.set()
