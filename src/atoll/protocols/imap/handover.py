"""protocols.imap.handover -- a signed-in client and its mailbox process become one connection.

In     two transports. Out  bytes both ways, with flow control; no parse, no task.
Spec   PROCESSES 6 (hand-over, BYE), 8 (what a waiting client costs), 11 (a mailbox process goes).
Fails  a mailbox process that goes: BYE where a client can read it, else only the end; many clients are told over 2 s.
Not    the sign-in before (proxy).
"""

from __future__ import annotations

import asyncio
import random
from typing import Protocol, cast

from atoll.protocols.imap.wire.boundary import Boundary
from atoll.runtime.admission import Ticket
from atoll.runtime.sockets import acknowledge_at_once

SPREAD_ABOVE = 500
SPREAD_SECONDS = 2.0
LAST_WORDS = 512
MAX_BACKEND_WORDS = 16 * 1024
QUICK_FROM = 100
"""Octets: what is longer may be a literal, whose line end some clients send apart."""
UNAVAILABLE = b"* BYE [UNAVAILABLE] Mailbox is not available, please connect again\r\n"


class Leaving(Protocol):
    """A client that can be said goodbye to."""

    def bye(self) -> None:
        """End it with a word."""


class ClientEnd(asyncio.Protocol):
    """The client's side of a splice."""

    __slots__ = ("_clients", "_ticket", "backend", "transport")

    def __init__(self, clients: set[Leaving], ticket: Ticket, transport: asyncio.Transport,
                 backend: BackendEnd) -> None:
        self._clients = clients
        self._ticket = ticket
        self.transport = transport
        self.backend = backend
        clients.add(self)

    def data_received(self, data: bytes) -> None:
        self.backend.transport.write(data)
        if len(data) >= QUICK_FROM:
            acknowledge_at_once(self.transport)

    def pause_writing(self) -> None:
        self.backend.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.backend.transport.is_closing():
            self.backend.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ticket.close()
        self._clients.discard(self)
        self.backend.transport.close()

    def bye(self) -> None:
        """The frontend stops, or the mailbox process went."""
        if self.backend.at_boundary and not self.backend.said_bye and not self.transport.is_closing():
            self.transport.write(UNAVAILABLE)
        self.transport.close()
        self.backend.transport.close()

    def bye_soon(self) -> None:
        """The mailbox process went: many clients do not come back all at once."""
        crowd = not self.backend.said_bye and len(self._clients) > SPREAD_ABOVE
        if crowd and not self.transport.is_closing():
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(random.uniform(0, SPREAD_SECONDS), self.bye)  # noqa: S311
        else:
            self.bye()


class BackendEnd(asyncio.Protocol):
    """The mailbox process's side: first its greeting and its answer to our token, then a splice."""

    __slots__ = ("_boundary", "_client", "_tag", "_words", "denied", "opened", "said_bye", "transport")

    def __init__(self, tag: bytes, opened: asyncio.Future[bool]) -> None:
        self.opened: asyncio.Future[bool] | None = opened
        self.transport: asyncio.Transport
        self._tag = tag
        self._words: bytearray | None = bytearray()
        self._client: ClientEnd | None = None
        self._boundary = Boundary()
        self.denied = False  # it answered that this person may not open this mailbox
        self.said_bye = False  # its last words were a BYE: nothing is to be added

    @property
    def at_boundary(self) -> bool:
        return self._boundary.at_boundary

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's TLS transport is none by class

    def data_received(self, data: bytes) -> None:
        if self._client is not None:
            self._boundary.passed(data)
            self.said_bye = b"* BYE " in data[-LAST_WORDS:]
            self._client.transport.write(data)
        elif self._words is not None:
            self._words += data
            self._opening(self._words)

    def _opening(self, words: bytearray) -> None:
        greeting = words.find(b"\r\n")
        answer = words.find(b"\r\n", greeting + 2) if greeting >= 0 else -1
        if answer >= 0 or len(words) > MAX_BACKEND_WORDS:
            self.denied = words.startswith(self._tag + b" NO [AUTHORIZATIONFAILED]", greeting + 2)
            self._answer(answer >= 0 and words.startswith(self._tag + b" OK ", greeting + 2))

    def _answer(self, ok: bool) -> None:
        if self.opened is not None and not self.opened.done():
            self.opened.set_result(ok)

    def begin(self, client: ClientEnd) -> None:
        """Splice: what came with the answer is the client's, the greeting was ours."""
        self._client, self.opened = client, None
        words, self._words, self._tag = self._words, None, b""
        if words:
            data = bytes(words[words.find(b"\r\n") + 2 :])
            self._boundary.passed(data)
            client.transport.write(data)
        if self.transport.is_closing():
            client.bye_soon()

    def pause_writing(self) -> None:
        if self._client is not None:
            self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._client is not None and not self._client.transport.is_closing():
            self._client.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._answer(False)
        if self._client is not None:
            self._client.bye_soon()

    def abort(self) -> None:
        """Give up before the splice."""
        transport = getattr(self, "transport", None)
        if transport is not None:
            transport.abort()
