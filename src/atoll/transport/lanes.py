"""The lanes: each next hop has one, with its own order, its own pauses and its own limit of what is under way.

In     the queue's jobs when their time has come; what became of each attempt.
Out    each recipient delivered or sent, waiting on, or given up with a report to the sender: one transaction each.
Spec   [RFC 5321 §4.5.4]; the times are queue.Schedule. A next hop that cannot be reached is asked for the whole lane
       once per pause, whatever waits there; no lane delays another. A crash between an attempt and settle() repeats
       the attempt: in a mailbox the delivery key finds its first result, another server may get the message twice.
       Where the connection to a mailbox process went, any of the messages under way may have ended it. Each is tried
       beside no other mail for that process: those that did no harm are delivered in seconds. One that ends it alone
       waits a minute, then longer and longer, and is shown.
Fails  a queue that cannot be read: it is looked at again a second later.
Not    how something is delivered or sent (pipeline).
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from atoll.base.clock import Clock
from atoll.base.ids import to_text
from atoll.formats.smtp import replies
from atoll.formats.smtp.replies import Reply
from atoll.sql import SqlError
from atoll.transport.pipeline import Attempt, Pipeline, said
from atoll.transport.queue import CONNECTIONS, Job, Queue, Schedule, Waiting, leaves
from atoll.transport.tracking import Tracking

LONGEST_SLEEP = 60.0
AT_ONCE = 100
"""Messages of one lane to mailbox processes of ours."""
AWAY_IN_ALL = 1000
"""Messages to next hops outside at once, each over a connection."""
BATCH = 100
"""Recipients that are read from the queue at once, and that a transaction has at most [RFC 5321 §4.5.3.1.8]."""
MAX_BYTES = 64 << 20
"""Octets of messages in memory, of those that stay and of those that leave: servers elsewhere hold up none of ours."""
HOP_FAILURES = 4
"""A message is not given up for a next hop that was tried less often: a clock that jumped ahead is no reason."""
LATE_MS = 4 * 3_600_000
"""After so long the sender is told that the message still waits."""
POISON_TRIES = 3
"""Where a message that ended its mailbox process alone goes on in the schedule: at a minute."""
FAULT = said(replies.FAULT)
LOST_ALONE = said(replies.LOST_ALONE)
SUSPECT = (said(replies.LOST), LOST_ALONE)
"""What the last attempt said when the message may be why. Those that never did it alone come first."""
POISON = "poison"
"""The queue of messages whose handling failed twice: they wait for an administrator."""
FURTHEST_MS = 1_860_000
"""No plan lies further ahead than the longest wait: a clock that was set back made one that does."""
_log = logging.getLogger("atoll.transport.lanes")


class Share:
    """What is under way of all lanes inside, or of all outside. hungry: lanes that wait for room."""

    def __init__(self, messages: int) -> None:
        self._most = messages
        self.messages = 0
        self.octets = 0
        self.hungry: set[str] = set()

    @property
    def full(self) -> bool:
        return self.messages >= self._most or self.octets >= MAX_BYTES


class Lane:
    """One next hop."""

    def __init__(self, name: str, schedule: Schedule) -> None:
        self.name = name
        self.schedule = schedule
        self.ready: deque[list[Job]] = deque()
        """Read from the queue, by message; nobody has begun with them."""
        self.busy: set[tuple[bytes, str]] = set()
        """(message, address) of those that were read."""
        self.tasks: set[asyncio.Task[None]] = set()
        self.away = leaves(name)
        self.proved = not self.away
        """Has an attempt gone through since the last that did not reach it?"""
        self.failures = 0
        """Attempts in a row that did not reach it."""
        self.closed_until = 0
        """Milliseconds; before that nobody tries."""
        self.last = ""
        self.suspended = False
        self.when = -1
        """When it is looked at next, as the heap has it; -1: not planned."""

    def put_back(self) -> None:
        """What was read and not begun is read again when it may be tried."""
        for jobs in self.ready:
            self.busy.difference_update(keys(jobs))
        self.ready.clear()

    @property
    def slots(self) -> int:
        """One until the first went well."""
        return (CONNECTIONS if self.away else AT_ONCE) if self.proved else 1

    def state(self, now: int) -> str:
        """As the administrator sees it."""
        if self.suspended:
            return "suspended"
        if self.tasks:
            return "active"
        return "retry" if self.failures or self.closed_until > now else "ready"


class Lanes:
    """One per transport process; run() is its task."""

    def __init__(self, pipeline: Pipeline, queue: Queue, tracking: Tracking, clock: Clock,
                 on_poison: Callable[[int], None] = lambda count: None) -> None:
        """on_poison: told how many messages ended a process or could not be handled, when that changes."""
        self._pipeline = pipeline
        self._queue = queue
        self._tracking = tracking
        self._clock = clock
        self._lanes: dict[str, Lane] = {}
        self._plan: list[tuple[int, str]] = []
        self._wake = asyncio.Event()
        self._shares = {True: Share(AWAY_IN_ALL), False: Share(AT_ONCE * 100)}
        self._on_poison = on_poison
        self._poison = 0
        self._count_poison = True
        self._began = (clock.now_ms(), clock.monotonic())
        queue.on_waiting = self.look

    # -- when

    def look(self, name: str, when: int = 0) -> None:
        """Something waits there, due then (ms; 0: now)."""
        lane = self._lane(name)
        if lane.when < 0 or when < lane.when:
            lane.when = when
            heapq.heappush(self._plan, (when, name))
            self._wake.set()

    def hurry(self, name: str = "") -> None:
        """Try one lane now, or all of them, whatever was said about waiting."""
        for lane in list(self._lanes.values()):
            if not name or lane.name == name:
                lane.closed_until = 0
                self.look(lane.name)

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(name, self._queue.schedule_of(name))
            lane.suspended = name == POISON
        return lane

    def lane(self, name: str) -> Lane | None:
        """A next hop that something waits for, or did lately."""
        return self._lanes.get(name)

    async def suspend(self, name: str, *, stop: bool) -> None:
        """Stop trying, or go on. Durable when it returns; what is under way is finished."""
        await self._queue.suspend(name, stop=stop)
        self._lane(name).suspended = stop
        self._lane(name).put_back()
        self.look(name)

    async def run(self) -> None:
        """For ever."""
        started = False
        try:
            while True:
                self._wake.clear()
                try:
                    if not started:
                        self._start()
                        started = True
                    for lane in self._due():
                        self._fill(lane)
                    self._show_poison()
                except SqlError as error:
                    _log.error("the queue cannot be used", extra={"f": {"error": str(error)}})
                    await asyncio.sleep(1)
                    self.hurry()
                    continue
                wait = (self._plan[0][0] - self._clock.now_ms()) / 1000 if self._plan else LONGEST_SLEEP
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), min(max(wait, 0.0), LONGEST_SLEEP))
        finally:
            for lane in self._lanes.values():
                for task in lane.tasks:
                    task.cancel()

    def _start(self) -> None:
        for name in {POISON, *self._queue.suspended()}:
            self._lane(name).suspended = True
        for name in self._queue.queues():
            self.look(name)

    def _due(self) -> list[Lane]:
        """The lanes whose time has come. A time that lies further ahead than we ever plan has come, too."""
        now = self._clock.now_ms()
        found: list[Lane] = []
        while self._plan and (self._plan[0][0] <= now or self._plan[0][0] > now + FURTHEST_MS):
            when, name = heapq.heappop(self._plan)
            lane = self._lanes.get(name)
            if lane is not None and lane.when == when:  # not planned anew meanwhile
                lane.when = -1
                found.append(lane)
        return found

    # -- what

    def _fill(self, lane: Lane) -> None:
        """Begin what may begin; plan the next look."""
        now = self._clock.now_ms()
        if lane.suspended:
            return
        if now < lane.closed_until <= now + FURTHEST_MS:
            self.look(lane.name, lane.closed_until)
            return
        while len(lane.tasks) < lane.slots:
            if self._shares[lane.away].full:
                self._shares[lane.away].hungry.add(lane.name)
                return
            if not lane.ready and not self._read(lane):
                self._plan_next(lane)
                return
            self._begin(lane, lane.ready.popleft())

    def _read(self, lane: Lane) -> bool:
        messages: dict[bytes, list[Job]] = {}
        for job in self._queue.due(lane.name, BATCH, without=lane.busy):
            messages.setdefault(job.envelope.id, []).append(job)
        for jobs in sorted(messages.values(), key=_suspicion):
            lane.busy |= keys(jobs)
            lane.ready.append(jobs)
        return bool(messages)

    def _plan_next(self, lane: Lane) -> None:
        due = self._queue.next_due(lane.name, without=lane.busy)
        if due is not None:
            self.look(lane.name, due)
        elif not lane.tasks and not lane.suspended:
            self._lanes.pop(lane.name, None)

    def _begin(self, lane: Lane, jobs: list[Job]) -> None:
        share, size = self._shares[lane.away], jobs[0].size
        share.messages += 1
        share.octets += size
        task = asyncio.get_running_loop().create_task(self._run(lane, jobs))
        lane.tasks.add(task)

        def end(_: asyncio.Task[None]) -> None:
            lane.tasks.discard(task)
            lane.busy.difference_update(keys(jobs))
            share.messages -= 1
            share.octets -= size
            hungry, share.hungry = share.hungry, set()
            for name in hungry:
                self.look(name)
            if lane.when < 0 or lane.when > self._clock.now_ms():
                lane.when = -1
                self.look(lane.name, self._clock.now_ms())

        task.add_done_callback(end)

    async def _run(self, lane: Lane, jobs: list[Job]) -> None:
        try:
            await self._one(lane, jobs)
        except SqlError as error:
            _log.error("the queue cannot be used", extra={"f": {"error": str(error)}})
            await asyncio.sleep(1)
        except Exception:
            _log.exception("a message could not be handled", extra={"f": {"id": to_text(jobs[0].envelope.id)}})
            await self._set_apart(jobs)

    async def _set_apart(self, jobs: list[Job]) -> None:
        """A message that its handling fails at: once more after a while, then it waits for an administrator."""
        again = [Waiting(job.address, POISON if job.last == FAULT else job.queue, FAULT,
                         max(job.tries + 1, POISON_TRIES)) for job in jobs]
        try:
            await self._queue.settle(jobs[0].envelope.id, [], again)
            self._count_again(again)
        except SqlError as error:
            _log.error("the queue cannot be used", extra={"f": {"error": str(error)}})
            await asyncio.sleep(1)

    async def _one(self, lane: Lane, jobs: list[Job]) -> None:
        """Try one message again for some of its recipients."""
        envelope = jobs[0].envelope
        content = self._queue.content(envelope.id)
        if content is None:  # removed meanwhile
            return
        answer: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()

        def done(attempt: Attempt) -> None:
            if not answer.done():  # we may have been stopped
                answer.set_result(attempt)

        self._pipeline.attempt(Attempt(envelope, content, done, kept=True, alone=bool(_suspicion(jobs))),
                               [(job.address, job.origin or job.address) for job in jobs])
        attempt = await answer
        for hop in attempt.leaving:
            if hop in attempt.down:
                await self._not_reached(self._lane(hop), attempt.down[hop])
            else:
                reached = self._lane(hop)
                reached.proved, reached.failures, reached.last = True, 0, ""
        await self._settle(attempt, jobs)

    async def _settle(self, attempt: Attempt, jobs: list[Job]) -> None:
        """Note what became of it, and tell the sender.

        Members of a group that was expanded only now wait on as recipients of their own. Whoever waits for a next hop
        that was not reached is not touched.
        """
        envelope = attempt.envelope
        waited = {job.address: job for job in jobs}
        over, again, new, late = list[str](), list[Waiting](), list[Waiting](), list[str]()
        for address, reply in list(attempt.outcomes.items()):
            job = waited.get(address)
            down = reply is attempt.down.get(attempt.hops.get(address, ""))
            if not reply.temporary:
                over.append(address)
            elif job is None:
                new.append(attempt.waiting(address, -1 if down else 0))
            elif down and job.queue != attempt.hops[address]:
                again.append(attempt.waiting(address, -1))
            elif down:
                continue
            elif self._give_up(job):
                attempt.outcomes[address] = _too_long(reply.text)
                self._tracking.event("FAIL", envelope, address, attempt.waiting(address, 0).last)
                over.append(address)
            else:
                if not job.noticed and self._is_late(job):
                    late.append(address)
                again.append(replace(self._again(job, attempt), noticed=bool(job.noticed) or address in late))
                self._tracking.event("DEFER", envelope, address, again[-1].last)
        if over or again or new:
            await self._queue.settle(envelope.id, over, again, await self._pipeline.notice(
                envelope, attempt.outcomes, [*over, *late], attempt.content, attempt.origins), new)
        self._count_again(again)

    def _again(self, job: Job, attempt: Attempt) -> Waiting:
        reply = attempt.outcomes[job.address]
        if reply is replies.LOST_ALONE:
            _log.warning("a mailbox process ended over a message", extra={"f": {
                "message": to_text(job.envelope.id), "queue": job.queue, "tries": job.tries + 1}})
            return attempt.waiting(job.address, max(job.tries + 1, POISON_TRIES))
        one = attempt.waiting(job.address, job.tries + 1)
        return replace(one, last=job.last) if reply is replies.TRY_LATER and job.last in SUSPECT else one

    def _count_again(self, waiting: list[Waiting]) -> None:
        if any(one.last in (LOST_ALONE, FAULT) for one in waiting):
            self._count_poison = True
            self._wake.set()

    def _show_poison(self) -> None:
        if self._poison or self._count_poison:
            self._count_poison = False
            count = self._queue.saying(LOST_ALONE) + self._queue.saying(FAULT)
            if count != self._poison:
                self._poison = count
                self._on_poison(count)

    def _before(self, age_ms: int) -> int:
        """What came before this time (ms) is of that age.

        Nothing that came while we ran is older than we are, whatever a clock that jumped ahead says.
        """
        wall, monotonic = self._began
        before = self._clock.now_ms() - age_ms
        return before if (self._clock.monotonic() - monotonic) * 1000 >= age_ms else min(before, wall)

    def _is_late(self, job: Job) -> bool:
        return job.envelope.received < self._before(LATE_MS)

    def _give_up(self, job: Job) -> bool:
        schedule = self._queue.schedule_of(job.queue)
        return job.tries + 1 >= schedule.tries and job.envelope.received <= self._before(schedule.give_up_ms)

    # -- a next hop that cannot be reached

    async def _not_reached(self, lane: Lane, reply: Reply) -> None:
        now = self._clock.now_ms()
        if lane.closed_until > now:
            return  # another attempt that was under way has said so already
        lane.proved = False
        lane.closed_until = now + int(lane.schedule.wait(lane.failures) * 1000)
        lane.failures += 1
        lane.last = f"{reply.code} {reply.status} {reply.text}"
        lane.put_back()
        _log.info("a next hop cannot be reached", extra={"f": {
            "queue": lane.name, "failures": lane.failures, "why": reply.text}})
        if lane.failures >= HOP_FAILURES:
            await self._old(lane, reply, self._before(lane.schedule.give_up_ms))
        await self._late(lane, reply, self._before(LATE_MS))

    async def _old(self, lane: Lane, reply: Reply, received: int) -> None:
        """Give up what has waited for too long."""
        for noticed in (False, True):
            while jobs := self._queue.older(lane.name, received, noticed=noticed):
                for group in by_message(jobs):
                    envelope, addresses = group[0].envelope, [job.address for job in group]
                    outcomes = dict.fromkeys(addresses, _too_long(reply.text))
                    for address in addresses:
                        self._tracking.event("FAIL", envelope, address, f"{reply.code} {reply.status} {reply.text}")
                    content = self._queue.content(envelope.id) or b""
                    await self._queue.settle(envelope.id, addresses, [], await self._pipeline.notice(
                        envelope, outcomes, addresses, content, origins(group)))

    async def _late(self, lane: Lane, reply: Reply, received: int) -> None:
        """Tell the senders of what has waited for long, once."""
        while jobs := self._queue.older(lane.name, received, noticed=False):
            for group in by_message(jobs):
                envelope, addresses = group[0].envelope, [job.address for job in group]
                content = self._queue.content(envelope.id) or b""
                again = [Waiting(job.address, job.queue, job.last, job.tries, job.priority, True) for job in group]
                await self._queue.settle(envelope.id, [], again, await self._pipeline.notice(
                    envelope, dict.fromkeys(addresses, reply), addresses, content, origins(group)))


def _too_long(why: str) -> Reply:
    return Reply(554, "5.4.7", f"Tried for too long, at last: {why}")


def origins(jobs: list[Job]) -> dict[str, str]:
    """Address -> the group that it stands for, of those that a sender did not write himself."""
    return {job.address: job.origin for job in jobs if job.origin}


def keys(jobs: list[Job]) -> set[tuple[bytes, str]]:
    """(message, address) of each."""
    return {(job.envelope.id, job.address) for job in jobs}


def by_message(jobs: list[Job]) -> list[list[Job]]:
    """The recipients of each message."""
    groups: dict[bytes, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.envelope.id, []).append(job)
    return list(groups.values())


def _suspicion(jobs: list[Job]) -> int:
    """0: nothing is known against it; 1: it was under way when a process ended; 2: alone."""
    return max((SUSPECT.index(job.last) + 1 if job.last in SUSPECT else 0) for job in jobs)


async def remove(pipeline: Pipeline, queue: Queue, jobs: list[Job], *, notify: bool) -> bytes:
    """Give up what an administrator removes. notify: tell the sender, as he wished to be told; that report's id."""
    envelope, addresses = jobs[0].envelope, [job.address for job in jobs]
    notice = None
    if notify:
        refused = Reply(554, "5.7.0", "Removed by the administrator")
        content = queue.content(envelope.id) or b""
        notice = await pipeline.notice(envelope, dict.fromkeys(addresses, refused), addresses, content, origins(jobs))
    await queue.settle(envelope.id, addresses, [], notice)
    pipeline.removed(envelope, addresses)
    return b"" if notice is None else notice.envelope.id
