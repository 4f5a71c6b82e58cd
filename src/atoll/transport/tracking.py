"""The message tracking log: one JSON line an event, by which `atoll message trace` tells a message's way.

In     events of receive, deliver, defer, fail.
Out    DATA/queue/tracking/YYYY-MM-DD.jsonl, written in batches by a thread; no fsync: a trace is not mail.
Fails  a disk that refuses: the lines are dropped and counted, mail goes on (health says so).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atoll.base.clock import Clock

FLUSH_SECONDS = 0.25
MAX_WAITING = 20_000
KEEP_DAYS = 30
_log = logging.getLogger("atoll.transport.tracking")


class Tracking:
    """Append-only; one per transport process."""

    def __init__(self, folder: Path, clock: Clock, on_state: Callable[[str, str], None]) -> None:
        self._folder = folder
        self._clock = clock
        self._on_state = on_state
        self._waiting: list[tuple[Any, ...]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None
        self.dropped = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def event(self, kind: str, message: bytes, sender: str, recipient: str, detail: str = "", size: int = 0,
              ip: str = "") -> None:
        """Note one; written within a quarter of a second."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append((self._clock.now_ms(), kind, message, sender, recipient, detail, size, ip))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._writing is not None and not self._writing.done():
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)
            return
        batch, self._waiting = self._waiting, []
        self._writing = asyncio.ensure_future(asyncio.to_thread(self._write, batch))
        self._writing.add_done_callback(self._written)

    def _written(self, done: asyncio.Future[None]) -> None:
        error = done.exception() if not done.cancelled() else None
        if error is not None:
            self._on_state("warn", f"the tracking log cannot be written: {error}")
            _log.warning("tracking lines lost", extra={"f": {"error": str(error)}})
        else:
            self._on_state("ok", "")

    def _write(self, batch: list[tuple[Any, ...]]) -> None:
        names = ("time", "event", "id", "sender", "recipient", "detail", "size", "ip")
        lines = []
        for row in batch:
            facts = dict(zip(names, (row[0], row[1], row[2].hex(), *row[3:]), strict=True))
            lines.append(json.dumps({key: value for key, value in facts.items() if value not in ("", 0)}))
        day = datetime.fromtimestamp(batch[0][0] / 1000, UTC).strftime("%Y-%m-%d")
        with (self._folder / f"{day}.jsonl").open("a", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
        for old in sorted(self._folder.glob("*.jsonl"))[:-KEEP_DAYS]:
            old.unlink()

    async def close(self) -> None:
        """Write what waits."""
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if self._waiting:
            await asyncio.to_thread(self._write, self._waiting)


def search(folder: Path, *, sender: str = "", recipient: str = "", ident: str = "",
           limit: int = 1000) -> Iterator[dict[str, Any]]:
    """Events that match, newest day first, at most `limit`."""
    found = 0
    for path in sorted(folder.glob("*.jsonl"), reverse=True):
        with path.open(encoding="ascii") as file:
            for line in file:
                event = json.loads(line)
                if sender.lower() not in event.get("sender", "").lower() or \
                        recipient.lower() not in event.get("recipient", "").lower() or \
                        not event["id"].startswith(ident):
                    continue
                yield event
                found += 1
                if found >= limit:
                    return
