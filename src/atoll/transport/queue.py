"""The queue: recipients whose copy could not be delivered at once, durable before the client hears 250.

In     an engine of sql/, envelopes, contents.
Out    put(), settle(): durable when they return; due(): recipients whose time has come.
Spec   ISLANDS 11.1, 11.6, 11.14 (owner, group commit, commit contract); [RFC 5321 §4.5.4.1] for the schedule. A time
       that lies further ahead than any wait is due: the clock was set back.
Fails  SqlError: nothing was accepted; in doubt the role ends and starts anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import msgspec

from atoll.base.clock import Clock
from atoll.sql import Connection, Engine, Epochs, Fence, GroupWriter, Schema, SqlError, migrate, take_ownership
from atoll.sql import Database as File
from atoll.transport.envelope import Envelope

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
        """Seconds after so many attempts."""
        return self.seconds[min(tries, len(self.seconds) - 1)]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A recipient that has to wait: its next hop, what the last attempt said, attempts so far. soon: however many
    they were, the next one follows at once."""

    address: str
    queue: str
    last: str
    tries: int = 0
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

    async def put(self, envelope: Envelope, content: bytes, waiting: Sequence[Waiting], notice: Notice | None) -> None:
        """Keep a message for those who wait, and a notice. Durable when it returns."""
        def work(tx: Tx) -> None:
            if waiting:
                self._insert(tx, envelope, content, waiting)
            if notice is not None:
                self._insert(tx, notice.envelope, notice.content, notice.waiting)

        await self._submit(work)

    async def settle(self, message: bytes, over: Sequence[str], again: Sequence[Waiting],
                     notice: Notice | None = None) -> None:
        """After an attempt. over: who have theirs, or never will; again: who wait on. Durable when it returns."""
        def work(tx: Tx) -> None:
            now = self._clock.now_ms()
            for address in over:
                tx.run("DELETE FROM job WHERE id = ? AND address = ?", (message, address))
            for one in again:
                tx.run("UPDATE job SET due = ?, tries = ?, last = ?, queue = ? WHERE id = ? AND address = ?",
                       (self._due(now, one), one.tries, one.last, one.queue, message, one.address))
            if over:
                tx.run("DELETE FROM message WHERE id = ? AND NOT EXISTS (SELECT 1 FROM job WHERE id = ?)",
                       (message, message))
            if notice is not None:
                self._insert(tx, notice.envelope, notice.content, notice.waiting)

        await self._submit(work)

    async def hurry(self, message: bytes = b"", queue: str = "") -> int:
        """Try now: one message, a queue, or everything. How many recipients."""
        now = self._clock.now_ms()

        def work(tx: Tx) -> int:
            return tx.run("UPDATE job SET due = ? WHERE (? = x'' OR id = ?) AND (? = '' OR queue = ?)",
                          (now, message, message, queue, queue))

        return await self._submit(work)

    def _due(self, now: int, one: Waiting) -> int:
        return now + int(self.schedule.wait(0 if one.soon else one.tries) * 1000)

    def _insert(self, tx: Tx, envelope: Envelope, content: bytes, waiting: Sequence[Waiting]) -> None:
        tx.run("INSERT INTO message (id, envelope, content, size, received) VALUES (?, ?, ?, ?, ?)",
               (envelope.id, msgspec.msgpack.encode(envelope), content, len(content), envelope.received))
        self._written += len(content)
        now = self._clock.now_ms()
        for one in waiting:
            tx.run("INSERT INTO job (id, address, queue, due, tries, last) VALUES (?, ?, ?, ?, ?, ?)",
                   (envelope.id, one.address, one.queue, self._due(now, one), one.tries, one.last))

    async def _submit(self, work: Callable[[Tx], int] | Callable[[Tx], None]) -> int:
        done = await asyncio.shield(self._writer.submit(work))
        if self._written > CHECKPOINT_BYTES:
            self._written = 0
            try:
                await self._writer.between(lambda: self._file.checkpoint(restart=True))
            except SqlError as error:  # what was asked for is committed all the same
                _log.warning("checkpoint failed", extra={"f": {"error": str(error)}})
        return done or 0

    # -- reading

    def due(self, limit: int = 100, max_bytes: int = 64 << 20) -> list[Job]:
        """Recipients whose time has come, oldest first; of more than one message at most `max_bytes`."""
        now = self._clock.now_ms()
        found: list[Job] = []
        total = 0
        sized: set[bytes] = set()
        for job in self._jobs("due <= ? OR due > ?", (now, now + int(max(self.schedule.seconds) * 1000) + 60_000),
                              limit):
            if job.envelope.id not in sized:
                sized.add(job.envelope.id)
                total += job.size
                if total > max_bytes and found:
                    break
            found.append(job)
        return found

    def waiting(self, *, message: bytes = b"", queue: str = "", limit: int = 1000) -> list[Job]:
        """What waits: of one message, of a queue, or everything."""
        return self._jobs("(? = x'' OR id = ?) AND (? = '' OR queue = ?)", (message, message, queue, queue), limit)

    def _jobs(self, where: str, values: Sequence[int | str | bytes], limit: int) -> list[Job]:
        rows = self._file.reader.all(
            "SELECT m.envelope, j.address, j.queue, j.due, j.tries, j.last, m.size FROM"  # noqa: S608 -- constants
            f" (SELECT * FROM job WHERE {where} ORDER BY due LIMIT ?) j"
            " JOIN message m ON m.id = j.id ORDER BY j.due, j.id", (*values, limit))
        return [Job(_decode(row[0]), *row[1:]) for row in rows]

    def next_due(self) -> int | None:
        """When the earliest is due, milliseconds."""
        row = self._file.reader.one("SELECT min(due) FROM job")
        return None if row is None or row[0] is None else int(row[0])

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
            "SELECT j.queue, count(DISTINCT j.id), min(j.due), max(j.last),"
            " (SELECT sum(size) FROM message m WHERE m.id IN (SELECT id FROM job k WHERE k.queue = j.queue))"
            " FROM job j GROUP BY j.queue ORDER BY j.queue")
        return [Length(row[0], row[1], row[4] or 0, row[2], row[3]) for row in rows]

    def content(self, message: bytes) -> bytes | None:
        """A message's octets."""
        row = self._file.reader.one("SELECT content FROM message WHERE id = ?", (message,))
        return bytes(row[0]) if row else None

    async def close(self) -> None:
        """Finish what waits, close the file."""
        await self._writer.close()
        self._commits.shutdown()
        self._file.close()
