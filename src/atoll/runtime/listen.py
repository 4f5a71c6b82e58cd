"""runtime.listen -- accept connections of people: look first, then shake hands (PROCESSES 9).

In     a listening socket made by the supervisor, a protocol factory, the counters of runtime.admission.
Out    a connected protocol for each connection that may stay; TLS is done when its connection_made is called.
Fails  a handshake that fails or takes too long closes its connection. Out of descriptors: accepting pauses 100 ms.
Not    what is spoken (protocols/), who may sign in (directory).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable

from atoll.runtime.admission import Admission, Ticket

HANDSHAKE_SECONDS = 30.0
STRESSED_SECONDS = 5.0
"""For a handshake, when there is little room for new connections."""
PAUSE_SECONDS = 0.1
ACCEPTS_AT_ONCE = 64
UNREAD_MS = 300_000
"""How long what was sent may stay unacknowledged, or the client's window shut, before the kernel ends the connection:
a close waits for what is written, so that a client that reads nothing would otherwise keep its place for ever."""
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_log = logging.getLogger("atoll.listen")


class Listener:
    """Accepts on one socket. tls: gives the context of now (certificates change), None for a port in the clear.

    refusal: said in the clear to a connection that may not stay.
    factory(ticket): the protocol of a connection. It keeps the ticket: sets ticket.drop, says signed_in and close.
    """

    def __init__(self, sock: socket.socket, factory: Callable[[Ticket], asyncio.Protocol], admission: Admission, *,
                 tls: Callable[[], ssl.SSLContext] | None = None, handshake: float = HANDSHAKE_SECONDS,
                 refusal: bytes = b"") -> None:
        sock.setblocking(False)
        self._sock = sock
        self._factory = factory
        self._admission = admission
        self._tls = tls
        self._handshake = handshake
        self._refusal = refusal
        self._opening: set[asyncio.Task[None]] = set()
        self._accepting = False
        self._resume: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Accept from now on."""
        self._resume = None
        self._accepting = True
        self._loop.add_reader(self._sock.fileno(), self._ready)

    def stop(self, *, cut: bool = True) -> None:
        """Accept no more. The socket stays open: it is the supervisor's too. cut: end handshakes that are under way."""
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._sock.fileno())
        if self._resume is not None:
            self._resume.cancel()
        for task in self._opening if cut else ():
            task.cancel()

    async def opened(self) -> None:
        """Until the handshakes that are under way have ended, one way or the other."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _ready(self) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                connection, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                _log.warning("no descriptors left, accepting pauses", extra={"f": {"errno": error.errno}})
                self._pause()
                return
            ticket = self._admission.enter(address[0], address[1])
            connection.setblocking(False)
            if ticket is None:
                self._refuse(connection)
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
            task = self._loop.create_task(self._open(connection, ticket))
            ticket.drop = task.cancel
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _refuse(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._refusal:
                connection.send(self._refusal)

    def _pause(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._accepting = False
        self._resume = self._loop.call_later(PAUSE_SECONDS, self.start)

    def _patience(self) -> float:
        return min(self._handshake, STRESSED_SECONDS) if self._admission.crowded else self._handshake

    async def _open(self, connection: socket.socket, ticket: Ticket) -> None:
        made = False

        def make() -> asyncio.Protocol:
            nonlocal made
            made = True
            return self._factory(ticket)

        try:
            if self._tls is None:
                await self._loop.connect_accepted_socket(make, connection)
            else:
                await self._loop.connect_accepted_socket(make, connection, ssl=self._tls(),
                                                         ssl_handshake_timeout=self._patience())
        except (OSError, ssl.SSLError, asyncio.CancelledError):
            ticket.close()  # shut, garbled or slow: it is theirs to try again
            if not made:
                connection.close()
