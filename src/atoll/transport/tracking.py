"""The message tracking log: one JSON line an event, by which `atoll message trace` tells a message's way.

In     events RECEIVE, CHECK, REFUSE, DELIVER, DEFER, FAIL, DSN of envelopes.
Out    files named by the time of their first event, written in batches by a thread; no fsync: a trace is not mail.
       A file ends at FILE_BYTES; the oldest go when there are more than KEEP_FILES.
Fails  a disk that refuses: lines are dropped and counted, mail goes on (health says so).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from atoll.base.clock import Clock
from atoll.transport.envelope import Envelope

FLUSH_SECONDS = 0.25
MAX_WAITING = 50_000
FILE_BYTES = 16 << 20
KEEP_FILES = 64
MAX_LISTED = 20
"""Recipients of a message that its RECEIVE event names."""
_log = logging.getLogger("atoll.transport.tracking")


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. time: milliseconds since 1970, UTC; id: of the message, hexadecimal; size: octets."""

    time: int
    event: str
    id: str
    sender: str = ""
    recipient: str = ""
    detail: str = ""
    size: int = 0
    ip: str = ""


_PLAIN = re.compile(r"[!#-\[\]-~]+")
_encoder = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(Event).decode


class Tracking:
    """Append-only; one per transport process."""

    def __init__(self, folder: Path, clock: Clock, on_state: Callable[[str, str], None]) -> None:
        self._folder = folder
        self._clock = clock
        self._on_state = on_state
        self._waiting: list[tuple[int, str, Envelope, str, str, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None
        self._file: BinaryIO | None = None
        self._failed = False
        self.dropped = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def event(self, kind: str, envelope: Envelope, recipient: str, detail: str = "", size: int = 0) -> None:
        """Note one; written within a quarter of a second."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append((self._clock.now_ms(), kind, envelope, recipient, detail, size))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._writing is not None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)
            return
        self._writing = asyncio.ensure_future(asyncio.to_thread(self._write, self._taken()))
        self._writing.add_done_callback(self._written)

    def _taken(self) -> list[tuple[int, str, Envelope, str, str, int]]:
        batch, self._waiting = self._waiting, []
        return batch

    def _written(self, done: asyncio.Future[None]) -> None:
        self._writing = None
        error = None if done.cancelled() else done.exception()
        if error is not None:
            _log.warning("tracking lines lost", extra={"f": {"error": str(error)}})
        if (error is not None) != self._failed:
            self._failed = error is not None
            self._on_state("warn" if error else "ok", f"the tracking log cannot be written: {error}" if error else "")

    def _write(self, batch: list[tuple[int, str, Envelope, str, str, int]]) -> None:
        lines = bytearray()
        for time, kind, envelope, recipient, detail, size in batch:
            listed = recipient or ",".join([one.address for one in envelope.recipients[:MAX_LISTED]])
            line = Event(time, kind, envelope.id.hex(), envelope.sender, listed, detail, size,
                         envelope.facts.ip if size else "")
            lines += _encoder.encode(line)
            lines += b"\n"
        if self._file is None or self._file.tell() > FILE_BYTES:
            self._roll(batch[0][0])
        assert self._file is not None
        self._file.write(lines)
        self._file.flush()

    def _roll(self, now: int) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._file = (self._folder / f"{now:015d}.jsonl").open("ab")
        for old in sorted(self._folder.glob("*.jsonl"))[:-KEEP_FILES]:
            old.unlink()

    async def close(self) -> None:
        """Write what waits."""
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if self._waiting:
            await asyncio.to_thread(self._write, self._taken())
        if self._file is not None:
            self._file.close()


def search(folder: Path, *, sender: str = "", recipient: str = "", ident: str = "", since: int = 0,
           limit: int = 1000) -> list[Event]:
    """The newest `limit` events that match, oldest of them first. Names match by a part, whatever their case."""
    found: list[Event] = []
    sender, recipient = sender.casefold(), recipient.casefold()
    word = max((_word(one) for one in (sender, recipient, ident)), key=len)
    for event in _backwards(folder, since, word):
        if event.time >= since and event.id.startswith(ident) and sender in event.sender.casefold() \
                and recipient in event.recipient.casefold():
            found.append(event)
            if len(found) >= limit:
                break
    return found[::-1]


def _word(text: str) -> bytes:
    """The longest part of it that stands in a line as it is."""
    return max(_PLAIN.findall(text), key=len, default="").encode("ascii")


def _backwards(folder: Path, since: int, word: bytes) -> Iterator[Event]:
    """The lines that have this word in them, newest first. Most are never decoded: a million take half a second."""
    for path in sorted(folder.glob("*.jsonl"), reverse=True):
        for line in _lines(path.read_bytes(), word):
            try:
                yield _decode(line)
            except msgspec.DecodeError:  # the last line of a process that was killed
                continue
        if int(path.stem) < since:  # what is older stands in older files
            return


def _lines(data: bytes, word: bytes) -> Iterator[bytes]:
    if not word:
        yield from reversed(data.splitlines())
        return
    folded, at, found = data.lower(), 0, list[bytes]()
    while (at := folded.find(word, at)) >= 0:
        start, stop = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
        at = stop if stop >= 0 else len(data)
        found.append(data[start:at])
    yield from reversed(found)
