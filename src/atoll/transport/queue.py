"""The queue: recipients whose copy could not be delivered at once, durable before the client hears 250.

In     an engine of sql/, envelopes, contents.
Out    put(): durable when it returns; due(): jobs whose time has come; done/again: their outcome.
Spec   ISLANDS 11.1, 11.6, 11.14 (owner, group commit, commit contract). Retries by the wall clock of the row, waits by
       the monotonic one: a clock that jumps makes a retry early or late, never lost.
Fails  SqlError: nothing was accepted; in doubt the role ends and starts anew.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import msgspec

from atoll.base.clock import Clock
from atoll.sql import Connection, Engine, Epochs, Fence, GroupWriter, Schema, SqlError, migrate, take_ownership
from atoll.sql import Database as File
from atoll.transport.envelope import Envelope

RETRY_SECONDS = (1, 5, 15, 60, 300, 900, 1800)
"""Waits between attempts; the last one repeats."""
GIVE_UP_MS = 5 * 86_400_000
"""After five days the sender is told [RFC 5321 §4.5.4.1]."""


@dataclass(frozen=True, slots=True)
class Job:
    """One recipient of one message that waits."""

    envelope: Envelope
    address: str
    tries: int
    held: bool
    due: int
    last: str


class Tx:
    """What the units of one group share."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.changes = 0

    def run(self, text: str, values: tuple[int | str | bytes, ...]) -> int:
        """One statement."""
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

    def __init__(self, file: File, fence: Fence, clock: Clock, on_doubt: Callable[[SqlError], None]) -> None:
        self._file = file
        self._clock = clock
        self._commits = ThreadPoolExecutor(1, "queue-commit")
        self._writer: GroupWriter[Tx] = GroupWriter("transport.queue", file.writer, fence, Tx, self._commits, on_doubt)

    @classmethod
    async def open(cls, engine: Engine, path: Path, epochs: Epochs, clock: Clock, *, process: str,
                   on_doubt: Callable[[SqlError], None]) -> Queue:
        """Open, migrate, become the owner."""
        file = migrate(engine, engine.open(path), Schema.of(files("atoll.transport.sql").joinpath("schema")))
        ownership = await take_ownership(file.writer, epochs, "queue", process)
        return cls(file, Fence(file.writer, ownership.epoch), clock, on_doubt)

    async def put(self, envelope: Envelope, content: bytes, waiting: list[tuple[str, str]]) -> None:
        """Keep a message for these recipients: (address, what the last attempt said). Durable when it returns."""
        encoded = msgspec.msgpack.encode(envelope)
        due = self._clock.now_ms() + RETRY_SECONDS[0] * 1000

        def work(tx: Tx) -> None:
            tx.run("INSERT INTO message (id, envelope, content, received) VALUES (?, ?, ?, ?)",
                   (envelope.id, encoded, content, envelope.received))
            for address, last in waiting:
                tx.run("INSERT INTO job (id, address, due, tries, held, last) VALUES (?, ?, ?, 0, 0, ?)",
                       (envelope.id, address, due, last))

        await self._writer.submit(work)

    def due(self, limit: int = 50) -> list[Job]:
        """Jobs whose time has come, oldest first."""
        return self._jobs("WHERE held = 0 AND due <= ? ORDER BY due LIMIT ?", (self._clock.now_ms(), limit))

    def waiting(self, limit: int = 1000) -> list[Job]:
        """What waits."""
        return self._jobs("WHERE 1 = 1 ORDER BY due LIMIT ?", (limit,))

    def _jobs(self, where: str, values: tuple[int, ...]) -> list[Job]:
        rows = self._file.reader.all(
            "SELECT m.envelope, j.address, j.tries, j.held, j.due, j.last FROM (SELECT * FROM job " + where +  # noqa: S608
            ") j JOIN message m ON m.id = j.id ORDER BY j.due", values)
        return [Job(msgspec.msgpack.decode(row[0], type=Envelope), row[1], row[2], bool(row[3]), row[4], row[5])
                for row in rows]

    def next_due(self) -> int | None:
        """When the earliest job is due, milliseconds."""
        row = self._file.reader.one("SELECT min(due) FROM job WHERE held = 0")
        return None if row is None or row[0] is None else int(row[0])

    def depth(self) -> int:
        """Recipients that wait."""
        row = self._file.reader.one("SELECT count(*) FROM job")
        return int(row[0]) if row else 0

    def content(self, message: bytes) -> bytes | None:
        """A message's octets."""
        row = self._file.reader.one("SELECT content FROM message WHERE id = ?", (message,))
        return bytes(row[0]) if row else None

    async def done(self, message: bytes, addresses: list[str]) -> None:
        """These recipients have theirs, or never will: forget them, and the message with the last of them."""
        def work(tx: Tx) -> None:
            for address in addresses:
                tx.run("DELETE FROM job WHERE id = ? AND address = ?", (message, address))
            tx.run("DELETE FROM message WHERE id = ? AND NOT EXISTS (SELECT 1 FROM job WHERE id = ?)",
                   (message, message))

        await self._writer.submit(work)

    async def again(self, message: bytes, waiting: list[tuple[str, int, str]]) -> None:
        """Try these later: (address, attempts so far, what the last one said)."""
        now = self._clock.now_ms()

        def work(tx: Tx) -> None:
            for address, tries, last in waiting:
                due = now + RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)] * 1000
                tx.run("UPDATE job SET due = ?, tries = ?, last = ? WHERE id = ? AND address = ?",
                       (due, tries, last, message, address))

        await self._writer.submit(work)

    async def hurry(self, message: bytes | None = None) -> int:
        """Try now: one message's jobs, or all. How many."""
        now = self._clock.now_ms()

        def work(tx: Tx) -> int:
            if message is None:
                return tx.run("UPDATE job SET due = ? WHERE held = 0", (now,))
            return tx.run("UPDATE job SET due = ? WHERE held = 0 AND id = ?", (now, message))

        return await self._writer.submit(work)

    async def close(self) -> None:
        """Finish what waits, close the file."""
        await self._writer.close()
        self._commits.shutdown()
        self._file.close()
