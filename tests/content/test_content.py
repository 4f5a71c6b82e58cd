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
from atoll.content import ContentClient, ContentError, Scanner, client, jobs, quick, server
from atoll.content.scanner import QUICK
from atoll.content.server import ContentServer
from atoll.formats.mime import scan, search_text, section
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
    asking = ContentClient(path, seconds=8)
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


# -- the scanner: mail is neither lost nor refused -------------------------------------------------------------------
LARGE = MESSAGE.replace(b"more\r\n", b"more\r\n" * 100_000)


async def test_small_messages_are_looked_at_here_and_large_ones_elsewhere(house: House) -> None:
    scanner = Scanner(house.client)
    assert await scanner.scan(MESSAGE) == scan(MESSAGE)
    assert house.server.counts["done"] == 0
    assert await scanner.scan(LARGE) == scan(LARGE)
    assert await scanner.text(LARGE) == search_text(LARGE)
    assert house.server.counts["done"] == 2


@pytest.mark.parametrize("size", [1000, 60_000])
def test_what_is_looked_at_on_the_loop_is_quick(size: int) -> None:
    parts = MESSAGE[:-5].replace(b"--x--", b"") + b"--x\r\n\r\n\r\n" * size
    assert quick(parts) == (len(parts) <= QUICK)
    assert quick(MESSAGE + b"x" * 400_000)
    assert not quick(MESSAGE + b"x" * 600_000)


PATHS: list[tuple[int, ...]] = [(), (1,), (2,), (3,), (1, 1)]


async def test_parts_are_found_elsewhere(house: House) -> None:
    scanner = Scanner(house.client)
    assert await scanner.parts(LARGE, PATHS) == [section(LARGE, path) for path in PATHS]
    assert await Scanner().parts(LARGE, PATHS) == [section(LARGE, path) for path in PATHS]
    assert house.server.counts["done"] == 1
    too_many = [(number,) for number in range(1, 1000)]
    assert (await scanner.parts(LARGE, too_many))[1] == section(LARGE, (2,))
    for junk in ("parts x", "parts 1..2", "parts -", "unknown 1"):
        assert jobs.run(junk, LARGE) == jobs.REFUSED


async def test_parts_of_a_refused_message_are_those_of_its_structure(house: House, monkeypatch: pytest.MonkeyPatch
                                                                     ) -> None:
    monkeypatch.setattr(server, "SOFT_SECONDS", 0.1)
    monkeypatch.setattr(jobs, "parts", lambda data, paths: _forever(data))
    whole, first, second = await Scanner(house.client).parts(LARGE, [(), (1,), (2,)])
    head = scan(LARGE).header_size
    assert whole is not None
    assert first is not None
    assert (whole.body, first.body, second) == ((0, len(LARGE)), (head, len(LARGE)), None)


async def test_a_message_that_is_refused_is_known_by_its_header(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SOFT_SECONDS", 0.1)
    for job in ("scan", "text"):
        monkeypatch.setitem(jobs.JOBS, job, _forever)
    scanner = Scanner(house.client)
    found = await scanner.scan(LARGE)
    whole = scan(LARGE)
    assert (found.envelope, found.subject, found.header_size) == (whole.envelope, "grün", whole.header_size)
    assert found.structure.startswith(b'("application" "octet-stream" ')
    assert str(len(LARGE) - whole.header_size).encode() in found.structure.split()
    text = await scanner.text(LARGE)
    assert (text.subject, text.body) == ("grün", "")
    assert scanner.counts["refused"] == 2


async def test_a_role_that_is_away_is_done_without(tmp_path: Path) -> None:
    scanner = Scanner(ContentClient(tmp_path / "gone.sock"))
    assert await scanner.scan(LARGE) == scan(LARGE)
    assert scanner.counts == {"here": 1, "elsewhere": 0, "refused": 0, "away": 1}


async def test_who_waited_beside_the_one_that_killed_it_is_asked_about_again(tmp_path: Path) -> None:
    """The first life answers nobody; the second does."""
    listener = bind_unix(tmp_path / "c.sock", 0o600)
    asking = asyncio.create_task(ContentClient(tmp_path / "c.sock", seconds=5).scan(MESSAGE))
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    dying, _ = await loop.sock_accept(listener)
    await asyncio.sleep(0.05)
    dying.close()
    made = ContentServer(lambda peer: True)
    made.start(listener)
    assert await asking == scan(MESSAGE)
    made.stop()
    listener.close()


async def test_who_stops_waiting_leaves_no_descriptor(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    real = client._memory_file
    made: list[int] = []

    def slow(data: bytes) -> int:
        time.sleep(0.1)
        made.append(real(data))
        return made[-1]

    monkeypatch.setattr(client, "_memory_file", slow)
    task = asyncio.create_task(house.client.scan(MESSAGE))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.sleep(0.2)
    with pytest.raises(OSError):
        os.fstat(made[0])
