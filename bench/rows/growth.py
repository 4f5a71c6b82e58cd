"""Growth: the same operations beside 10,000 and beside 1,000,000 messages; deliveries that spread over many folders."""

from __future__ import annotations

import asyncio
import random
import time

import uvloop

from bench.corpus import message
from bench.meter import Span
from bench.rows import Figure, Goal, Row, Scale, pct
from bench.rows.folders import fill, modseq
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


def prepare(server: Server, scale: Scale) -> None:
    """Two databases: db1 holds 10,000 messages, db2 a million, of which 100,000 in one folder."""
    if "grow1m" in getattr(server, "made", ()):
        return
    server.restart(empty=True)
    for home, database, total, folder in (
        ("grow10k", "db1", SMALL, SMALL // 2),
        ("grow1m", "db2", scale(1_000_000, 50_000), scale(100_000, 20_000)),
    ):
        crowd = [f"{home}x{i}" for i in range(10)]
        server.accounts([home, *crowd], database)
        fill(server, home, "INBOX", folder, size=BODY)
        session = BulkImap(server.ports["imaps"], server.login(home), "INBOX")
        session.create("elsewhere")
        session.cmd(b"STORE 51:* +FLAGS.SILENT (\\Seen)")  # as many unread here as there: 50
        session.close()
        for name in crowd:
            for number in range(10):
                fill(server, name, f"f{number}", (total - folder) // 100, size=BODY)


def command(session: BulkImap, op: str, n: int, rnd: random.Random) -> bytes:
    """The line to be timed; what must be done before it is done here."""
    at = rnd.randrange(1, n - 60)
    if op == "CHANGEDSINCE":
        since = modseq(session, "INBOX")
        session.cmd(b"STORE %d +FLAGS.SILENT (\\Answered)" % at)
        return b"FETCH 1:* (FLAGS) (CHANGEDSINCE %d)" % since
    if op == "APPEND":
        data = message(rnd.randrange(1 << 30), size=BODY)
        return b"APPEND elsewhere (\\Seen) {%d+}\r\n%s" % (len(data), data)
    return {
        "SELECT": b"SELECT INBOX",
        "STATUS": b"STATUS elsewhere (MESSAGES UNSEEN UIDNEXT SIZE)",
        "LIST-STATUS": b'LIST "" "*" RETURN (STATUS (MESSAGES UNSEEN))',
        "FETCH of 50": b"FETCH %d:%d (UID FLAGS ENVELOPE BODYSTRUCTURE)" % (at, at + 49),
        "STORE one": b"STORE %d +FLAGS (\\Flagged)" % at,
        "MOVE one": b"MOVE %d elsewhere" % at,
        "UID SEARCH UNSEEN": b"UID SEARCH UNSEEN",
    }[op]


def measure(server: Server, scale: Scale) -> list[Figure]:
    """Each operation alternately here and there; a figure is the large one's time over the small one's."""
    homes = {"small": "grow10k", "large": "grow1m"}
    sessions = {home: BulkImap(server.ports["imaps"], server.login(user), "INBOX") for home, user in homes.items()}
    figures, rnd = [], random.Random(1)
    for op in OPS:
        walls: dict[str, list[float]] = {"small": [], "large": []}
        cpus = {"small": 0.0, "large": 0.0}
        for _ in range(TIMES):
            for home, session in sessions.items():
                line = command(session, op, session.count("INBOX"), rnd)
                with Span(server.group) as span:
                    session.cmd(line)
                walls[home].append(span.wall)
                cpus[home] += span.cpu
        small, large = pct(walls["small"], 0.5), pct(walls["large"], 0.5)
        extra = {"small_ms": small * 1e3, "large_ms": large * 1e3, "times": large / small}
        extra["cpu_times"] = cpus["large"] / max(cpus["small"], 1e-9)
        figures.append(Figure(f"growth: {op}", TIMES, sum(walls["large"]), cpus["large"], 0, extra))
    for session in sessions.values():
        session.close()
    return figures


GROWTH = Row(
    "growth",
    "the same at 1,000,000 messages in the database, 100,000 in the folder",
    measure,
    prepare,
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


def measure_spread(server: Server, scale: Scale) -> list[Figure]:
    total = scale(2000, 500)
    began = time.perf_counter()
    small = uvloop.run(spread(server, [f"grow10kx{i}" for i in range(10)], total))
    large = uvloop.run(spread(server, [f"grow1mx{i}" for i in range(10)], total))
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
    prepare,
    (Goal(SPREAD_OP, "times", 2, kind="value", least=False),),
    alone=True,
)
