"""Many sessions: a mix of what clients do, idle ones, a thousand on one folder, everybody coming back at once."""

from __future__ import annotations

import asyncio
import random
import re
import resource
import time

import uvloop

from bench.corpus import message
from bench.meter import Span
from bench.rows import Figure, Goal, Row, Scale, at_most, pct
from bench.rows.folders import fill, fill_by_copy
from bench.server import Server
from bench.wire import BulkImap, Imap, dotted, imap, smtp

MIX = (
    ("fetch_new", 25),
    ("fetch_list", 20),
    ("fetch_body", 20),
    ("store", 12),
    ("noop", 8),
    ("status", 6),
    ("search", 4),
    ("append", 5),
)
HELD = 200  # messages in each mailbox of the mix


def descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 60_000), hard))


def source(i: int) -> str:
    """A loopback address per 25 sessions, as 25 clients of one household have."""
    return f"127.{i // 25 // 250 + 1}.{i // 25 % 250}.1"


async def signed_in(
    server: Server, users: list[int | str], folder: str, spread: bool = True, at_once: int = 20
) -> list[Imap]:
    gate = asyncio.Semaphore(at_once)

    async def one(i: int, user: int | str) -> Imap:
        async with gate:
            return await imap(server.ports["imaps"], server.login(user), folder, source(i) if spread else "")

    return list(await asyncio.gather(*(one(i, user) for i, user in enumerate(users))))


# ---------------------------------------------------------------- 100 sessions in a mix


def prepare_mix(server: Server, scale: Scale) -> None:
    server.accounts(range(100))
    for user in range(100):
        session = BulkImap(server.ports["imaps"], server.login(user))
        have = session.count("INBOX")
        if have < HELD:
            session.append("INBOX", [message(user * 1000 + k) for k in range(have, HELD)])
        session.cmd(b"SELECT INBOX")
        session.cmd(b"FETCH 1:* (UID FLAGS RFC822.SIZE ENVELOPE)")
        session.close()


async def act(session: Imap, kind: str, n: int, data: bytes) -> None:
    if kind == "fetch_new":
        await session.cmd(b"FETCH %d:* (UID FLAGS)" % (HELD - 20))
    elif kind == "fetch_list":
        await session.cmd(b"FETCH %d:%d (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)" % (max(1, n - 25), n))
    elif kind == "fetch_body":
        await session.cmd(b"FETCH %d (UID BODY.PEEK[])" % n)
    elif kind == "store":
        await session.cmd(b"STORE %d %cFLAGS (\\Seen)" % (n, b"+-"[n % 2]))
    elif kind == "noop":
        await session.cmd(b"NOOP")
    elif kind == "status":
        await session.cmd(b"STATUS INBOX (MESSAGES UNSEEN UIDNEXT)")
    elif kind == "search":
        await session.cmd(b"UID SEARCH UNSEEN SINCE 1-Jan-2024")
    else:
        await session.append(b"INBOX", data)


async def mix(server: Server, seconds: float) -> list[Figure]:
    sessions = await signed_in(server, list(range(100)), "INBOX")
    latencies: dict[str, list[float]] = {kind: [] for kind, _ in MIX}
    fresh = [message(7_000_000 + i, size=4096) for i in range(100)]
    began = time.perf_counter()

    async def client(i: int, session: Imap) -> None:
        rnd = random.Random(i)
        while time.perf_counter() - began < seconds:
            (kind,) = rnd.choices([k for k, _ in MIX], [w for _, w in MIX])
            start = time.perf_counter()
            await act(session, kind, rnd.randint(1, HELD), fresh[i])
            latencies[kind].append(time.perf_counter() - start)

    with Span(server.group) as span:
        await asyncio.gather(*(client(i, session) for i, session in enumerate(sessions)))
    for session in sessions:
        session.close()
    every = [value for values in latencies.values() for value in values]
    extra = {"p50_ms": pct(every, 0.5) * 1e3, "p99_ms": pct(every, 0.99) * 1e3}
    extra |= span.roles(len(every))
    extra |= {f"{kind}_p99_ms": pct(values, 0.99) * 1e3 for kind, values in latencies.items()}
    return [Figure("100 sessions", len(every), span.wall, span.cpu, span.gen, extra)]


MIX_ROW = Row(
    "mix",
    "100 sessions in a mix",
    lambda server, scale: uvloop.run(mix(server, scale(10, 4))),
    prepare_mix,
    (Goal("100 sessions", "per_s", 1.5), Goal("100 sessions", "p99_ms", 0.5, least=False)),
)

# ---------------------------------------------------------------- IDLE

IDLE_OP = "IDLE over TLS"


def prepare_idle(server: Server, scale: Scale) -> None:
    """Distinct mailboxes; fifty of them, spread evenly, have an INBOX of 10,000."""
    users = idlers(scale)
    server.accounts(users)
    for user in users[:: len(users) // scale(50, 5)]:
        fill_by_copy(server, f"u{user}", "INBOX", scale(10_000, 1000), size=600)


def idlers(scale: Scale) -> list[int]:
    return list(range(1000, 1000 + scale(5000, 300)))


async def idle(server: Server, scale: Scale) -> list[Figure]:
    descriptors()
    users = idlers(scale)
    before, began = server.group.memory(), time.perf_counter()
    with Span(server.group) as span:
        sessions = await signed_in(server, list(users), "INBOX")
        for session in sessions:
            await session.idle()
    ready = time.perf_counter() - began
    await asyncio.sleep(3)
    after, cpu = server.group.memory(), server.group.cpu()
    await asyncio.sleep(5)
    waiting = (server.group.cpu() - cpu) / 5
    sent, told = await announce(server, users, sessions, scale(300, 60))
    for session in sessions:
        session.close()
    n = len(users)
    return [
        Figure(
            IDLE_OP,
            n,
            ready,
            span.cpu,
            span.gen,
            {
                "pss_kb_each": (after.pss - before.pss) / n / 1024,
                "private_kb_each": (after.private - before.private) / n / 1024,
                "waiting_cpu_percent": waiting * 100,
                "sent_to_told_p99_ms": pct(sent, 0.99) * 1e3,
                "told_p50_ms": pct(told, 0.5) * 1e3,
                "told_p99_ms": pct(told, 0.99) * 1e3,
            },
        )
    ]


async def announce(
    server: Server, users: list[int], sessions: list[Imap], count: int
) -> tuple[list[float], list[float]]:
    """Deliver to one waiting mailbox after the other; seconds from the final dot, and from its 250, to its EXISTS."""
    sender = await smtp(server.ports["smtp"])
    sent: list[float] = []
    told: list[float] = []
    for k in range(count):
        i = k * 37 % len(users)
        seen = asyncio.get_running_loop().create_future()

        def look(data: bytes, seen: asyncio.Future[float] = seen) -> None:
            if b"EXISTS" in data and not seen.done():
                seen.set_result(time.perf_counter())

        sessions[i].on_data = look
        began = time.perf_counter()
        await sender.send(server.login(users[i])[0].encode(), dotted(message(9_000_000 + k, size=4096)))
        accepted = time.perf_counter()
        at = await asyncio.wait_for(seen, 40)
        told.append(max(0.0, at - accepted))
        sent.append(at - began)
        sessions[i].on_data = None
    sender.quit()
    return sent, told


IDLE = Row(
    "idle",
    "5,000 IDLE over TLS, distinct mailboxes",
    lambda server, scale: uvloop.run(idle(server, scale)),
    prepare_idle,
    (at_most(IDLE_OP, "pss_kb_each", 60), at_most(IDLE_OP, "told_p99_ms", 50)),
    alone=True,
)

# ---------------------------------------------------------------- one folder of 100,000

ONE_OP = "1,000 sessions on one folder of 100,000"


def prepare_one(server: Server, scale: Scale) -> None:
    fill(server, "big", "b100k", scale(100_000, 20_000))
    server.accounts(["small"])
    fill(server, "small", "INBOX", 1)


async def one_folder(server: Server, scale: Scale) -> list[Figure]:
    """Memory beyond as many idle sessions of a mailbox of one message."""
    descriptors()
    n, used = scale(1000), []
    for user, folder in (("small", "INBOX"), ("big", "b100k")):
        server.restart()  # memory that an earlier run gave back to nobody would hide what this one takes
        for session in await signed_in(server, [user] * 50, folder):
            session.close()
        await asyncio.sleep(3)
        before = server.group.memory()
        with Span(server.group) as span:
            sessions = await signed_in(server, [user] * n, folder)
        await asyncio.sleep(2)
        used.append(server.group.memory().pss - before.pss)
        for session in sessions:
            session.close()
    return [
        Figure(
            ONE_OP, n, span.wall, span.cpu, span.gen, {"more_mb": (used[1] - used[0]) / 1e6, "idle_mb": used[0] / 1e6}
        )
    ]


ONE = Row(
    "onefolder",
    ONE_OP,
    lambda server, scale: uvloop.run(one_folder(server, scale)),
    prepare_one,
    (at_most(ONE_OP, "more_mb", 100),),
    alone=True,
)

# ---------------------------------------------------------------- everybody comes back

BACK_OP = "2,000 clients reconnect and sign in after a restart"


def prepare_back(server: Server, scale: Scale) -> None:
    server.accounts(returning(scale))


def returning(scale: Scale) -> list[int]:
    return list(range(1000, 1000 + scale(2000)))


async def back(server: Server, scale: Scale) -> list[Figure]:
    descriptors()
    server.restart()
    users, greet, done = returning(scale), [], asyncio.Event()

    async def port_25() -> None:
        while not done.is_set():
            began = time.perf_counter()
            session = await smtp(server.ports["smtp"])
            greet.append(time.perf_counter() - began)
            session.quit()
            await asyncio.sleep(0.1)

    watcher = asyncio.create_task(port_25())
    with Span(server.group) as span:
        sessions = await signed_in(server, list(users), "INBOX", at_once=len(users))
    done.set()
    await watcher
    answers = [await session.cmd(b"NOOP") for session in sessions[:10]]
    assert all(re.search(rb"zq\d+ OK", answer) for answer in answers)
    for session in sessions:
        session.close()
    return [
        Figure(
            BACK_OP,
            len(users),
            span.wall,
            span.cpu,
            span.gen,
            {"all_in_s": span.wall, "port25_worst_s": max(greet), "missing": len(users) - len(sessions)},
        )
    ]


BACK = Row(
    "reconnect",
    BACK_OP,
    lambda server, scale: uvloop.run(back(server, scale)),
    prepare_back,
    (at_most(BACK_OP, "all_in_s", 60), at_most(BACK_OP, "port25_worst_s", 1), at_most(BACK_OP, "missing", 0)),
    alone=True,
)
