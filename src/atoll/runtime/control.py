"""The control channel between the supervisor and a role: JSON lines over a socket pair.

In     bytes of the other end.
Out    messages: dicts with a "type". Supervisor to role: start, pids, open, reload, ping,
       metrics, leave, stop.
       Role to supervisor: ready, pong, health, metrics.
Fails  ValueError on a line over 1 MiB or one that is no object: the channel is ours, so it is a defect.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

MAX_LINE = 1 << 20


class Lines:
    """Splits the stream into messages. Does no I/O."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that are now whole."""
        self._buffer += data
        *whole, rest = self._buffer.split(b"\n")
        if len(rest) > MAX_LINE:
            raise ValueError("control line too long")
        self._buffer = bytearray(rest)
        return [json.loads(line) for line in whole if line]


def encode(message: dict[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class ControlProtocol(asyncio.Protocol):
    """One end of the channel on an event loop. early: messages read before there was one; they come first."""

    def __init__(self, on_message: Callable[[dict[str, Any]], None], on_end: Callable[[], None],
                 lines: Lines | None = None, early: Iterable[dict[str, Any]] = ()) -> None:
        self._lines = lines or Lines()
        self._early = early
        self._on_message = on_message
        self._on_end = on_end
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a socket's; uvloop's class is no asyncio.Transport
        for message in self._early:
            self._on_message(message)

    def data_received(self, data: bytes) -> None:
        for message in self._lines.feed(data):
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._on_end()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; silently nothing when the other end is gone."""
        if self.transport is not None:
            self.transport.write(encode(message))
