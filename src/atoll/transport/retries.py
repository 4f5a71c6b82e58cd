"""Trying again what waits in the queue.

In     the queue's jobs when their time has come.
Out    each recipient delivered, waiting on, or given up with a report to the sender: all of it one transaction.
Spec   [RFC 5321 §4.5.4]; the schedule is queue.Schedule. A crash between delivery and settle() repeats the attempt;
       the delivery key finds its first result.
Fails  a queue that cannot be read: it is looked at again a second later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from atoll.base.clock import Clock
from atoll.formats.smtp import replies
from atoll.formats.smtp.replies import Reply
from atoll.sql import SqlError
from atoll.transport.pipeline import Attempt, Pipeline
from atoll.transport.queue import Job, Queue
from atoll.transport.tracking import Tracking

LONGEST_SLEEP = 60.0
POISON_TRIES = 5
"""Where a message that seems to end its mailbox process goes on in the schedule: a quarter of an hour."""
_log = logging.getLogger("atoll.transport.retries")


class Retries:
    """One per transport process; run() is its task. Each queue has rounds of its own: no next hop delays another."""

    def __init__(self, pipeline: Pipeline, queue: Queue, tracking: Tracking, clock: Clock) -> None:
        self._pipeline = pipeline
        self._queue = queue
        self._tracking = tracking
        self._clock = clock
        self._rounds: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                self._pipeline.queued.clear()
                try:
                    for name, jobs in _by_queue(self._queue.due(without=self._rounds)).items():
                        self._begin(name, jobs)
                    due = self._queue.next_due(without=self._rounds)
                except SqlError as error:
                    _log.error("the queue cannot be used", extra={"f": {"error": str(error)}})
                    await asyncio.sleep(1)
                    continue
                wait = LONGEST_SLEEP if due is None else (due - self._clock.now_ms()) / 1000
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._pipeline.queued.wait(), min(max(wait, 0.02), LONGEST_SLEEP))
        finally:
            for task in self._rounds.values():
                task.cancel()

    def _begin(self, name: str, jobs: list[Job]) -> None:
        task = asyncio.get_running_loop().create_task(self._round(jobs))
        self._rounds[name] = task
        task.add_done_callback(lambda _: self._end(name))

    def _end(self, name: str) -> None:
        del self._rounds[name]
        self._pipeline.queued.set()

    async def _round(self, jobs: list[Job]) -> None:
        messages: dict[bytes, list[Job]] = {}
        for job in jobs:
            messages.setdefault(job.envelope.id, []).append(job)
        try:
            await asyncio.gather(*[self.one(group) for group in messages.values()])
        except SqlError as error:
            _log.error("the queue cannot be used", extra={"f": {"error": str(error)}})
            await asyncio.sleep(1)

    async def one(self, jobs: list[Job]) -> None:
        """Try one message again for some of its recipients."""
        envelope = jobs[0].envelope
        content = self._queue.content(envelope.id)
        if content is None:  # removed meanwhile
            return
        answer: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
        self._pipeline.attempt(Attempt(envelope, content, answer.set_result, kept=True), [job.address for job in jobs])
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
                again.append(attempt.waiting(job.address, _tries(job, attempt.outcomes[job.address])))
                self._tracking.event("DEFER", envelope, job.address, again[-1].last)
        over = attempt.over()
        await self._queue.settle(envelope.id, over, again,
                                 await self._pipeline.notice(envelope, attempt.outcomes, over, content))

    def _give_up(self, job: Job) -> bool:
        schedule = self._queue.schedule
        return job.tries + 1 >= schedule.tries and \
            self._clock.now_ms() - job.envelope.received >= schedule.give_up_ms


def _by_queue(jobs: list[Job]) -> dict[str, list[Job]]:
    queues: dict[str, list[Job]] = {}
    for job in jobs:
        queues.setdefault(job.queue, []).append(job)
    return queues


def _tries(job: Job, reply: Reply) -> int:
    """A message at which the mailbox process ended twice may be why it did: it is to wait, and others with it not."""
    again = reply.status == replies.LOST.status and job.last.startswith(f"{reply.code} {reply.status} ")
    return max(job.tries + 1, POISON_TRIES if again else 0)


async def remove(pipeline: Pipeline, queue: Queue, jobs: list[Job], *, notify: bool) -> None:
    """Give up what an administrator removes. notify: tell the sender, as he wished to be told."""
    envelope, addresses = jobs[0].envelope, [job.address for job in jobs]
    notice = None
    if notify:
        refused = Reply(554, "5.7.0", "Removed by the administrator")
        content = queue.content(envelope.id) or b""
        notice = await pipeline.notice(envelope, dict.fromkeys(addresses, refused), addresses, content)
    await queue.settle(envelope.id, addresses, [], notice)
    pipeline.removed(envelope, addresses)
    pipeline.queued.set()
