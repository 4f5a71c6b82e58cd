"""I017 of the attack catalogue at its full size: 10,000 IMAP sessions that idle over TLS, on one island.

SESSIONS: how many (10,000; fewer where descriptors are short). tests/attacks has 120 of them in `make test`.
"""

from __future__ import annotations

import asyncio
import os
import resource
import smtplib
import ssl
import time
from pathlib import Path

import pytest

from tests.island import Island
from tests.roles.people import message

pytestmark = [pytest.mark.soak, pytest.mark.island]
EACH = 100 << 10
"""Octets that an idle session may cost, over all processes."""
AT_ONCE = 50
TOLD_SECONDS = 30.0
CONFIG = """
[processes]
frontends = 2

[admission]
trusted = ["127.0.0.0/8"]
"""


def descriptors() -> int:
    """Raised as far as it is allowed, for us and the island that we start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if os.geteuid() == 0:
        hard = max(hard, min(100_000, int(Path("/proc/sys/fs/nr_open").read_text())))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def memory(island: Island) -> int:
    """Resident octets of every role."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in island.pids().values())
    return pages * os.sysconf("SC_PAGESIZE")


class Idler:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, line: str, end: bytes) -> None:
        self.writer.write(line.encode() + b"\r\n")
        while not (said := await asyncio.wait_for(self.reader.readline(), 60)).startswith(end):
            assert said, "closed"
            assert not said.startswith(b"a "), said


async def idler(island: Island, context: ssl.SSLContext, gate: asyncio.Semaphore) -> Idler:
    async with gate:
        one = Idler(*await asyncio.open_connection("localhost", island.ports["imaps"], ssl=context, limit=4096))
        await one.reader.readline()
        await one.ask(f"a LOGIN alice@{island.domain} {island.password('alice')}", b"a OK")
        await one.ask("a SELECT INBOX", b"a OK")
        await one.ask("a IDLE", b"+ ")
        return one


async def all_of_them(island: Island, count: int) -> None:
    gate, context = asyncio.Semaphore(AT_ONCE), island.tls()
    # the first ones bring what is there once: code, buffers, caches
    idlers = await asyncio.gather(*[idler(island, context, gate) for _ in range(200)])
    before = memory(island)
    began = time.monotonic()
    idlers += await asyncio.gather(*[idler(island, context, gate) for _ in range(count - len(idlers))])
    opened = time.monotonic() - began
    each = (memory(island) - before) / (count - 200)
    began = time.monotonic()
    with smtplib.SMTP("localhost", island.ports["smtp"], timeout=60) as client:
        client.send_message(message("told"), "x@out.example", [f"alice@{island.domain}"])
    told = await asyncio.wait_for(asyncio.gather(*[one.reader.readline() for one in idlers]), TOLD_SECONDS)
    print(f"{count} sessions: opened in {opened:.0f} s, {each / 1024:.1f} KiB each,"
          f" told in {time.monotonic() - began:.2f} s")
    assert set(told) == {b"* 1 EXISTS\r\n"}
    assert each <= EACH
    for one in idlers:
        one.writer.transport.abort()


def test_I017_ten_thousand_sessions_that_idle() -> None:
    count = min(int(os.environ.get("SESSIONS", "10000")), descriptors() - 1000)
    with Island(config=CONFIG) as island:
        asyncio.run(all_of_them(island, count))
        asyncio.run(all_of_them_again(island))
        island.stop()


async def all_of_them_again(island: Island) -> None:
    """They have gone: the island is as it was."""
    one = await idler(island, island.tls(), asyncio.Semaphore(1))
    one.writer.transport.abort()
