"""Growth: the same operations beside 10,000 and beside 1,000,000 messages; deliveries that spread over many folders."""

from __future__ import annotations

import asyncio
import random
import re
import time

import uvloop

from bench.corpus import message
from bench.meter import Span
from bench.rows import Figure, Goal, Row, Scale, pct
from bench.rows.folders import fill
from bench.server import Server
from bench.wire import BulkImap, Imap, imap

SMALL, BODY = 10_000, 1024
TIMES = 15
OPS = (
    "SELECT",
    "STATUS",
    "LIST-STATUS",
    "FETCH of 50",
    "CHANGEDSINCE",
    "APPEND",
    "STORE one",
    "MOVE one",
    "UID SEARCH UNSEEN",
)


def fill_database(server: Server, first: str, others: str, total: int, folder_of_first: int) -> None:
    """`total` messages in one database: one folder of the account `first`, the rest spread over more accounts there."""
    server.accounts([first], beside=first)
    fill(server, first, "INBOX", folder_of_first, size=BODY)
    left, number = total - folder_of_first, 0
    while left > 0:
        name = f"{others}{number}"
        server.accounts([name], beside=first)
        for folder in range(10):
            part = min(left, 10_000)
            if part > 0:
                fill(server, name, f"f{folder}", part, size=BODY)
            left -= part
        number += 1


def prepare(server: Server, scale: Scale) -> None:
    fill_database(server, "grow10k", "growa", SMALL, SMALL)
    session = BulkImap(server.ports["imaps"], server.login("grow10k"))
    session.create("elsewhere")
    session.close()


def prepare_large(server: Server, scale: Scale) -> None:
    fill_database(server, "grow1m", "growb", scale(1_000_000, 50_000), scale(100_000, 20_000))
    session = BulkImap(server.ports["imaps"], server.login("grow1m"))
    session.create("elsewhere")
    session.close()


def once(session: BulkImap, op: str, n: int, rnd: random.Random) -> None:
    at = rnd.randrange(1, n - 60)
    if op == "SELECT":
        session.cmd(b"SELECT INBOX")
    elif op == "STATUS":
        session.cmd(b"STATUS elsewhere (MESSAGES UNSEEN UIDNEXT SIZE)")
    elif op == "LIST-STATUS":
        session.cmd(b'LIST "" "*" RETURN (STATUS (MESSAGES UNSEEN))')
    elif op == "FETCH of 50":
        session.cmd(b"FETCH %d:%d (UID FLAGS ENVELOPE BODYSTRUCTURE)" % (at, at + 49))
    elif op == "APPEND":
        session.append("elsewhere", [message(rnd.randrange(1 << 30), size=BODY)])
    elif op == "STORE one":
        session.cmd(b"STORE %d +FLAGS (\\Flagged)" % at)
    elif op == "MOVE one":
        session.cmd(b"MOVE %d elsewhere" % at)
    elif op == "UID SEARCH UNSEEN":
        session.cmd(b"UID SEARCH UNSEEN")


def changed_since(session: BulkImap, n: int, rnd: random.Random) -> None:
    answer = session.cmd(b"STATUS INBOX (HIGHESTMODSEQ)", keep=True)
    found = re.search(rb"HIGHESTMODSEQ (\d+)", answer)
    assert found
    session.cmd(b"STORE %d +FLAGS.SILENT (\\Answered)" % rnd.randrange(1, n - 60))
    began = time.perf_counter()
    session.cmd(b"FETCH 1:* (FLAGS) (CHANGEDSINCE %d)" % int(found.group(1)))
    session.since = time.perf_counter() - began  # type: ignore[attr-defined]


def measure(server: Server, scale: Scale) -> list[Figure]:
    """Each operation alternately here and there; a figure is the large one's time over the small one's."""
    homes = {"small": ("grow10k", SMALL), "large": ("grow1m", scale(100_000, 20_000))}
    sessions = {home: BulkImap(server.ports["imaps"], server.login(user), "INBOX") for home, (user, _) in homes.items()}
    figures, rnd = [], random.Random(1)
    for op in OPS:
        walls: dict[str, list[float]] = {"small": [], "large": []}
        cpus = {"small": 0.0, "large": 0.0}
        for _ in range(TIMES):
            for home, session in sessions.items():
                n = session.count("INBOX")
                with Span(server.group) as span:
                    if op == "CHANGEDSINCE":
                        changed_since(session, n, rnd)
                    else:
                        once(session, op, n, rnd)
                walls[home].append(getattr(session, "since", span.wall) if op == "CHANGEDSINCE" else span.wall)
                cpus[home] += span.cpu
        small, large = pct(walls["small"], 0.5), pct(walls["large"], 0.5)
        figures.append(
            Figure(
                f"growth: {op}",
                TIMES,
                sum(walls["large"]),
                cpus["large"],
                0,
                {
                    "small_ms": small * 1e3,
                    "large_ms": large * 1e3,
                    "times": large / small,
                    "cpu_times": cpus["large"] / max(cpus["small"], 1e-9),
                },
            )
        )
    for session in sessions.values():
        session.close()
    return figures


def prepare_both(server: Server, scale: Scale) -> None:
    prepare(server, scale)
    prepare_large(server, scale)


GROWTH = Row(
    "growth",
    "the same at 1,000,000 messages in the database, 100,000 in the folder",
    measure,
    prepare_both,
    tuple(Goal(f"growth: {op}", "times", 1.5, kind="value", least=False) for op in OPS),
    alone=True,
)

# ---------------------------------------------------------------- deliveries that spread

SPREAD_OP = "delivery spread over 100 folders of 10 mailboxes"


async def spread(server: Server, names: list[str], total: int) -> float:
    """CPU seconds of `total` APPENDs from 10 connections over 10 folders each."""
    sessions = [await imap(server.ports["imaps"], server.login(name)) for name in names]
    todo = iter(range(total))

    async def worker(session: Imap) -> None:
        for i in todo:
            await session.append(b"f%d" % (i % 10), message(8_000_000 + i, size=4096))

    with Span(server.group) as span:
        await asyncio.gather(*(worker(session) for session in sessions for _ in range(1)))
    for session in sessions:
        session.close()
    return span.cpu


def prepare_spread(server: Server, scale: Scale) -> None:
    for home, total in (("sprs", SMALL), ("sprl", scale(1_000_000, 50_000))):
        for i in range(10):
            server.accounts([f"{home}{i}"], beside=f"{home}0")
            for folder in range(10):
                fill(server, f"{home}{i}", f"f{folder}", total // 100, size=BODY)


def measure_spread(server: Server, scale: Scale) -> list[Figure]:
    total = scale(2000, 500)
    began = time.perf_counter()
    small = uvloop.run(spread(server, [f"sprs{i}" for i in range(10)], total))
    large = uvloop.run(spread(server, [f"sprl{i}" for i in range(10)], total))
    return [
        Figure(
            SPREAD_OP,
            total,
            time.perf_counter() - began,
            large,
            0,
            {"small_cpu_ms": small * 1e3 / total, "large_cpu_ms": large * 1e3 / total, "times": large / small},
        )
    ]


SPREAD = Row(
    "spread",
    SPREAD_OP,
    measure_spread,
    prepare_spread,
    (Goal(SPREAD_OP, "times", 2, kind="value", least=False),),
    alone=True,
)
