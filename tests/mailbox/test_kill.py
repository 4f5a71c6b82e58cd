"""SIGKILL at every failpoint of the store: what was acknowledged is there exactly once, the rest at most once.

In     SOAK=1: SEEDS (10,000) seeds from FIRST on instead of twenty.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atoll.mailbox import Want
from atoll.mailbox.check import faults
from atoll.mailbox.integrity import check
from atoll.mailbox.query import Text

from .killed import FileDirectory
from .kit import ALICE, ALICES, StillClock, delivery, mounted

POINTS = ("mailbox.commit.before", "mailbox.commit.after", "mailbox.reply.before", "mailbox.notify.before",
          "mailbox.mount.before_barrier", "mailbox.mount.after_barrier", "mailbox.search.commit.before",
          "mailbox.search.commit.after")
SOAK = bool(os.environ.get("SOAK"))
FIRST = int(os.environ.get("FIRST", "0"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("SEEDS", "10000"))) if SOAK else range(20)
BLOCK = 100 if SOAK else 1
ROOT = Path(__file__).resolve().parents[2]
SHM = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""What a killed process has written is there whether a disk has it or not: powerloss.py cuts the power."""
Kill = Callable[[Path, int, str], list[int]]

if SOAK:
    pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def kill() -> Iterator[Kill]:
    """(folder, first number, what is armed) -> the acknowledged numbers of a process that was killed."""
    with subprocess.Popen([sys.executable, "-m", "tests.mailbox.killed"], cwd=ROOT, stdin=subprocess.PIPE,
                          env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, stdout=subprocess.PIPE) as forks:
        assert forks.stdin is not None
        assert forks.stdout is not None

        def run_until_killed(folder: Path, first: int, armed: str) -> list[int]:
            forks.stdin.write(json.dumps([str(folder), first, armed]).encode() + b"\n")
            forks.stdin.flush()
            code, acknowledged = json.loads(forks.stdout.readline())
            assert code in (-signal.SIGKILL, 0)
            return acknowledged

        yield run_until_killed
        forks.stdin.close()


@pytest.mark.parametrize("seeds", [SEEDS[at:at + BLOCK] for at in range(0, len(SEEDS), BLOCK)], ids=str)
async def test_killed(kill: Kill, seeds: range) -> None:
    wrong = {}
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="atoll-", dir=SHM) as folder:
            try:
                await survives(kill, Path(folder), seed)
            except Exception as error:
                if len(seeds) == 1:
                    raise
                wrong[seed] = f"{type(error).__name__}: {error}"
    assert wrong == {}


async def survives(kill: Kill, folder: Path, seed: int) -> None:
    """Two deaths at a point, then what is there."""
    chance = random.Random(seed)
    acknowledged: list[int] = []
    tried = 0
    for _ in range(2):
        point = POINTS[seed % len(POINTS)]
        passage = 1 if ".mount." in point else chance.randint(1, 4 if "search" in point else 60)
        acknowledged += kill(folder, tried, f"{point}=kill@{passage}")
        tried += 400
    directory = FileDirectory(folder / "epochs.json")
    async with mounted(folder, directory, StillClock()) as store:
        alice = await store.open(ALICES, ALICE)
        inbox = alice.folder("INBOX")
        there = Counter(int(alice.row_blob(row).partition(b"Message-ID: <")[2].partition(b"@")[0])
                        for row in alice.rows(inbox, 1, 1 << 31, Want.HOT, 10_000))
        assert set(there.values()) <= {1}
        assert set(acknowledged) <= set(there)
        again = [delivery(key=f"{number}".encode(), message_id=f"<{number}@x>") for number in sorted(there)[:50]]
        assert all(getattr(done, "duplicate", False) for done in await store.deliver(again))
        assert faults(store.database("db1").reader) == []
        assert (await check(store.database("db1"))).problems == []
        assert len(await alice.search(inbox, Text("morning"))) == len(there)
