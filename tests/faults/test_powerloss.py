"""The power goes, what was not synced is lost or torn: everything acknowledged is there, nothing is there twice.

One run of the real code gives a journal of the disk; the power is cut at many points of it. The negative control is the
same with synchronous=NORMAL, which has to lose something: a disk that forgets nothing would prove nothing.
"""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from atoll.directory.server.database import open_database
from atoll.mailbox import Flag, Want
from atoll.mailbox.check import faults
from atoll.mailbox.integrity import check
from atoll.mailbox.query import Text
from atoll.sql.sqlite import SqliteEngine
from atoll.transport.queue import Queue
from tests.faults.cut import Story
from tests.faults.powerloss import Journal, Op
from tests.mailbox.killed import FileDirectory
from tests.mailbox.kit import ALICE, ALICES, StillClock, mounted

ROOT = Path(__file__).resolve().parents[2]
KEEP = ("nothing", "torn", "some", "all")
CUTS = 12


@dataclass
class Found:
    """What is on the disk after the cut: number -> how often it is there; numbers with the change made."""

    there: Counter[int]
    seen: set[int]
    wrong: list[str]


def told(folder: Path, kind: str, synchronous: str, seed: int) -> Story:
    """Run it in a process of its own: there the recording disk lies under everything else of SQLite."""
    subprocess.run([sys.executable, "-m", "tests.faults.cut", kind, str(folder), synchronous, str(seed)], cwd=ROOT,
                   env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=True, timeout=60)
    with (folder / "story").open("rb") as file:
        ops, tried, promises = pickle.load(file)
    return Story(Journal(ops), tried, promises)


async def mailbox(folder: Path, epochs: Path) -> Found:
    directory = FileDirectory(epochs)
    async with mounted(folder, directory, StillClock()) as store:
        alice = await store.open(ALICES, ALICE)
        inbox = alice.folder("INBOX")
        rows = alice.rows(inbox, 1, 1 << 31, Want.HOT, 10_000)
        numbers = [int(alice.row_blob(row).partition(b"Message-ID: <")[2].partition(b"@")[0]) for row in rows]
        wrong = faults(store.database("db1").reader)
        wrong += [str(problem) for problem in (await check(store.database("db1"))).problems]
        if len(await alice.search(inbox, Text("morning"))) != len(rows):
            wrong.append("the search index does not find everything")
        return Found(Counter(numbers), {n for n, row in zip(numbers, rows, strict=True) if row.flags & Flag.SEEN},
                     wrong)


async def queue(folder: Path, epochs: Path) -> Found:
    doubts: list[Exception] = []
    kept = await Queue.open(SqliteEngine(), folder / "queue.sqlite", FileDirectory(epochs), StillClock(1 << 45),
                            process="test", on_doubt=doubts.append)
    jobs = kept.waiting(limit=10_000)
    numbers = [int.from_bytes(job.envelope.id, "big") for job in jobs]
    wrong = [f"content of {n}" for n, job in zip(numbers, jobs, strict=True)
             if not (kept.content(job.envelope.id) or b"").startswith(b"%d " % n)]
    await kept.close()
    return Found(Counter(numbers), set(), wrong)


async def directory(folder: Path, epochs: Path) -> Found:
    doubts: list[Exception] = []
    kept = await open_database(SqliteEngine(), folder / "directory.sqlite", StillClock(), "test", doubts.append)
    rows = kept.rows("SELECT id, name, change FROM organization WHERE change > 0")
    wrong = [f"number {row}" for row in rows if row[2] > kept.last_change()]
    await kept.close()
    return Found(Counter(int.from_bytes(row[0], "big") for row in rows), set(), wrong)


READ = {"mailbox": mailbox, "queue": queue, "directory": directory}


def broken(story: Story, cut: int, found: Found) -> dict[str, object]:
    """Promises that do not hold; {} is what we want."""
    stored, gone = story.promised("stored", cut), story.promised("gone", cut)
    maybe_gone = story.tried_by("expunging")
    wrong = {"lost": stored - maybe_gone - set(found.there), "came back": gone & set(found.there),
             "twice": {number for number, times in found.there.items() if times > 1},
             "unexpected": set(found.there) - story.tried, "changes lost": story.promised("seen", cut) - found.seen,
             "faults": found.wrong}
    return {name: what for name, what in wrong.items() if what}


def cuts(story: Story, chance: random.Random, count: int) -> list[int]:
    """Points of the journal: around syncs, where promises begin, and anywhere; the end among them."""
    syncs = [number for number, op in enumerate(story.journal.ops) if op.kind == "sync"]
    near = [chance.choice(syncs) + chance.choice((0, 1, 2)) for _ in range(count // 2)]
    return [len(story.journal), *near, *(chance.randrange(1, len(story.journal)) for _ in range(count - 1 - len(near)))]


async def after(folder: Path, kind: str, story: Story, seed: int, count: int
                ) -> dict[tuple[int, str], dict[str, object]]:
    """(cut, keep) -> broken promises."""
    chance = random.Random(seed)
    wrong = {}
    for number, cut in enumerate(cuts(story, chance, count)):
        keep = KEEP[number % len(KEEP)]
        image = folder / f"cut-{number}"
        story.journal.write_image(image, cut, chance, keep)
        bad = broken(story, cut, await READ[kind](image, folder / "epochs.json"))
        if bad:
            wrong[cut, keep] = bad
    return wrong


async def nothing_is_lost(folder: Path, kind: str, seed: int, count: int) -> None:
    """One run, cut at `count` points."""
    story = told(folder, kind, "FULL", seed)
    assert len(story.promised("stored", sys.maxsize)) == len(story.tried)
    assert await after(folder, kind, story, seed, count) == {}


@pytest.mark.parametrize("kind", READ)
async def test_nothing_acknowledged_is_lost(tmp_path: Path, kind: str) -> None:
    await nothing_is_lost(tmp_path, kind, 0, CUTS)


@pytest.mark.parametrize("kind", READ)
async def test_control_a_database_that_does_not_sync_each_commit_loses_some(tmp_path: Path, kind: str) -> None:
    story = told(tmp_path, kind, "NORMAL", 0)
    # Behind each of the last promises: a checkpoint may just have synced what came before one of them.
    for cut in sorted({point for point, what, _ in story.promises if what == "stored"})[-12:]:
        image = tmp_path / f"cut-{cut}"
        story.journal.write_image(image, cut, random.Random(0), "nothing")
        if broken(story, cut, await READ[kind](image, tmp_path / "epochs.json")).get("lost"):
            return
    pytest.fail("synchronous=NORMAL has lost nothing: the power cut of these tests cuts nothing")


def test_the_disk_keeps_what_was_synced_and_nothing_else() -> None:
    journal = Journal([Op("write", "a", 0, b"x" * 1024), Op("sync", "a", 1), Op("write", "a", 0, b"y" * 1024),
                       Op("write", "b", 0, b"z"), Op("delete", "a")])
    chance = random.Random(1)
    assert journal.image(5, chance, "nothing") == {"a": b"x" * 1024}
    assert journal.image(5, chance, "all") == {"b": b"z"}
    assert journal.image(1, chance, "nothing") == {}
    torn = {journal.image(3, chance, "torn")["a"] for _ in range(50)}
    assert torn == {first * 512 + second * 512 for first in (b"x", b"y") for second in (b"x", b"y")}
    assert journal.image(3, chance, "all") == {"a": b"y" * 1024}


def test_a_sync_covers_only_what_was_written_before_it_began() -> None:
    journal = Journal([Op("write", "a", 0, b"1"), Op("write", "a", 1, b"2"), Op("sync", "a", 1)])
    assert journal.image(3, random.Random(1), "nothing") == {"a": b"1"}
