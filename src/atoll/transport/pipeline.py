"""A message's way through transport: receive, categorize, route, deliver; what is left waits in the queue.

In     an envelope with its content, from a frontend's hop or from the queue.
Out    one reply: 250 once every recipient is committed in a mailbox or in the queue, and not before.
Spec   PROCESSES 7 (cut-through): recipients whose mailbox answers at once are delivered and never queued.
Fails  every recipient refused: the first refusal. The queue refuses: 452; whoever has a copy keeps it.
Not    when again (lanes.py), mailboxes (delivery/).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Protocol

from atoll.base.clock import Clock
from atoll.base.failpoints import FAILPOINTS
from atoll.base.ids import to_text
from atoll.directory.client.backend import Backend
from atoll.directory.client.model import RecipientInfo
from atoll.formats.smtp import replies
from atoll.formats.smtp.replies import Reply
from atoll.runtime.metrics import Metrics
from atoll.runtime.rpc import RpcError
from atoll.sql import SqlError
from atoll.transport import dsn
from atoll.transport.completion import completed
from atoll.transport.envelope import Envelope, LmtpFacts, Recipient, Target, delivery_key
from atoll.transport.loops import is_loop
from atoll.transport.pressure import Pressure
from atoll.transport.queue import Notice, Queue, Waiting
from atoll.transport.tracking import Tracking

UNRESOLVED = "unresolved"
"""The queue of recipients for whom the directory could not be asked."""
_log = logging.getLogger("atoll.transport")
Outcomes = dict[str, Reply]


class Deliver(Protocol):
    """delivery.into_mailbox: the only way from here into a mailbox."""

    def deliver(self, backend: str, sender: str, targets: Sequence[Target], content: bytes,
                done: Callable[[list[Reply]], None]) -> None:
        """done gets a reply for each target."""


class NotReached(Exception):
    """A next hop cannot be spoken to: nothing of what waits for it need be tried now. reply: why, for a person."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


class Send(Protocol):
    """transport.send: the way to other servers."""

    def hop_of(self, domain: str) -> str:
        """The next hop of mail for a domain."""

    async def send(self, name: str, envelope: Envelope, recipients: Sequence[Recipient],
                   content: bytes) -> Outcomes:
        """A reply for each address. NotReached."""


class Attempt:
    """One attempt to deliver a message to some of its recipients: outcomes by address, and their next hops.

    kept: the message is in the queue. Only then is it sent to other servers, who take their time.
    """

    __slots__ = ("content", "done", "down", "envelope", "hops", "kept", "leaving", "outcomes", "pending")

    def __init__(self, envelope: Envelope, content: bytes, done: Callable[[Attempt], None], *,
                 kept: bool = False) -> None:
        self.envelope = envelope
        self.content = content
        self.done = done
        self.kept = kept
        self.leaving: dict[str, list[str]] = {}
        self.down: Reply | None = None
        """A next hop was not reached; the outcome of its recipients is this very reply."""
        self.outcomes: Outcomes = {}
        self.hops: dict[str, str] = {}
        self.pending = 0

    def later(self) -> list[str]:
        """Addresses that are to be tried again."""
        return [address for address, reply in self.outcomes.items() if reply.temporary]

    def over(self) -> list[str]:
        """Addresses with an outcome for good."""
        return [address for address, reply in self.outcomes.items() if not reply.temporary]

    def waiting(self, address: str, tries: int) -> Waiting:
        """The address as it waits in the queue."""
        reply = self.outcomes[address]
        return Waiting(address, self.hops.get(address, UNRESOLVED), f"{reply.code} {reply.status} {reply.text}", tries)


class Pipeline:
    """The stages, joined."""

    def __init__(self, directory: Backend, mailboxes: Deliver, queue: Queue, tracking: Tracking, pressure: Pressure,
                 clock: Clock, metrics: Metrics, *, host: str, sender: Send | None = None) -> None:
        self._directory = directory
        self._mailboxes = mailboxes
        self._queue = queue
        self._tracking = tracking
        self._pressure = pressure
        self._clock = clock
        self._metrics = metrics
        self._host = host
        self._sender = sender
        self._tasks: set[asyncio.Task[None]] = set()

    # -- receive

    def accept(self, envelope: Envelope, content: bytes, done: Callable[[Reply], None]) -> None:
        """Take a message in; done gets the one reply. A person's own is completed, others' stay as they are."""
        if envelope.user:
            content = completed(content, envelope, self._host)
        self._tracking.event("RECEIVE", envelope, "", size=len(content))
        if self._pressure.low:
            self._refuse(envelope, replies.NO_SPACE, done)
        elif is_loop(content):
            self._refuse(envelope, replies.LOOP, done)
        else:
            self.attempt(Attempt(envelope, content, lambda attempt: self._attempted(attempt, done)),
                         [one.address for one in envelope.recipients])

    def _refuse(self, envelope: Envelope, reply: Reply, done: Callable[[Reply], None]) -> None:
        self._tracking.event("REFUSE", envelope, "", f"{reply.code} {reply.status} {reply.text}")
        done(reply)

    def _attempted(self, attempt: Attempt, done: Callable[[Reply], None]) -> None:
        envelope, outcomes = attempt.envelope, attempt.outcomes
        if all(reply.code == 250 for reply in outcomes.values()) and not any(
                one.notify for one in envelope.recipients):
            self._accepted(envelope, done)
            return
        refused = [reply for reply in outcomes.values() if reply.code >= 500]
        if len(refused) == len(outcomes):
            self._refuse(envelope, refused[0], done)
        else:
            self._task(self._keep(attempt, done))

    def _accepted(self, envelope: Envelope, done: Callable[[Reply], None]) -> None:
        if FAILPOINTS.active:
            FAILPOINTS.hit("transport.reply.before")
        done(replies.OK)
        if FAILPOINTS.active:
            FAILPOINTS.hit("transport.reply.after")

    async def _keep(self, attempt: Attempt, done: Callable[[Reply], None]) -> None:
        """What is not in a mailbox is durable in the queue before the 250."""
        envelope, later = attempt.envelope, attempt.later()
        notice = await self.notice(envelope, attempt.outcomes, attempt.over(), attempt.content)
        try:
            if later or notice is not None:
                await self._queue.put(envelope, attempt.content, [
                    attempt.waiting(one, -1 if attempt.outcomes[one] is replies.TO_BE_SENT else 0) for one in later
                ], notice)
        except SqlError as error:
            _log.error("the queue refuses", extra={"f": {"error": str(error)}})
            self._refuse(envelope, replies.NO_SPACE, done)
            return
        for one in later:
            if attempt.outcomes[one] is not replies.TO_BE_SENT:
                self._tracking.event("DEFER", envelope, one, attempt.waiting(one, 0).last)
        self._accepted(envelope, done)

    def _task(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Until nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # -- categorize, route, deliver

    def attempt(self, attempt: Attempt, addresses: Iterable[str]) -> None:
        """Deliver to these recipients; attempt.done is called when each has its outcome."""
        found: dict[str, RecipientInfo] = {}
        unknown: list[str] = []
        for address in addresses:
            info = self._directory.cached_recipient(address)
            if info is None:
                unknown.append(address)
            else:
                found[address] = info
        if unknown:
            self._task(self._ask(attempt, unknown, found))
        else:
            self._route(attempt, found)

    async def _ask(self, attempt: Attempt, unknown: list[str], found: dict[str, RecipientInfo]) -> None:
        for address in unknown:
            try:
                info = await self._directory.recipient(address)
                domain = "" if info is not None else await self._leaves_for(attempt.envelope, address)
            except RpcError:
                attempt.outcomes[address] = replies.TRY_LATER
                continue
            if info is not None:
                found[address] = info
            elif domain and self._sender is not None:
                attempt.leaving.setdefault(self._sender.hop_of(domain), []).append(address)
            else:
                attempt.outcomes[address] = replies.NO_MAILBOX
                self._outcome(attempt, address)
        self._route(attempt, found)

    async def _leaves_for(self, envelope: Envelope, address: str) -> str:
        """The foreign domain that this recipient is in, as the DNS writes it; "" if it may not or cannot leave."""
        domain = address.rpartition("@")[2].lower()
        if self._sender is None or not domain or not envelope.may_leave \
                or await self._directory.is_local_domain(domain):
            return ""
        try:
            return domain.encode("idna").decode("ascii")
        except UnicodeError:
            return ""

    def _route(self, attempt: Attempt, found: dict[str, RecipientInfo]) -> None:
        """One transaction for each mailbox process; one copy for each mailbox, by however many names it is meant."""
        groups: dict[str, dict[tuple[bytes, str], list[str]]] = {}
        copies: dict[tuple[bytes, str], RecipientInfo] = {}
        for address, info in found.items():
            attempt.hops[address] = info.backend
            copy = (info.mailbox, _as_written(info.detail, address) if info.detail else "")
            copies[copy] = info
            groups.setdefault(info.backend, {}).setdefault(copy, []).append(address)
        for hop, addresses in attempt.leaving.items():
            attempt.hops |= dict.fromkeys(addresses, hop)
            if not attempt.kept:
                attempt.outcomes |= dict.fromkeys(addresses, replies.TO_BE_SENT)
        sending = attempt.leaving if attempt.kept else {}
        attempt.pending = len(groups) + len(sending)
        if not attempt.pending:
            attempt.done(attempt)
            return
        for hop, addresses in sending.items():
            self._task(self._send(attempt, hop, addresses))
        envelope = attempt.envelope
        for backend, group in groups.items():
            targets = [Target(mailbox, copies[mailbox, detail].database,
                              LmtpFacts(delivery_key(envelope.id, mailbox, detail), detail, envelope.received))
                       for mailbox, detail in group]
            self._mailboxes.deliver(backend, envelope.sender, targets, attempt.content,
                                    partial(self._delivered, attempt, list(group.values())))

    async def _send(self, attempt: Attempt, hop: str, addresses: list[str]) -> None:
        assert self._sender is not None
        recipients = [one for one in attempt.envelope.recipients if one.address in addresses]
        try:
            said = await self._sender.send(hop, attempt.envelope, recipients, attempt.content)
        except NotReached as error:
            attempt.down = error.reply
            said = dict.fromkeys(addresses, error.reply)
        self._delivered(attempt, [[one] for one in said], list(said.values()))

    def _delivered(self, attempt: Attempt, groups: list[list[str]], answers: list[Reply]) -> None:
        """A mailbox process has answered for its recipients."""
        for addresses, reply in zip(groups, answers, strict=True):
            for address in addresses:
                attempt.outcomes[address] = reply
                self._outcome(attempt, address)
        attempt.pending -= 1
        if attempt.pending == 0:
            attempt.done(attempt)

    def _outcome(self, attempt: Attempt, address: str) -> None:
        reply = attempt.outcomes[address]
        self._metrics.count("deliveries_total", code=str(reply.code))
        if reply.code == 250:
            sent = any(address in addresses for addresses in attempt.leaving.values())
            self._tracking.event("SEND" if sent else "DELIVER", attempt.envelope, address, reply.text if sent else "")
        elif reply.code >= 500:
            self._tracking.event("FAIL", attempt.envelope, address, f"{reply.code} {reply.status} {reply.text}")

    def removed(self, envelope: Envelope, addresses: Iterable[str]) -> None:
        """An administrator has removed it from the queue."""
        for address in addresses:
            self._tracking.event("FAIL", envelope, address, "removed by the administrator")

    # -- reports

    async def notice(self, envelope: Envelope, outcomes: Outcomes, addresses: Sequence[str],
                     content: bytes) -> Notice | None:
        """A report to the sender of what became of these recipients, if he wants one and is one of us."""
        told = dsn.told(envelope, outcomes, addresses)
        if not told:
            return None
        try:
            if await self._directory.recipient(envelope.sender) is None:
                return None
        except RpcError:
            pass  # the report waits in the queue until somebody knows
        head, octets = dsn.report(envelope, told, content, host=self._host, now_ms=self._clock.now_ms())
        self._tracking.event("DSN", head, envelope.sender, to_text(envelope.id))
        return Notice(head, octets, (Waiting(envelope.sender, UNRESOLVED, "new"),))


def _as_written(detail: str, address: str) -> str:
    """The detail with the capitals that the sender wrote: folders have them, the directory's names do not."""
    written = address.rpartition("@")[0][-len(detail):]
    return written if written.casefold() == detail.casefold() else detail
