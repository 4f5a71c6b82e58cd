"""One big folder: listing, bodies, changes, search, and what moves and removes messages."""

from __future__ import annotations

import asyncio
import functools
import re
import time

import uvloop

from bench.corpus import message
from bench.meter import Span
from bench.rows import Figure, Goal, Row, Scale, at_least, at_most, rate
from bench.server import Server
from bench.wire import BulkImap, imap

BATCH = 100
META = b"FETCH 1:* (ENVELOPE BODYSTRUCTURE)"
WARM = (("FLAGS", b"FETCH 1:* FLAGS"), ("ENVELOPE BODYSTRUCTURE", META), ("BODY.PEEK[]", b"FETCH 1:* BODY.PEEK[]"))


def fill(server: Server, name: str, folder: str, count: int, size: int | None = None) -> None:
    """Bring a folder to `count` messages (what an earlier row left there counts)."""
    server.accounts([name])
    session = BulkImap(server.ports["imaps"], server.login(name))
    have = max(0, session.count(folder))
    if not have:
        session.create(folder)
    for start in range(have, count, BATCH):
        session.append(folder, [message(i, size=size) for i in range(start, min(count, start + BATCH))])
    session.close()


def fill_by_copy(server: Server, name: str, folder: str, count: int, size: int) -> None:
    """The same in a hurry: a tenth of the messages, and each of them ten times."""
    fill(server, name, folder, count // 10, size)
    session = BulkImap(server.ports["imaps"], server.login(name), folder)
    while (have := session.count(folder)) < count:
        session.cmd(b'COPY 1:%d "%s"' % (min(count // 10, count - have), folder.encode()))
    session.close()


def timed(server: Server, session: BulkImap, op: str, n: int, line: bytes) -> Figure:
    with Span(server.group) as span:
        session.cmd(line)
    return Figure(op, n, span.wall, span.cpu, span.gen, {"mb_per_s": session.bytes / 1e6 / span.wall})


def fetch_row(name: str, folder: str, full: int, quick: int) -> Row:
    def prepare(server: Server, scale: Scale) -> None:
        fill(server, "big", folder, scale(full, quick))
        session = BulkImap(server.ports["imaps"], server.login("big"), folder)
        for _, line in WARM:
            session.cmd(line)
        session.close()

    def measure(server: Server, scale: Scale) -> list[Figure]:
        n, login = scale(full, quick), server.login("big")
        session = BulkImap(server.ports["imaps"], login, folder)
        figures = [timed(server, session, f"FETCH {what}, {full:,} warm", n, line) for what, line in WARM]
        session.close()
        for what, line in WARM:
            time.sleep(0.5)  # until nobody has the files mapped: a mapped page is not dropped
            server.evict(login[0], folder)
            with Span(server.group) as span:
                session = BulkImap(server.ports["imaps"], login, folder)
            if line == META:
                figures.append(Figure(f"LOGIN SELECT, {full:,} cold", 1, span.wall, span.cpu, span.gen))
            figures.append(timed(server, session, f"FETCH {what}, {full:,} cold", n, line))
            session.close()
        time.sleep(0.5)
        server.forget_cache(login[0], folder)
        server.evict(login[0], folder)
        session = BulkImap(server.ports["imaps"], login, folder)
        figures.append(timed(server, session, f"FETCH ENVELOPE BODYSTRUCTURE, {full:,} first time, cold", n, META))
        session.close()
        return figures

    goals: list[Goal] = []
    for state, meta in (("warm", 2), ("cold", 5)):
        goals += rate(f"FETCH ENVELOPE BODYSTRUCTURE, {full:,} {state}", meta)
    goals += rate(f"FETCH ENVELOPE BODYSTRUCTURE, {full:,} first time, cold", 5)
    goals += [*rate(f"FETCH FLAGS, {full:,} warm", 0.3), *rate(f"FETCH BODY.PEEK[], {full:,} warm", 1)]
    return Row(name, f"FETCH 1:* of {full:,}", measure, prepare, tuple(goals))


FETCH10K = fetch_row("fetch10k", "b10k", 10_000, 10_000)
FETCH100K = fetch_row("fetch100k", "b100k", 100_000, 20_000)

# ---------------------------------------------------------------- CHANGEDSINCE

CHANGED = "CHANGEDSINCE after one change in 100,000"


def modseq(session: BulkImap, folder: str) -> int:
    found = re.search(rb"HIGHESTMODSEQ (\d+)", session.cmd(b'STATUS "%s" (HIGHESTMODSEQ)' % folder.encode(), keep=True))
    assert found
    return int(found.group(1))


def changed(server: Server, scale: Scale) -> list[Figure]:
    n = scale(100_000, 20_000)
    session = BulkImap(server.ports["imaps"], server.login("big"), "b100k")
    session.cmd(b"ENABLE CONDSTORE")
    walls, cpu, gen = [], 0.0, 0.0
    for i in range(20):
        at = modseq(session, "b100k")
        session.cmd(b"STORE %d %cFLAGS (\\Flagged)" % (n // 2, b"+-"[i % 2]))
        with Span(server.group) as span:
            answer = session.cmd(b"FETCH 1:* (FLAGS) (CHANGEDSINCE %d)" % at, keep=True)
        assert answer.count(b"FETCH (") == 1, answer[:300]
        walls.append(span.wall)
        cpu, gen = cpu + span.cpu, gen + span.gen
    session.close()
    wall = sorted(walls)[len(walls) // 2]
    return [Figure(CHANGED, 1, wall, cpu / len(walls), gen / len(walls), {"ms": wall * 1e3})]


CHANGEDSINCE = Row("changed", "CHANGEDSINCE", changed, FETCH100K.prepare, (at_most(CHANGED, "ms", 3),))

# ---------------------------------------------------------------- SEARCH


def prepare_search(server: Server, scale: Scale) -> None:
    FETCH100K.prepare(server, scale)
    session = BulkImap(server.ports["imaps"], server.login("big"), "b100k")
    session.cmd(b"SEARCH TEXT warmup")  # brings the full-text index of both up to date
    session.close()


PLAIN = (
    ("TEXT", b"TEXT xyzzyr", re.compile(rb"(?i)\bxyzzyr")),  # the beginning of a word
    ("BODY", b"BODY siszan", re.compile(rb"(?i)\r\n\r\n(?s:.*)\bsiszan")),
    ("SUBJECT", b"SUBJECT ere", re.compile(rb"(?im)^subject: .*ere")),
    ("FROM", b"FROM eye", re.compile(rb"(?im)^from: .*eye")),
    ("HEADER", b"HEADER Message-ID 77.1", re.compile(rb"(?im)^message-id: .*77\.1")),
)


@functools.cache
def plain_scan(n: int) -> dict[str, set[int]]:
    """What a reader of every message finds: needle -> uids (the folder was filled in order, from 1)."""
    found: dict[str, set[int]] = {name: set() for name, _, _ in PLAIN}
    for i in range(n):
        data = BASE64.sub(b"", message(i))
        head = data[: data.index(b"\r\n\r\n") + 2]
        for name, _, needle in PLAIN:
            if needle.search(data if name in ("TEXT", "BODY") else head):
                found[name].add(i + 1)
    return found


BASE64 = re.compile(rb"(?<=\r\n)(?:[A-Za-z0-9+/=]{60,}\r\n)+")


def recall(session: BulkImap, n: int) -> dict[str, float]:
    """Share of what the plain scan finds, and how many hits it does not know."""
    values: dict[str, float] = {}
    for name, line, _ in PLAIN:
        answer = session.cmd(b"UID SEARCH " + line, keep=True).split(b"\r\n")[0]
        hits, wanted = {int(uid) for uid in re.findall(rb" (\d+)", answer)}, plain_scan(n)[name]
        values[f"{name}_recall"] = len(hits & wanted) / len(wanted)
        values[f"{name}_wanted"] = len(wanted)
        values[f"{name}_beyond"] = len(hits - wanted)
    return values


def search(server: Server, scale: Scale) -> list[Figure]:
    n = scale(100_000, 20_000)
    session = BulkImap(server.ports["imaps"], server.login("big"), "b100k")
    session.cmd(b"UID SEARCH TEXT warmup")
    walls = []
    with Span(server.group) as span:
        for _ in range(5):
            began = time.perf_counter()
            session.cmd(b"UID SEARCH TEXT xyzzyrare")
            walls.append(time.perf_counter() - began)
    wall = sorted(walls)[len(walls) // 2]
    extra = {"ms": wall * 1e3, **recall(session, n)}
    figures = [Figure("SEARCH TEXT in 100,000", 1, wall, span.cpu / 5, span.gen / 5, extra)]
    for op, line in (
        ("SEARCH FROM", b'UID SEARCH FROM "eye"'),
        ("SEARCH SINCE", b"UID SEARCH SINCE 1-Jan-2025"),
        ("SORT (SUBJECT)", b"UID SORT (SUBJECT) UTF-8 ALL"),
        ("THREAD REFERENCES", b"UID THREAD REFERENCES UTF-8 ALL"),
    ):
        figures.append(timed(server, session, f"{op} of 100,000", n, line))
    session.close()
    return figures


SEARCH = Row(
    "search",
    "SEARCH",
    search,
    prepare_search,
    (
        *rate("SEARCH TEXT in 100,000", 1),
        *(at_least("SEARCH TEXT in 100,000", f"{name}_recall", 1.0) for name, _, _ in PLAIN),
    ),
)

# ---------------------------------------------------------------- COPY MOVE STORE EXPUNGE


def empty(session: BulkImap, folder: str) -> None:
    session.cmd(b'SELECT "%s"' % folder.encode())
    if session.count(folder) > 0:
        session.cmd(b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
        session.cmd(b"EXPUNGE")


def prepare_changes(server: Server, scale: Scale) -> None:
    fill(server, "big", "b10k", 10_000)
    session = BulkImap(server.ports["imaps"], server.login("big"))
    for folder in ("scratch", "target"):
        session.create(folder)
        empty(session, folder)
    session.close()


def changes(server: Server, scale: Scale) -> list[Figure]:
    """Of a folder that somebody looks at: whatever ran before, it is as warm as that makes it."""
    session = BulkImap(server.ports["imaps"], server.login("big"), "b10k")
    session.cmd(b"FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)")
    figures = [
        timed(server, session, "STORE 1:* of 10,000", 10_000, b"STORE 1:* +FLAGS (\\Flagged)"),
        timed(server, session, "COPY 1,000", 1000, b"COPY 1:1000 scratch"),
    ]
    session.cmd(b"STORE 1:* -FLAGS.SILENT (\\Flagged)")
    session.cmd(b"SELECT scratch")
    figures.append(timed(server, session, "MOVE 1,000", 1000, b"MOVE 1:1000 target"))
    session.cmd(b"SELECT target")
    session.cmd(b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
    figures.append(timed(server, session, "EXPUNGE 1,000", 1000, b"EXPUNGE"))
    assert session.count("target") == 0
    session.close()
    return figures


CHANGES = Row(
    "changes",
    "COPY, MOVE, STORE 1:*, EXPUNGE",
    changes,
    prepare_changes,
    tuple(goal for op in ("STORE 1:* of 10,000", "COPY 1,000", "MOVE 1,000", "EXPUNGE 1,000") for goal in rate(op, 1)),
)

# ---------------------------------------------------------------- APPEND


async def appends(server: Server, conns: int, total: int, op: str) -> Figure:
    sessions = [await imap(server.ports["imaps"], server.login("big")) for _ in range(conns)]
    todo = iter([message(5_000_000 + i, size=8192) for i in range(total)])

    async def worker(number: int) -> None:
        for data in todo:
            await sessions[number].append(b"scratch", data)

    with Span(server.group) as span:
        await asyncio.gather(*(worker(i) for i in range(conns)))
    for session in sessions:
        session.close()
    return Figure(op, total, span.wall, span.cpu, span.gen, span.roles(total))


def append(server: Server, scale: Scale) -> list[Figure]:
    figures = [
        uvloop.run(appends(server, 1, scale(1000, 300), "APPEND 8 KB, 1 connection")),
        uvloop.run(appends(server, 10, scale(1000, 300), "APPEND 8 KB, 10 connections")),
    ]
    session = BulkImap(server.ports["imaps"], server.login("big"))
    empty(session, "scratch")
    session.close()
    return figures


def prepare_append(server: Server, scale: Scale) -> None:
    server.accounts(["big"])
    session = BulkImap(server.ports["imaps"], server.login("big"))
    session.create("scratch")
    empty(session, "scratch")
    session.close()


APPEND = Row(
    "append",
    "APPEND 8 KB",
    append,
    prepare_append,
    (*rate("APPEND 8 KB, 1 connection", 1.5), *rate("APPEND 8 KB, 10 connections", 6)),
)
