"""SMTP to mailbox, from the first connect until IMAP STATUS shows the last message; and the mixed load."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import uvloop

from bench.corpus import message
from bench.meter import Span
from bench.rows import Figure, Row, Scale, at_least, at_most, pct, rate
from bench.rows.folders import fill
from bench.server import Server
from bench.wire import BulkImap, Imap, dotted, imap, smtp

USERS = 100
LIMIT = 100.0  # seconds until a load that does not arrive is given up
SEED = itertools.count(int(time.time()) % 1_000_000 * 10_000)


def parcels(server: Server, count: int, size: int) -> tuple[list[tuple[bytes, bytes]], Counter[int]]:
    """(recipient, dotted text) for `count` messages over USERS mailboxes, and how many each mailbox gets."""
    queue, expect = [], Counter[int]()
    for i in range(count):
        user = i % USERS
        expect[user] += 1
        queue.append((address(server, user), dotted(message(next(SEED), size=size))))
    return queue, expect


def address(server: Server, user: int | str) -> bytes:
    return server.login(user)[0].encode()


async def sender(port: int, todo: Iterator[tuple[bytes, bytes]], latencies: list[float]) -> None:
    session = await smtp(port)
    for rcpt, data in todo:
        began = time.perf_counter()
        await session.send(rcpt, data)
        latencies.append(time.perf_counter() - began)
    session.quit()


def spread_of(seconds: list[float]) -> dict[str, float]:
    return {"p50_ms": pct(seconds, 0.5) * 1e3, "p99_ms": pct(seconds, 0.99) * 1e3}


async def count(session: Imap) -> int:
    found = re.search(rb"MESSAGES (\d+)", await session.cmd(b"STATUS INBOX (MESSAGES)"))
    assert found
    return int(found.group(1))


async def arrived(sessions: dict[int, Imap], want: dict[int, int]) -> None:
    """Wait mailbox by mailbox: asking all of them in a loop would cost the server more than a delivery does."""
    deadline = time.perf_counter() + LIMIT
    for user, session in sessions.items():
        while await count(session) < want[user]:
            if time.perf_counter() > deadline:
                raise TimeoutError(f"mailbox {user} is incomplete after {LIMIT:.0f} s")
            await asyncio.sleep(0.05)


async def deliver(server: Server, total: int, size: int, conns: int, op: str) -> Figure:
    queue, expect = parcels(server, total, size)
    sessions = {user: await imap(server.ports["imaps"], server.login(user)) for user in expect}
    want = {user: await count(session) + expect[user] for user, session in sessions.items()}
    latencies: list[float] = []
    with Span(server.group) as span:
        todo = iter(queue)
        await asyncio.gather(*(sender(server.ports["smtp"], todo, latencies) for _ in range(conns)))
        accepted = time.perf_counter() - span.t0
        await arrived(sessions, want)
    roles = span.roles(total)
    for session in sessions.values():
        session.close()
    return Figure(
        op,
        total,
        span.wall,
        span.cpu,
        span.gen,
        {"accept_per_s": total / accepted, **spread_of(latencies), **roles},
    )


LOADS = (
    ("SMTP 4 KB, 10 connections", 4096, 5000, 10),
    ("SMTP 4 KB, 50 connections", 4096, 5000, 50),
    ("SMTP 100 KB, 10 connections", 102_400, 1000, 10),
)


def prepare(server: Server, scale: Scale) -> None:
    server.accounts(range(USERS))


def measure(server: Server, scale: Scale) -> list[Figure]:
    return [uvloop.run(deliver(server, scale(total), size, conns, op)) for op, size, total, conns in LOADS]


SMTP = Row(
    "smtp",
    "SMTP to mailbox",
    measure,
    prepare,
    (
        *rate("SMTP 4 KB, 10 connections", 5, 1 / 8),
        *rate("SMTP 4 KB, 50 connections", 5, 1 / 8),
        *rate("SMTP 100 KB, 10 connections", 3),
    ),
)

# ---------------------------------------------------------------- mixed

LISTERS = 20
LISTING = b"FETCH 1:* (ENVELOPE BODYSTRUCTURE)"


@dataclass
class Samples:
    """Seconds that each kind of request took."""

    lists: list[float] = field(default_factory=list)
    searches: list[float] = field(default_factory=list)
    noops: list[float] = field(default_factory=list)
    deliveries: list[float] = field(default_factory=list)


async def again(session: Imap, line: bytes, samples: list[float], stop: asyncio.Event, pause: float = 0) -> None:
    while not stop.is_set():
        began = time.perf_counter()
        await session.cmd(line)
        samples.append(time.perf_counter() - began)
        await asyncio.sleep(pause)


def endless(server: Server, stop: asyncio.Event, sent: Counter[int]) -> Iterator[tuple[bytes, bytes]]:
    """Messages for one mailbox after the other until `stop`; made before, so that making them takes no time here."""
    ready = [dotted(message(next(SEED), size=4096)) for _ in range(500)]
    for i in itertools.count():
        if stop.is_set():
            return
        sent[i % USERS] += 1
        yield address(server, i % USERS), ready[i % len(ready)]


async def mixed(server: Server, seconds: float) -> list[Figure]:
    port, big, stop, done = server.ports["imaps"], server.login("big"), asyncio.Event(), asyncio.Event()
    sent, samples = Counter[int](), Samples()
    todo = endless(server, stop, sent)
    sessions = {user: await imap(port, server.login(user)) for user in range(USERS)}
    base = {user: await count(session) for user, session in sessions.items()}
    listers = [await imap(port, big, "b10k") for _ in range(LISTERS)]
    searcher, nooper = await imap(port, big, "b10k"), await imap(port, server.login(0), "INBOX")
    with Span(server.group) as span:
        loops = [asyncio.create_task(again(s, LISTING, samples.lists, done)) for s in listers]
        loops.append(asyncio.create_task(again(searcher, b"SEARCH TEXT xyzzyrare", samples.searches, done)))
        loops.append(asyncio.create_task(again(nooper, b"NOOP", samples.noops, done, 0.02)))
        await asyncio.sleep(0.5)  # the listings run before the first message comes
        began = time.perf_counter()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        await asyncio.gather(*(sender(server.ports["smtp"], todo, samples.deliveries) for _ in range(10)))
        await arrived(sessions, {user: base[user] + sent[user] for user in sessions})
        wall = time.perf_counter() - began
        done.set()
        listed = len(samples.lists) * FOLDER / (time.perf_counter() - span.t0)
    for session in (*listers, searcher, nooper, *sessions.values()):
        session.close()
    await asyncio.gather(*loops, return_exceptions=True)
    return [
        Figure(
            "mixed: delivery",
            sent.total(),
            wall,
            span.cpu,
            span.gen,
            {
                **spread_of(samples.deliveries),
                "noop_p50_ms": pct(samples.noops, 0.5) * 1e3,
                "noop_p99_ms": pct(samples.noops, 0.99) * 1e3,
                "listed_per_s": listed,
                "searches": len(samples.searches),
                "search_p50_ms": pct(samples.searches, 0.5) * 1e3,
                **span.roles(sent.total()),
            },
        )
    ]


FOLDER = 10_000


def prepare_mixed(server: Server, scale: Scale) -> None:
    server.accounts(range(USERS))
    fill(server, "big", "b10k", FOLDER)
    session = BulkImap(server.ports["imaps"], server.login("big"), "b10k")
    for line in (LISTING, b"SEARCH TEXT xyzzyrare"):
        session.cmd(line)
    session.close()


MIXED = Row(
    "mixed",
    "deliver 4 KB from 10 connections while 20 clients list 10,000 and one searches",
    lambda server, scale: uvloop.run(mixed(server, scale(10, 5))),
    prepare_mixed,
    (
        at_least("mixed: delivery", "per_s", 500),
        at_most("mixed: delivery", "p99_ms", 250),
        at_most("mixed: delivery", "noop_p99_ms", 100),
    ),
)
