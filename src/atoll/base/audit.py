"""The audit log: typed events, one JSON line each, chained by hash, only ever appended to (Trust 7).

In     events without secrets (callers pass facts; values are cut at 2 KiB, control characters escaped).
Out    DATA/dir/audit.log. Each line holds `seq`, `time` (ms since 1970), `kind`, the event's fields, and `hash` =
       SHA-256 of the line before's hash and of this line without its hash: a changed, removed or inserted line shows.
       At 64 MiB the file becomes audit-SEQ.log (SEQ: its first) and the chain goes on in a new one.
Fails  A log that cannot be written keeps events in memory (10,000), counts what it must drop, and says so in the log
       when it can be written again: never silently (ATTACKS L002). durable() raises AuditFailed meanwhile.
Not    proof against who can rewrite the whole file: keep a copy of the last hash elsewhere (`atoll audit verify`
       shows it).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from atoll.base.clock import Clock

MAX_FILE = 64 * 1024 * 1024
MAX_WAITING = 10_000
MAX_VALUE = 2048
BATCH_SECONDS = 0.2
FIRST_HASH = "0" * 64
_TAIL = 64 * 1024


class AuditFailed(Exception):
    """The log could not be written."""


class Broken(NamedTuple):
    """Where a chain does not hold."""

    file: str
    line: int
    why: str


class Verified(NamedTuple):
    """What verification found: the number of good lines, the last number and hash, and the first break."""

    lines: int
    seq: int
    hash: str
    broken: Broken | None


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + "…"
    if isinstance(value, Mapping):
        return {str(key)[:64]: _cut(item) for key, item in list(value.items())[:64]}
    return value if isinstance(value, int | float | bool) or value is None else _cut(str(value))


def _link(before: str, body: str) -> str:
    return hashlib.sha256(f"{before}\n{body}".encode()).hexdigest()


def _line(before: str, fields: dict[str, Any]) -> tuple[bytes, str]:
    body = json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
    digest = _link(before, body)
    return f'{body[:-1]},"hash":"{digest}"}}\n'.encode("ascii"), digest


def files_of(path: Path) -> list[Path]:
    """The log's files, oldest first."""
    old = sorted(path.parent.glob("audit-*.log"), key=lambda file: int(file.stem.partition("-")[2]))
    return [*old, path] if path.exists() else old


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every event, oldest first. A torn last line is left out."""
    for file in files_of(path):
        with file.open("rb") as stream:
            for raw in stream:
                if raw.endswith(b"\n"):
                    yield json.loads(raw)


def verify(path: Path) -> Verified:
    """Follow the chain from its first line. Reads every file; run it in a thread."""
    before, seq, lines = FIRST_HASH, 0, 0
    for file in files_of(path):
        with file.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                body, mark, tail = raw.decode("ascii", "replace").rpartition(',"hash":"')
                why = ""
                if not mark or len(tail) != 67 or not tail.endswith('"}\n'):
                    why = "torn or not a line of this log"
                elif _link(before, body + "}") != tail[:64]:
                    why = "its hash does not follow from the line before"
                elif json.loads(body + "}").get("seq") != seq + 1:
                    why = "its number does not follow"
                if why:
                    return Verified(lines, seq, before, Broken(file.name, number, why))
                before, seq, lines = tail[:64], seq + 1, lines + 1
    return Verified(lines, seq, before, None)


class AuditLog:
    """The one writer of an audit log."""

    def __init__(self, path: Path, clock: Clock, *, on_state: Callable[[str, str], None] | None = None) -> None:
        self._path = path
        self._clock = clock
        self._on_state = on_state
        self._thread = ThreadPoolExecutor(1, "audit")
        self._waiting: list[dict[str, Any]] = []
        self._lost = 0
        self._failed = False
        self._descriptor = -1
        self._size = 0
        self._first = 1
        self.seq = 0
        self.hash = FIRST_HASH
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Open for appending; a line torn by a crash is cut off and an event says so. Blocking."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        torn = self._recover()
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._descriptor).st_size
        if torn:
            self._waiting.append({"time": self._clock.now_ms(), "kind": "audit.torn", "bytes": torn})

    def _recover(self) -> int:
        torn = 0
        self._first = 0
        for file in reversed(files_of(self._path)):
            size = file.stat().st_size
            with file.open("r+b") as stream:
                first = stream.readline()
                if file == self._path and first.endswith(b"\n"):
                    self._first = json.loads(first)["seq"]
                stream.seek(max(0, size - _TAIL))
                tail = stream.read()
                cut = len(tail) - (tail.rfind(b"\n") + 1)
                if cut:
                    torn += cut
                    stream.truncate(size - cut)
                whole = tail[: len(tail) - cut].rstrip(b"\n").rpartition(b"\n")[2]
            if whole:
                last = json.loads(whole)
                self.seq, self.hash = last["seq"], last["hash"]
                break
        self._first = self._first or self.seq + 1
        return torn

    def append(self, kind: str, **fields: Any) -> None:
        """Note an event; it is on disk within a fraction of a second."""
        if len(self._waiting) >= MAX_WAITING:
            self._lost += 1
            return
        self._waiting.append({"time": self._clock.now_ms(), "kind": kind,
                              **{key: _cut(value) for key, value in fields.items() if value not in ("", None)}})
        if self._timer is None and self._flushing is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_SECONDS, self._flush)

    async def durable(self, kind: str, **fields: Any) -> None:
        """Note an event and return when it is on disk; AuditFailed."""
        self.append(kind, **fields)
        while self._waiting:
            self._flush()
            assert self._flushing is not None
            await asyncio.shield(self._flushing)
            if self._failed:
                raise AuditFailed("the audit log cannot be written")

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flushing is None and self._waiting:
            self._flushing = asyncio.get_running_loop().create_task(self._write_waiting())

    async def _write_waiting(self) -> None:
        batch, self._waiting = self._waiting, []
        if self._lost:
            batch.append({"time": self._clock.now_ms(), "kind": "audit.lost", "events": self._lost})
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._write, batch)
        except OSError as error:
            self._waiting = (batch if not self._lost else batch[:-1]) + self._waiting
            self._tell(True, f"audit log: {error.strerror}")
        else:
            self._lost = 0
            self._tell(False, "")
        finally:
            self._flushing = None
            if self._waiting and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(5.0 if self._failed else BATCH_SECONDS, self._flush)

    def _tell(self, failed: bool, detail: str) -> None:
        if failed != self._failed:
            self._failed = failed
            if self._on_state is not None:
                self._on_state("fail" if failed else "ok", detail)

    def _write(self, batch: list[dict[str, Any]]) -> None:
        seq, before, out = self.seq, self.hash, bytearray()
        for fields in batch:
            seq += 1
            line, before = _line(before, {"seq": seq, **fields})
            out += line
        try:
            written = os.write(self._descriptor, out)
            if written != len(out):
                raise OSError(28, "No space left on device")
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += written
        self.seq, self.hash = seq, before
        if self._size >= MAX_FILE:
            self._rotate()

    def _rotate(self) -> None:
        """Go on in a new file; where that cannot be, in this one, and the next batch tries again."""
        fresh, old = self._path.with_name("audit.new"), self._path.with_name(f"audit-{self._first}.log")
        try:
            if old.exists():  # a rename would put it out of the world
                return
            descriptor = os.open(fresh, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.rename(self._path, old)
            os.rename(fresh, self._path)
        except OSError:
            os.close(descriptor)
            if not self._path.exists():
                os.rename(old, self._path)
            return
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._size, self._first = 0, self.seq + 1
        with contextlib.suppress(OSError):
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    async def close(self) -> None:
        """Write what waits, then close."""
        if self._flushing is not None:
            await self._flushing
        self._flush()
        if self._flushing is not None:
            await self._flushing
        if self._timer is not None:
            self._timer.cancel()
        self._thread.shutdown()
        os.close(self._descriptor)
