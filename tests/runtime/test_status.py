"""The health port: a strict subset of HTTP [RFC 9112 §3]."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.runtime import status
from atoll.runtime.status import MAX_HEAD, MAX_OPEN, Answer, StatusServer, parse
from tests.eventually import eventually

HOST = b"\r\nHost: localhost"


@pytest.mark.parametrize("head", [b"GET /healthz HTTP/1.1" + HOST, b"HEAD /healthz HTTP/1.0\r\nhost:x",
                                  b"GET /healthz HTTP/1.1\r\nHost: a\r\nAccept: */*"])
def test_good_heads(head: bytes) -> None:
    request = parse(head)
    assert request is not None
    assert request[1] == b"/healthz"


@pytest.mark.parametrize("head", [
    b"", b"GET", b"GET  /healthz HTTP/1.1" + HOST, b"get /healthz HTTP/1.1" + HOST, b"GET /healthz HTTP/2.0" + HOST,
    b"GET healthz HTTP/1.1" + HOST, b"GET http://x/healthz HTTP/1.1" + HOST, b"GET /health\x00z HTTP/1.1" + HOST,
    b"GET /healthz HTTP/1.1", b"GET /healthz HTTP/1.1" + HOST + HOST,
    b"GET /healthz HTTP/1.1" + HOST + b"\r\nContent-Length: 0",
    b"GET /healthz HTTP/1.1" + HOST + b"\r\nTransfer-Encoding: chunked",
    b"GET /healthz HTTP/1.1" + HOST + b"\r\n folded: line", b"GET /healthz HTTP/1.1" + HOST + b"\r\nName : value",
    b"GET /healthz HTTP/1.1" + HOST + b"\r\nA: b\nC: d", b"GET /healthz HTTP/1.1\nHost: localhost",
], ids=repr)
def test_bad_heads(head: bytes) -> None:
    assert parse(head) is None


@given(st.binary(max_size=300))
def test_garbage_is_refused_never_crashes(head: bytes) -> None:
    request = parse(head)
    assert request is None or request[1].startswith(b"/")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async def page() -> Answer:
        return Answer(200, "text/plain", b"fine\n")

    async def broken() -> Answer:
        raise ValueError("secret words")

    server = StatusServer({b"/healthz": page, b"/broken": broken})
    sock = socket.create_server(("127.0.0.1", 0))
    serving = await asyncio.start_server(server.connected, sock=sock, limit=MAX_HEAD)
    yield sock.getsockname()[1]
    serving.close()


async def ask(port: int, *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0)
    try:
        return await reader.read()
    except ConnectionResetError:  # closed with bytes of ours unread: nothing was answered either
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(("line", "first"), [
    (b"GET /healthz HTTP/1.1", b"HTTP/1.1 200 OK"), (b"GET /nothing HTTP/1.1", b"HTTP/1.1 404 Not Found"),
    (b"GET /healthz/ HTTP/1.1", b"HTTP/1.1 404 Not Found"), (b"GET /healthz?x HTTP/1.1", b"HTTP/1.1 404 Not Found"),
    (b"POST /healthz HTTP/1.1", b"HTTP/1.1 405 Method Not Allowed"), (b"nonsense", b"HTTP/1.1 400 Bad Request")])
async def test_answers(port: int, line: bytes, first: bytes) -> None:
    answer = await ask(port, line + HOST + b"\r\n\r\n")
    assert answer.split(b"\r\n")[0] == first
    assert b"Connection: close" in answer


async def test_byte_at_a_time(port: int) -> None:
    request = b"GET /healthz HTTP/1.1" + HOST + b"\r\n\r\n"
    assert (await ask(port, *(request[at : at + 1] for at in range(len(request))))).endswith(b"\r\n\r\nfine\n")


async def test_head_has_no_body(port: int) -> None:
    answer = await ask(port, b"HEAD /healthz HTTP/1.1" + HOST + b"\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"Content-Length: 5" in answer


async def test_a_long_head_is_closed(port: int) -> None:
    assert await ask(port, b"GET /healthz HTTP/1.1" + HOST + b"\r\nX: " + b"x" * (2 * MAX_HEAD)) == b""


async def test_an_error_of_ours_says_nothing(port: int) -> None:
    assert await ask(port, b"GET /broken HTTP/1.1" + HOST + b"\r\n\r\n") == b""


async def test_a_slow_one_is_closed_and_others_are_served(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "SECONDS", 1)
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_OPEN)]
    await eventually(lambda: ask(port, b"GET /healthz HTTP/1.1" + HOST + b"\r\n\r\n"), b"")  # one too many at once
    assert [await reader.read() for reader, _ in idle] == [b""] * MAX_OPEN
    assert (await ask(port, b"GET /healthz HTTP/1.1" + HOST + b"\r\n\r\n")).endswith(b"fine\n")
    for _, writer in idle:
        writer.close()
