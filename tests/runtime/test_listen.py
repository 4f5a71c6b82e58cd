"""Accepting: a look before the handshake, a deadline for it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

from atoll.base.clock import SystemClock
from atoll.runtime.admission import Admission, Rates, Ticket
from atoll.runtime.listen import UNREAD_MS, Listener
from tests.eventually import eventually
from tests.protocols.pop3.conftest import certificate


class Greeting(asyncio.Protocol):
    """Says hello, then waits."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.ticket.drop = transport.close
        transport.write(b"hello")  # type: ignore[attr-defined]

    def connection_lost(self, exc: Exception | None) -> None:
        self.ticket.close()


def listen(admission: Admission, **options: object) -> tuple[Listener, int]:
    sock = socket.create_server(("127.0.0.1", 0))
    listener = Listener(sock, Greeting, admission, **options)  # type: ignore[arg-type]
    listener.start()
    return listener, sock.getsockname()[1]


def admission(**rates: float) -> Admission:
    return Admission(SystemClock(), 100, Rates(**{"open_unauthenticated": 50, "burst": 100, **rates}))  # type: ignore[arg-type]


async def test_greets_and_counts() -> None:
    counters = admission()
    listener, port = listen(counters)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read(10) == b"hello"
    assert counters.open == 1
    writer.close()
    await eventually(lambda: counters.open, 0)
    listener.stop()


async def test_one_too_many_is_closed_without_a_word() -> None:
    listener, port = listen(admission(open_unauthenticated=1))
    first, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await first.read(10) == b"hello"
    second, other = await asyncio.open_connection("127.0.0.1", port)
    assert await second.read(10) == b""
    writer.close()
    other.close()
    listener.stop()


async def test_one_too_many_is_told_so_in_the_clear() -> None:
    listener, port = listen(admission(open_unauthenticated=1), refusal=b"421 later\r\n")
    first, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await first.read(10) == b"hello"
    second, other = await asyncio.open_connection("127.0.0.1", port)
    assert await second.read() == b"421 later\r\n"
    writer.close()
    other.close()
    listener.stop()


async def test_tls_and_a_handshake_that_never_comes(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    counters = admission()
    listener, port = listen(counters, tls=lambda: context, handshake=1)
    trusting = ssl.create_default_context(cafile=str(cert))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    assert await reader.read(10) == b"hello"
    silent, other = await asyncio.open_connection("127.0.0.1", port)
    await eventually(lambda: counters.open, 2)
    assert await asyncio.wait_for(silent.read(10), 5) == b""
    await eventually(lambda: counters.open, 1)
    garbled, third = await asyncio.open_connection("127.0.0.1", port)
    third.write(b"GET / HTTP/1.0\r\n\r\n")
    await asyncio.wait_for(garbled.read(), 5)
    await eventually(lambda: counters.open, 1)
    for one in (writer, other, third):
        one.close()
    listener.stop()


async def test_out_of_descriptors_pauses(monkeypatch: object) -> None:
    import errno

    counters = admission()
    listener, port = listen(counters)
    real, failures = listener._sock, [2]

    class Failing:
        """A socket whose accept fails twice."""

        def fileno(self) -> int:
            return real.fileno()

        def accept(self) -> object:
            if failures[0]:
                failures[0] -= 1
                raise OSError(errno.EMFILE, "too many")
            return real.accept()

    listener._sock = Failing()  # type: ignore[assignment]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await asyncio.wait_for(reader.read(10), 5) == b"hello"
    assert failures == [0]
    writer.close()
    listener.stop()


async def test_stopped_accepts_no_more() -> None:
    listener, port = listen(admission())
    listener.stop()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)  # the kernel's queue is the supervisor's
    done, _ = await asyncio.wait([asyncio.ensure_future(reader.read(10))], timeout=0.2)
    assert not done
    writer.close()


async def test_the_kernel_ends_a_connection_whose_client_reads_nothing() -> None:
    options = []

    class Looks(Greeting):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            sock = transport.get_extra_info("socket")
            options.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))

    sock = socket.create_server(("127.0.0.1", 0))
    listener = Listener(sock, Looks, admission())
    listener.start()
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    await reader.read(5)
    assert options == [UNREAD_MS]
    writer.close()
    listener.stop()
