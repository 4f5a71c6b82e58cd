"""Clients that do not read what they asked for; answers that end in the middle."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from atoll.mailbox import Access, StoreCode, StoreError
from atoll.protocols.imap.session import Session
from atoll.protocols.pop3.proxy import Pop3Proxy
from atoll.runtime.listen import Listener
from tests.protocols.imap.conftest import Site


class Wire(asyncio.Transport):
    """A transport whose other end reads when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = socket.socketpair(socket.AF_UNIX)
        self.said: list[bytes] = []
        self.gone = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.ends[0] if name == "socket" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said.append(bytes(data))

    def is_closing(self) -> bool:
        return self.gone

    def close(self) -> None:
        self.gone = True
        for end in self.ends:
            end.close()

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


async def settled(done: Callable[[], bool]) -> None:
    for _ in range(200):
        if done():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("never")


@pytest.mark.parametrize("kind", ["clear", "pop"])
async def test_before_the_sign_in_who_does_not_read_is_cut_off(site: Site, kind: str) -> None:
    proxy: Any = site.proxy if kind == "clear" else Pop3Proxy(site.proxy.sign_in, site.proxy.socket_of, site.proxy.tls)
    sock = socket.create_server(("127.0.0.1", 0))
    made = []

    def factory(ticket: Any) -> asyncio.Protocol:
        made.append(proxy.clear(ticket))
        return made[-1]

    listener = Listener(sock, factory, site.admission)
    listener.start()
    client = socket.create_connection(sock.getsockname())
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    question = b"a CAPABILITY\r\n" * 1000 if kind == "clear" else b"CAPA\r\n" * 1000
    try:
        async with asyncio.timeout(5):
            while not made or made[0].transport.get_write_buffer_size() < 2**23:
                await loop.sock_sendall(client, question)
        pytest.fail("eight megabytes of answers wait for a client that reads none")
    except ConnectionError:
        pass  # cut off
    finally:
        client.close()
        listener.stop()


async def test_commands_wait_for_a_client_that_reads_nothing(site: Site) -> None:
    session = Session(site.one.server)
    wire = Wire()
    session.connection_made(wire)
    session.pause_writing()
    before = len(wire.said)
    session.data_received(b"a NOOP\r\n" * 50 + b"b CAPABILITY\r\n")
    await asyncio.sleep(0.05)
    assert len(wire.said) - before <= 1
    session.resume_writing()
    await settled(lambda: b"".join(wire.said).count(b" OK ") >= 52)
    wire.close()
    session.connection_lost(None)


async def test_what_idle_held_back_is_told_when_the_client_reads_again(site: Site) -> None:
    client = await site.sign_in()
    await client.ok(b"SELECT INBOX")
    client.send(b"i IDLE\r\n")
    await client.line()
    (session,) = site.one.server.sessions()
    session.pause_writing()
    await site.deliver()
    await settled(lambda: session._dirty)
    session.resume_writing()
    assert await client.line() == b"* 1 EXISTS\r\n"


async def test_a_failure_in_the_middle_of_a_literal_is_an_end_not_an_answer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.put(b"Subject: big\r\n\r\n" + (b"y" * 78 + b"\r\n") * 40_000)
    real: Callable[..., bytes] = Access.blob_slice

    def broken(self: Access, blob: Any, start: int, size: int) -> bytes:
        if start:
            raise StoreError(StoreCode.UNAVAILABLE, "the disk")
        return real(self, blob, start, size)

    monkeypatch.setattr(Access, "blob_slice", broken)
    client = await site.sign_in()
    await client.ok(b"SELECT INBOX")
    client.send(b"a FETCH 1 BODY.PEEK[]\r\n")
    await client.line()
    rest = await client.ended()
    assert b"a NO" not in rest
