"""runtime.splice -- two connections become one: bytes both ways, no parse, no task.

In     two connected transports whose protocols have done their part (signed in, greeted).
Out    each one's bytes on the other, with flow control: a reader that is slow slows the writer.
Fails  either end going closes the other, after what was already taken has been written.
Not    when to splice, or what to say when an end goes: that is the protocol's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class End(asyncio.Protocol):
    """One side. `on_end` is called once, when this side is lost."""

    __slots__ = ("_on_end", "_other")

    def __init__(self, other: asyncio.Transport, on_end: Callable[[], None] | None = None) -> None:
        self._other = other
        self._on_end = on_end

    def data_received(self, data: bytes) -> None:
        self._other.write(data)

    def pause_writing(self) -> None:
        if not self._other.is_closing():
            self._other.pause_reading()

    def resume_writing(self) -> None:
        if not self._other.is_closing():
            self._other.resume_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._other.close()
        if self._on_end is not None:
            self._on_end()


def splice(client: asyncio.Transport, backend: asyncio.Transport, on_end: Callable[[], None]) -> None:
    """Join them. on_end: the client is gone. Read on from both; what was read before is the caller's to pass on."""
    client.set_protocol(End(backend, on_end))
    backend.set_protocol(End(client))
    if backend.is_closing():
        client.close()
    elif client.is_closing():
        backend.close()
