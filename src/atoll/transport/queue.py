"""The queue: recipients whose copy could not be delivered at once, durable before the client hears 250.

In     an engine of sql/, envelopes, contents.
Out    put(), settle(): durable when they return; due(): recipients of one next hop whose time has come; on_waiting is
       told of each queue in which something waits anew.
Spec   ISLANDS 11.1, 11.6, 11.14 (owner, group commit, commit contract); [RFC 5321 §4.5.4.1] for the schedule. A time
       that lies further ahead than any wait is due: the clock was set back.
Fails  SqlError: nothing was accepted; in doubt the role ends and starts anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import msgspec

from atoll.base.clock import Clock
from atoll.sql import Connection, Engine, Epochs, Fence, GroupWriter, Schema, SqlError, migrate, take_ownership
from atoll.sql import Database as File
from atoll.transport.envelope import Envelope

PRIORITIES = (0, 1, 2)
CHECKPOINT_BYTES = 16 << 20
"""Octets of messages after which the write-ahead log is folded back."""
_log = logging.getLogger("atoll.transport.queue")
_decode = msgspec.msgpack.Decoder(Envelope).decode


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to try again, and when to stop. seconds: waits between attempts, the last one repeats.

    A message is given up when it is older than `give_up_ms` and has been tried `tries` times: a clock that jumps ahead
    is no reason. Two days, as Exchange has it; the mailbox keeps delivery keys for longer.
    """

    seconds: tuple[float, ...] = (1, 5, 15, 60, 300, 900, 1800)
    give_up_ms: int = 2 * 86_400_000
    tries: int = 60

    def wait(self, tries: int) -> float:
        """Seconds after so many attempts; none before the first, which is -1."""
        return 0.0 if tries < 0 else self.seconds[min(tries, len(self.seconds) - 1)]


ELSEWHERE = Schedule(seconds=(60, 60, 60, 60, 900))
"""For other organizations' servers: four times after a minute, then every quarter of an hour, as Exchange has it."""
CONNECTIONS = 20
"""To one next hop outside at a time."""
SMARTHOST = "smarthost"
"""The queue of all that goes by way of one server; no domain has this name."""


def leaves(queue: str) -> bool:
    """Is this the queue of a next hop outside? Domains have a dot, processes of ours have none."""
    return "." in queue or queue == SMARTHOST


@dataclass(frozen=True, slots=True)
class Waiting:
    """A recipient that has to wait: its next hop, what the last attempt said, attempts so far.

    priority: 0 goes first, 1 is normal, 2 goes last. noticed: its sender has been told that it is late. origin: the
    group that it stands for, as the sender wrote it; "": he wrote this address. soon: however many attempts there were,
    the next one follows at once.
    """

    address: str
    queue: str
    last: str
    tries: int = 0
    priority: int = 1
    noticed: bool = False
    origin: str = ""
    soon: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A recipient in the queue."""

    envelope: Envelope
    address: str
    queue: str
    due: int
    tries: int
    last: str
    size: int
    priority: int
    noticed: int
    origin: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A message of our own (a report), to be queued in the same transaction as what it tells of."""

    envelope: Envelope
    content: bytes
    waiting: tuple[Waiting, ...]


@dataclass(frozen=True, slots=True)
class Length:
    """One queue as the administrator sees it. due: milliseconds."""

    queue: str
    messages: int
    size: int
    due: int
    last: str


class Tx:
    """What the units of one group share."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.changes = 0

    def run(self, text: str, values: Sequence[int | str | bytes]) -> int:
        """One statement; rows that it changed."""
        self.changes += 1
        return self.connection.run(text, values)

    def mark(self) -> int:
        return self.changes

    def flush(self) -> None:
        """Every statement is written when it is given."""

    def abandon(self) -> None:
        """Memory knows nothing of it."""

    def committed(self) -> None:
        """Whoever waits is told by his future."""


class Queue:
    """The queue database of this process."""

    def __init__(self, file: File, fence: Fence, clock: Clock, on_doubt: Callable[[SqlError], None],
                 schedule: Schedule) -> None:
        self._file = file
        self._clock = clock
        self.schedule = schedule
        self.elsewhere = ELSEWHERE
        self.on_waiting: Callable[[str, int], None] = lambda queue, due: None
        """Called with a queue and a time (ms) when something waits there, once that is durable."""
        self._written = 0
        self._commits = ThreadPoolExecutor(1, "queue-commit")
        self._writer: GroupWriter[Tx] = GroupWriter("queue", file.writer, fence, Tx, self._commits, on_doubt)

    @classmethod
    async def open(cls, engine: Engine, path: Path, epochs: Epochs, clock: Clock, *, process: str,
                   on_doubt: Callable[[SqlError], None], schedule: Schedule | None = None) -> Queue:
        """Open, migrate, become the owner."""
        file = engine.open(path)
        try:
            file = migrate(engine, file, Schema.of(files("atoll.transport.sql").joinpath("schema")))
            ownership = await take_ownership(file.writer, epochs, "queue", process)
        except BaseException:
            file.close()
            raise
        return cls(file, Fence(file.writer, ownership.epoch), clock, on_doubt, schedule or Schedule())

    # -- writing

    def schedule_of(self, queue: str) -> Schedule:
        """When what waits there is tried again."""
        return self.elsewhere if leaves(queue) else self.schedule

    async def put(self, envelope: Envelope, content: bytes, waiting: Sequence[Waiting], notice: Notice | None) -> None:
        """Keep a message for those who wait, and a notice. Durable when it returns."""
        dues: dict[str, int] = {}

        def work(tx: Tx) -> None:
            dues.clear()  # it may be run again
            if waiting:
                self._insert(tx, envelope, content, waiting, dues)
            if notice is not None:
                self._insert(tx, notice.envelope, notice.content, notice.waiting, dues)

        await self._submit(work, dues)

    async def settle(self, message: bytes, over: Sequence[str], again: Sequence[Waiting],
                     notice: Notice | None = None, new: Sequence[Waiting] = ()) -> None:
        """After an attempt. Durable when it returns.

        over: who have theirs, or never will; again: who wait on; new: who wait from now on, unless the message was
        removed meanwhile.
        """
        dues: dict[str, int] = {}

        def work(tx: Tx) -> None:
            dues.clear()
            now = self._clock.now_ms()
            for address in over:
                tx.run("DELETE FROM job WHERE id = ? AND address = ?", (message, address))
            for one in again:
                due = self._due(now, one, dues)
                tx.run("UPDATE job SET due = ?, tries = ?, last = ?, queue = ?, noticed = ?"
                       " WHERE id = ? AND address = ?",
                       (due, one.tries, one.last, one.queue, int(one.noticed), message, one.address))
            for one in new:
                due = self._due(now, one, dues)
                tx.run("INSERT INTO job (id, address, queue, due, tries, last, priority, received, size, origin)"
                       " SELECT id, ?, ?, ?, ?, ?, ?, received, size, ? FROM message WHERE id = ?"
                       " ON CONFLICT (id, address) DO NOTHING",
                       (one.address, one.queue, due, one.tries, one.last, one.priority, one.origin, message))
            if over:
                tx.run("DELETE FROM message WHERE id = ? AND NOT EXISTS (SELECT 1 FROM job WHERE id = ?)",
                       (message, message))
            if notice is not None:
                self._insert(tx, notice.envelope, notice.content, notice.waiting, dues)

        await self._submit(work, dues)

    async def hurry(self, message: bytes = b"", queue: str = "") -> int:
        """Try now: one message, a queue, or everything. How many recipients."""
        now = self._clock.now_ms()

        def work(tx: Tx) -> int:
            return tx.run("UPDATE job SET due = ? WHERE (? = x'' OR id = ?) AND (? = '' OR queue = ?)",
                          (now, message, message, queue, queue))

        return await self._submit(work, {})

    async def suspend(self, queue: str, *, stop: bool) -> None:
        """Try nothing there until it is resumed; durable."""
        now = self._clock.now_ms()

        def work(tx: Tx) -> None:
            tx.run("DELETE FROM suspended WHERE queue = ?", (queue,))
            if stop:
                tx.run("INSERT INTO suspended (queue, since) VALUES (?, ?)", (queue, now))

        await self._submit(work, {})

    def _due(self, now: int, one: Waiting, dues: dict[str, int]) -> int:
        due = now + int(self.schedule_of(one.queue).wait(0 if one.soon else one.tries) * 1000)
        dues[one.queue] = min(due, dues.get(one.queue, due))
        return due

    def _insert(self, tx: Tx, envelope: Envelope, content: bytes, waiting: Sequence[Waiting],
                dues: dict[str, int]) -> None:
        tx.run("INSERT INTO message (id, envelope, content, size, received) VALUES (?, ?, ?, ?, ?)",
               (envelope.id, msgspec.msgpack.encode(envelope), content, len(content), envelope.received))
        self._written += len(content)
        now = self._clock.now_ms()
        for one in waiting:
            tx.run("INSERT INTO job (id, address, queue, due, tries, last, priority, received, size, origin)"
                   " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                   (envelope.id, one.address, one.queue, self._due(now, one, dues), one.tries, one.last, one.priority,
                    envelope.received, len(content), one.origin))

    async def _submit(self, work: Callable[[Tx], int] | Callable[[Tx], None], dues: dict[str, int]) -> int:
        done = await asyncio.shield(self._writer.submit(work))
        for queue, due in dues.items():
            self.on_waiting(queue, due)
        if self._written > CHECKPOINT_BYTES:
            self._written = 0
            try:
                await self._writer.between(lambda: self._file.checkpoint(restart=True))
            except SqlError as error:  # what was asked for is committed all the same
                _log.warning("checkpoint failed", extra={"f": {"error": str(error)}})
        return done or 0

    # -- reading

    def due(self, queue: str, limit: int = 100, *, without: Collection[tuple[bytes, str]] = ()) -> list[Job]:
        """Recipients of one next hop whose time has come: those of high priority first, then the oldest.

        without: (message, address) of those that are being tried. A time that lies further ahead than any wait is due:
        the clock was set back.
        """
        now = self._clock.now_ms()
        far = now + int(max(self.schedule_of(queue).seconds) * 1000) + 60_000
        found: list[Job] = []
        for priority in PRIORITIES:
            for bound, moment in (("<=", now), (">", far)):
                rows = self._jobs(f"queue = ? AND priority = ? AND due {bound} ?", (queue, priority, moment),
                                  limit - len(found) + len(without))
                found += [job for job in rows if (job.envelope.id, job.address) not in without]
                if len(found) >= limit:
                    return found[:limit]
        return found

    def older(self, queue: str, received: int, *, noticed: bool, limit: int = 100) -> list[Job]:
        """Recipients of one next hop whose message came before that time (ms)."""
        return self._jobs("queue = ? AND noticed = ? AND received < ?", (queue, int(noticed), received), limit)

    def waiting(self, *, message: bytes = b"", queue: str = "", limit: int = 1000) -> list[Job]:
        """What waits: of one message, of a queue, or everything."""
        if message:
            return self._jobs("id = ? AND (? = '' OR queue = ?)", (message, queue, queue), limit)
        return self._jobs("queue = ?", (queue,), limit) if queue else self._jobs("1 = 1", (), limit)

    def _jobs(self, where: str, values: Sequence[int | str | bytes], limit: int) -> list[Job]:
        rows = self._file.reader.all(
            "SELECT m.envelope, j.address, j.queue, j.due, j.tries, j.last, j.size, j.priority, j.noticed,"  # noqa: S608
            f" j.origin FROM (SELECT * FROM job WHERE {where} ORDER BY due LIMIT ?) j"  # constants
            " JOIN message m ON m.id = j.id ORDER BY j.due, j.id", (*values, limit))
        return [Job(_decode(row[0]), *row[1:]) for row in rows]

    def next_due(self, queue: str, *, without: Collection[tuple[bytes, str]] = ()) -> int | None:
        """When the earliest of one next hop is due, milliseconds."""
        found: list[int] = []
        for priority in PRIORITIES:
            rows = self._file.reader.all("SELECT id, address, due FROM job WHERE queue = ? AND priority = ?"
                                         " ORDER BY due LIMIT ?", (queue, priority, len(without) + 1))
            found += [row[2] for row in rows if (row[0], row[1]) not in without][:1]
        return min(found, default=None)

    def queues(self) -> list[str]:
        """Every next hop that something waits for."""
        found: list[str] = []
        while row := self._file.reader.one("SELECT min(queue) FROM job WHERE queue > ?", (found[-1] if found else "",)):
            if row[0] is None:
                break
            found.append(row[0])  # one step in the index each, however long they are
        return found

    def suspended(self) -> set[str]:
        """The queues that were stopped."""
        return {row[0] for row in self._file.reader.all("SELECT queue FROM suspended")}

    def depth(self) -> int:
        """Recipients that wait."""
        row = self._file.reader.one("SELECT count(*) FROM job")
        return int(row[0]) if row else 0

    def saying(self, last: str) -> int:
        """Messages whose last attempt said this."""
        row = self._file.reader.one("SELECT count(DISTINCT id) FROM job WHERE last = ?", (last,))
        return int(row[0]) if row else 0

    def lengths(self) -> list[Length]:
        """Each queue."""
        rows = self._file.reader.all(
            "SELECT queue, count(*), sum(size), min(due), max(last) FROM"
            " (SELECT queue, min(size) AS size, min(due) AS due, max(last) AS last FROM job GROUP BY queue, id) j"
            " GROUP BY queue ORDER BY queue")
        return [Length(row[0], row[1], row[2] or 0, row[3], row[4]) for row in rows]

    def content(self, message: bytes) -> bytes | None:
        """A message's octets."""
        row = self._file.reader.one("SELECT content FROM message WHERE id = ?", (message,))
        return bytes(row[0]) if row else None

    async def close(self) -> None:
        """Finish what waits, close the file."""
        await self._writer.close()
        self._commits.shutdown()
        self._file.close()
