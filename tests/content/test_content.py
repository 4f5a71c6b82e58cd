"""The content role: the same values as in our own process, a budget for each message, nothing else to reach."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll.base.config import Config
from atoll.content import ContentClient, ContentError, client, jobs, server
from atoll.content.server import ContentServer
from atoll.formats.mime import scan, search_text
from atoll.runtime.child import Child
from atoll.runtime.sockets import bind_unix

MESSAGE = (b"From: a@example.test\r\nSubject: =?utf-8?q?gr=C3=BCn?=\r\n"
           b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
           b"--x\r\nContent-Type: text/html\r\n\r\n<p>some words</p>\r\n"
           b"--x\r\nContent-Type: text/plain; name=a.txt\r\n\r\n"
           b"more\r\n--x--\r\n")


class House:
    """A content server in this process, with jobs of its own."""

    def __init__(self, folder: Path, admit: Callable[[Any], bool] = lambda peer: True) -> None:
        self.path = folder / "c.sock"
        self.listener = bind_unix(self.path, 0o600)
        self.server = ContentServer(admit)
        self.client = ContentClient(self.path, seconds=5)
        self.server.start(self.listener)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    made.server.stop()
    made.listener.close()


async def test_the_same_as_here(house: House) -> None:
    assert await house.client.scan(MESSAGE) == scan(MESSAGE)
    assert await house.client.text(MESSAGE) == search_text(MESSAGE)
    assert await house.client.scan(b"") == scan(b"")
    assert house.server.counts == {"done": 3, "refused": 0}


async def test_several_at_once_and_large_ones(house: House) -> None:
    large = MESSAGE + b"x" * 5_000_000
    got = await asyncio.gather(*(house.client.scan(large) for _ in range(5)))
    assert got == [scan(large)] * 5


@given(data=st.binary(max_size=2000))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_bytes_are_answered(house: House, data: bytes) -> None:
    assert await house.client.text(data) == search_text(data)


async def test_over_the_soft_budget_is_refused_and_the_next_is_served(house: House, monkeypatch: pytest.MonkeyPatch
                                                                      ) -> None:
    monkeypatch.setattr(server, "SOFT_SECONDS", 0.1)
    monkeypatch.setitem(jobs.JOBS, "text", _forever)
    begin = time.monotonic()
    with pytest.raises(ContentError, match="refused"):
        await house.client.text(MESSAGE)
    assert time.monotonic() - begin < 2
    assert await house.client.scan(MESSAGE) == scan(MESSAGE)


def _forever(data: bytes) -> bytes:
    while True:
        pass


async def test_out_of_memory_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(data: bytes) -> bytes:
        raise MemoryError

    monkeypatch.setitem(jobs.JOBS, "text", hungry)
    with pytest.raises(ContentError, match="refused"):
        await house.client.text(MESSAGE)


async def test_a_peer_that_may_not_ask_is_not_answered(tmp_path: Path) -> None:
    made = House(tmp_path, lambda peer: False)
    with pytest.raises(ContentError):
        await made.client.scan(MESSAGE)
    made.server.stop()
    made.listener.close()


@pytest.mark.parametrize("case", ["no file", "unsealed", "two words", "silent"])
async def test_a_question_out_of_form_ends_its_connection_only(house: House, case: str,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.2)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, str(house.path))
        if case == "no file":
            sock.send(b"scan")
        elif case == "unsealed":
            fd = os.memfd_create("x")
            os.write(fd, b"abc")
            socket.send_fds(sock, [b"scan"], [fd])
            os.close(fd)
        elif case == "two words":
            fd = client._memory_file(b"abc")
            socket.send_fds(sock, [b"no such job"], [fd])
            os.close(fd)
        async with asyncio.timeout(3):
            assert await loop.sock_recv(sock, 100) in (b"", jobs.REFUSED)
    assert await house.client.scan(MESSAGE) == scan(MESSAGE)


async def test_nobody_there_is_temporary(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="temporary"):
        await ContentClient(tmp_path / "gone.sock").scan(MESSAGE)


async def test_the_role_itself_restricted(tmp_path: Path) -> None:
    """As the supervisor starts it; a job that is stuck in one call is ended by the kernel."""
    path = tmp_path / "c.sock"
    listener = bind_unix(path, 0o600)
    said: list[dict[str, Any]] = []
    child = Child("content", said.append)
    await child.start("atoll.roles.content", {"content": listener}, {"PATH": os.environ["PATH"], "PYTHONPATH": str(
        Path(jobs.__file__).parents[2])}, None)
    child.send({"type": "start", "name": "content", "data": str(tmp_path), "pids": {str(os.getpid()): "mailbox-1"},
                "config": msgspec.json.encode(Config()).decode(), "supervisor": os.getpid(),
                "listeners": {"content": listener.fileno()}})
    asking = ContentClient(path)
    assert await asking.text(MESSAGE) == search_text(MESSAGE)
    hardening = [row for row in said if row.get("name") == "hardening"]
    assert hardening[0]["state"] == "ok"
    slow = b"Content-Type: text/html\r\n\r\n" + b"<p>word word</p>\r\n" * 1_500_000  # more than a second of work
    waiting = asyncio.create_task(asking.text(slow))
    await asyncio.sleep(0.4)
    child.signal(signal.SIGKILL)
    with pytest.raises(ContentError, match="refused"):
        await waiting
    await child.ended
    listener.close()
