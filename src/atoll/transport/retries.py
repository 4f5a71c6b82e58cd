"""Trying again what waits in the queue.

In     the queue's jobs when their time has come.
Out    each recipient delivered, waiting on, or given up with a report to the sender: all of it one transaction.
Spec   [RFC 5321 §4.5.4]; the schedule is queue.Schedule. A crash between delivery and settle() repeats the attempt;
       the delivery key finds its first result.
       Where a connection went, any of the messages under way may have ended the mailbox process. They are tried one by
       one, each beside no other mail for that process: those that did no harm are delivered in seconds. One that ends
       it alone waits a minute, then longer and longer, and is shown.
Fails  a queue that cannot be read: it is looked at again a second later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

from atoll.base.clock import Clock
from atoll.base.ids import to_text
from atoll.formats.smtp import replies
from atoll.formats.smtp.replies import Reply
from atoll.sql import SqlError
from atoll.transport.pipeline import Attempt, Pipeline, said
from atoll.transport.queue import Job, Queue, Waiting
from atoll.transport.tracking import Tracking

LONGEST_SLEEP = 60.0
POISON_TRIES = 3
"""Where a message that ended its mailbox process alone goes on in the schedule: at a minute."""
LOST_ALONE = said(replies.LOST_ALONE)
SUSPECT = frozenset((said(replies.LOST), LOST_ALONE))
"""What the last attempt said when the message may be why."""
_log = logging.getLogger("atoll.transport.retries")


class Retries:
    """One per transport process; run() is its task."""

    def __init__(self, pipeline: Pipeline, queue: Queue, tracking: Tracking, clock: Clock,
                 on_poison: Callable[[int], None] = lambda count: None) -> None:
        """on_poison: told how many messages there are that ended a mailbox process alone, when that changes."""
        self._pipeline = pipeline
        self._queue = queue
        self._tracking = tracking
        self._clock = clock
        self._on_poison = on_poison
        self._poison = 0
        self._count_poison = True

    async def run(self) -> None:
        """For ever."""
        while True:
            self._pipeline.queued.clear()
            try:
                jobs = self._queue.due()
                if jobs:
                    await self._all(jobs)
                self._show_poison()
                if jobs:
                    continue
                due = self._queue.next_due()
            except SqlError as error:
                _log.error("the queue cannot be used", extra={"f": {"error": str(error)}})
                await asyncio.sleep(1)
                continue
            wait = LONGEST_SLEEP if due is None else (due - self._clock.now_ms()) / 1000
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._pipeline.queued.wait(), min(max(wait, 0.02), LONGEST_SLEEP))

    async def _all(self, jobs: list[Job]) -> None:
        messages: dict[bytes, list[Job]] = {}
        suspects: dict[str, dict[bytes, list[Job]]] = {}
        for job in jobs:
            among = suspects.setdefault(job.queue, {}) if job.last in SUSPECT else messages
            among.setdefault(job.envelope.id, []).append(job)
        await asyncio.gather(*[self.one(group) for group in messages.values()],
                             *[self._one_by_one(list(groups.values())) for groups in suspects.values()])

    async def _one_by_one(self, groups: list[list[Job]]) -> None:
        """Messages of which any may have ended the mailbox process. Those that never did come first."""
        groups.sort(key=lambda jobs: any(job.last == LOST_ALONE for job in jobs))
        for at, jobs in enumerate(groups):
            if not await self.one(jobs, alone=True):
                for later in groups[at + 1:]:  # it is away: nobody's fault, and no use to ask again for each
                    await self._queue.settle(later[0].envelope.id, [], [
                        Waiting(job.address, job.queue, job.last, max(job.tries, 1)) for job in later])
                return

    async def one(self, jobs: list[Job], *, alone: bool = False) -> bool:
        """Try one message again for some of its recipients. False: nobody was there to take it.

        What is wrong with one message is no matter of the others: it waits on.
        """
        try:
            return await self._try(jobs, alone=alone)
        except SqlError:
            raise
        except Exception:
            _log.exception("a message cannot be tried", extra={"f": {"message": to_text(jobs[0].envelope.id)}})
            await self._queue.settle(jobs[0].envelope.id, [], [
                Waiting(job.address, job.queue, job.last, job.tries + 1) for job in jobs])
            return True

    async def _try(self, jobs: list[Job], *, alone: bool) -> bool:
        envelope = jobs[0].envelope
        content = self._queue.content(envelope.id)
        if content is None:  # removed meanwhile
            return True
        answer: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()

        def done(attempt: Attempt) -> None:
            if not answer.done():  # we may have been stopped
                answer.set_result(attempt)

        self._pipeline.attempt(Attempt(envelope, content, done, alone=alone), [job.address for job in jobs])
        attempt = await answer
        again = []
        for job in jobs:
            if not attempt.outcomes[job.address].temporary:
                continue
            if self._give_up(job):
                last = attempt.outcomes[job.address]
                attempt.outcomes[job.address] = Reply(554, "5.4.7", f"Tried for too long, at last: {last.text}")
                self._tracking.event("FAIL", envelope, job.address, attempt.waiting(job.address, 0).last)
            else:
                again.append(self._again(job, attempt))
                self._tracking.event("DEFER", envelope, job.address, again[-1].last)
        over = attempt.over()
        await self._queue.settle(envelope.id, over, again,
                                 await self._pipeline.notice(envelope, attempt.outcomes, over, content))
        return not all(reply is replies.TRY_LATER for reply in attempt.outcomes.values())

    def _again(self, job: Job, attempt: Attempt) -> Waiting:
        reply = attempt.outcomes[job.address]
        if reply is replies.LOST_ALONE:
            self._count_poison = True
            _log.warning("a mailbox process ended over a message", extra={"f": {
                "message": to_text(job.envelope.id), "queue": job.queue, "tries": job.tries + 1}})
            return attempt.waiting(job.address, max(job.tries + 1, POISON_TRIES))
        one = attempt.waiting(job.address, job.tries + 1)
        return replace(one, last=job.last) if reply is replies.TRY_LATER and job.last in SUSPECT else one

    def _show_poison(self) -> None:
        if self._poison or self._count_poison:
            self._count_poison = False
            count = self._queue.saying(LOST_ALONE)
            if count != self._poison:
                self._poison = count
                self._on_poison(count)

    def _give_up(self, job: Job) -> bool:
        schedule = self._queue.schedule
        return job.tries + 1 >= schedule.tries and \
            self._clock.now_ms() - job.envelope.received >= schedule.give_up_ms


async def remove(pipeline: Pipeline, queue: Queue, jobs: list[Job], *, notify: bool) -> bytes:
    """Give up what an administrator removes. notify: tell the sender, as he wished to be told; that report's id."""
    envelope, addresses = jobs[0].envelope, [job.address for job in jobs]
    notice = None
    if notify:
        refused = Reply(554, "5.7.0", "Removed by the administrator")
        content = queue.content(envelope.id) or b""
        notice = await pipeline.notice(envelope, dict.fromkeys(addresses, refused), addresses, content)
    await queue.settle(envelope.id, addresses, [], notice)
    pipeline.removed(envelope, addresses)
    pipeline.queued.set()
    return b"" if notice is None else notice.envelope.id
