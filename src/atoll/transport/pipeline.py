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
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import msgspec

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
from atoll.transport.categorize import Known, Plan, categorize
from atoll.transport.completion import completed
from atoll.transport.envelope import Envelope, LmtpFacts, Recipient, Target, delivery_key
from atoll.transport.loops import is_loop
from atoll.transport.pressure import Pressure
from atoll.transport.queue import Notice, Queue, Waiting, leaves
from atoll.transport.tracking import Tracking

UNRESOLVED = "unresolved"
"""The queue of recipients for whom the directory could not be asked."""
_log = logging.getLogger("atoll.transport")
Outcomes = dict[str, Reply]
T = TypeVar("T")


class Deliver(Protocol):
    """delivery.into_mailbox: the only way from here into a mailbox."""

    def deliver(self, backend: str, sender: str, targets: Sequence[Target], content: bytes,
                done: Callable[[list[Reply]], None], *, alone: bool = False) -> None:
        """done gets a reply for each target. alone: beside no other message."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of checking a message. reply: it is refused; junk: it goes to Junk; story: for the tracking log."""

    content: bytes
    reply: Reply | None
    junk: bool
    story: str


class Check(Protocol):
    """edge.arrival: the agents at the end of DATA."""

    def applies(self, envelope: Envelope) -> bool:
        """Is this a message to check?"""

    def cleaned(self, content: bytes) -> bytes:
        """One that is not checked: without what only we may write."""

    async def check(self, envelope: Envelope, content: bytes) -> Checked:
        """Within a bounded time."""


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

    kept: the message is in the queue. Only then is it sent to other servers, who take their time. alone: to its mailbox
    process, beside no other message.
    """

    __slots__ = ("alone", "content", "done", "down", "envelope", "hops", "kept", "leaving",
                 "origins", "outcomes", "pending")

    def __init__(self, envelope: Envelope, content: bytes, done: Callable[[Attempt], None], *,
                 kept: bool = False, alone: bool = False) -> None:
        self.envelope = envelope
        self.content = content
        self.done = done
        self.kept = kept
        self.origins: dict[str, str] = {}
        """An address that a group stands for -> the one that the sender wrote."""
        self.leaving: dict[str, list[str]] = {}
        self.down: dict[str, Reply] = {}
        """Next hops that were not reached; the outcome of their recipients is this very reply."""
        self.outcomes: Outcomes = {}
        self.hops: dict[str, str] = {}
        self.pending = 0
        self.alone = alone

    def recipient(self, address: str) -> Recipient:
        """An address with what the sender asked for the one that it stands for."""
        origin = self.origins.get(address, address)
        one = next(one for one in self.envelope.recipients if one.address == origin)
        return one if origin == address else Recipient(address, one.notify, one.orcpt or f"rfc822;{origin}")

    def later(self) -> list[str]:
        """Addresses that are to be tried again."""
        return [address for address, reply in self.outcomes.items() if reply.temporary]

    def over(self) -> list[str]:
        """Addresses with an outcome for good."""
        return [address for address, reply in self.outcomes.items() if not reply.temporary]

    def waiting(self, address: str, tries: int) -> Waiting:
        """The address as it waits in the queue."""
        reply = self.outcomes[address]
        return Waiting(address, self.hops.get(address, UNRESOLVED), said(reply), tries, soon=reply is replies.LOST,
                       origin=self.origins.get(address, ""))


def said(reply: Reply) -> str:
    """A reply as the queue keeps it."""
    return f"{reply.code} {reply.status} {reply.text}"


class Pipeline:
    """The stages, joined."""

    def __init__(self, directory: Backend, mailboxes: Deliver, queue: Queue, tracking: Tracking, pressure: Pressure,
                 clock: Clock, metrics: Metrics, *, host: str, sender: Send | None = None,
                 check: Check | None = None) -> None:
        self._directory = directory
        self._mailboxes = mailboxes
        self._queue = queue
        self._tracking = tracking
        self._pressure = pressure
        self._clock = clock
        self._metrics = metrics
        self._host = host
        self._sender = sender
        self._check = check
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
        elif self._check is None:
            self._admit(envelope, content, done)
        elif self._check.applies(envelope):
            self._task(self._checked(self._check, envelope, content, done))
        else:
            self._admit(envelope, self._check.cleaned(content), done)

    async def _checked(self, check: Check, envelope: Envelope, content: bytes, done: Callable[[Reply], None]) -> None:
        """Nothing that was not checked comes in: an error of ours means later."""
        try:
            checked = await check.check(envelope, content)
        except Exception:
            _log.exception("a message could not be checked")
            self._refuse(envelope, replies.TRY_LATER, done)
            return
        self._tracking.event("CHECK", envelope, "", checked.story)
        if checked.reply is not None:
            self._refuse(envelope, checked.reply, done)
            return
        self._admit(msgspec.structs.replace(envelope, junk=True) if checked.junk else envelope, checked.content, done)

    def _admit(self, envelope: Envelope, content: bytes, done: Callable[[Reply], None]) -> None:
        self.attempt(Attempt(envelope, content, lambda attempt: self._attempted(attempt, done)),
                     [(one.address, one.address) for one in envelope.recipients])

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
        notice = await self.notice(envelope, attempt.outcomes, attempt.over(), attempt.content, attempt.origins)
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

    def attempt(self, attempt: Attempt, addresses: Iterable[tuple[str, str]]) -> None:
        """Deliver to these recipients: (address, the one that the sender wrote). attempt.done is called when each has

        its outcome.
        """
        wanted = list(addresses)
        known = Known()
        for address, _ in wanted:
            info = self._directory.cached_recipient(address)
            if info is not None:
                known.recipients[address] = info
        plan = self._plan(attempt, wanted, known)
        if plan.complete:
            self._route(attempt, plan)
        else:
            self._task(self._ask(attempt, wanted, known, plan))

    def _plan(self, attempt: Attempt, wanted: list[tuple[str, str]], known: Known) -> Plan:
        return categorize(attempt.envelope, wanted, known, sends=self._sender is not None)

    async def _ask(self, attempt: Attempt, wanted: list[tuple[str, str]], known: Known, plan: Plan) -> None:
        while not plan.complete:
            await _hear(plan.ask_recipients, self._directory.recipient, known.recipients, known.away)
            await _hear(plan.ask_domains, self._directory.is_local_domain, known.local_domains, known.away)
            plan = self._plan(attempt, wanted, known)
        self._route(attempt, plan)

    def _route(self, attempt: Attempt, plan: Plan) -> None:
        """One transaction for each mailbox process; one copy for each mailbox, by however many names it is meant."""
        attempt.origins |= plan.origins
        for address, reply in plan.over.items():
            attempt.outcomes[address] = reply
            if address in plan.expanded:
                self._tracking.event("EXPAND", attempt.envelope, address, f"{plan.expanded[address]} members")
            elif not reply.temporary and reply is not replies.EXPANDED:
                self._outcome(attempt, address)
        groups: dict[str, dict[tuple[bytes, str], list[str]]] = {}
        copies: dict[tuple[bytes, str], RecipientInfo] = {}
        for address, info in plan.deliver.items():
            attempt.hops[address] = info.backend
            copy = (info.mailbox, _as_written(info.detail, address) if info.detail else "")
            copies[copy] = info
            groups.setdefault(info.backend, {}).setdefault(copy, []).append(address)
        self._leave(attempt, plan)
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
                              LmtpFacts(delivery_key(envelope.id, mailbox, detail), detail, envelope.received,
                                        envelope.junk))
                       for mailbox, detail in group]
            self._mailboxes.deliver(backend, envelope.sender, targets, attempt.content,
                                    partial(self._delivered, attempt, list(group.values())), alone=attempt.alone)

    def _leave(self, attempt: Attempt, plan: Plan) -> None:
        """By next hop. Nobody is sent anything before it is in the queue."""
        assert self._sender is not None or not plan.leave
        for address, domain in plan.leave.items():
            hop = self._sender.hop_of(domain) if self._sender is not None else domain
            attempt.hops[address] = hop
            attempt.leaving.setdefault(hop, []).append(address)
            if not attempt.kept:
                attempt.outcomes[address] = replies.TO_BE_SENT

    async def _send(self, attempt: Attempt, hop: str, addresses: list[str]) -> None:
        assert self._sender is not None
        recipients = [attempt.recipient(address) for address in addresses]
        try:
            said = await self._sender.send(hop, attempt.envelope, recipients, attempt.content)
        except NotReached as error:
            attempt.down[hop] = error.reply
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
            sent = leaves(attempt.hops[address])
            self._tracking.event("SEND" if sent else "DELIVER", attempt.envelope, address, reply.text if sent else "")
        elif reply.code >= 500:
            self._tracking.event("FAIL", attempt.envelope, address, f"{reply.code} {reply.status} {reply.text}")

    def removed(self, envelope: Envelope, addresses: Iterable[str]) -> None:
        """An administrator has removed it from the queue."""
        for address in addresses:
            self._tracking.event("FAIL", envelope, address, "removed by the administrator")

    # -- reports

    async def notice(self, envelope: Envelope, outcomes: Outcomes, addresses: Sequence[str], content: bytes,
                     origins: Mapping[str, str]) -> Notice | None:
        """A report to the sender of what became of these recipients, if he wants one and can be told."""
        told = dsn.told(envelope, outcomes, addresses, origins)
        if not told:
            return None
        try:
            if self._sender is None and await self._directory.recipient(envelope.sender) is None:
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


async def _hear(asked: list[str], question: Callable[[str], Awaitable[T]], answers: dict[str, T],
                away: set[str]) -> None:
    """Ask all at once: a directory that is away makes each wait for the same time."""
    heard = await asyncio.gather(*map(question, asked), return_exceptions=True)
    for name, answer in zip(asked, heard, strict=True):
        if not isinstance(answer, BaseException):
            answers[name] = answer
            continue
        if not isinstance(answer, RpcError):
            _log.error("a recipient cannot be looked up", exc_info=answer)
        away.add(name)
