"""SIGKILL at every failpoint of the store: what was acknowledged is there exactly once, the rest at most once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
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
SEEDS = 10_000 if SOAK else 20
ROOT = Path(__file__).resolve().parents[2]

if SOAK:
    pytestmark = pytest.mark.soak


def run_until_killed(folder: Path, first: int, failpoint: str) -> list[int]:
    """The acknowledged numbers."""
    done = subprocess.run([sys.executable, "-m", "tests.mailbox.killed", str(folder), str(first)], cwd=ROOT,
                          env={**os.environ, "ATOLL_FAILPOINTS": failpoint, "PYTHONPATH": str(ROOT / "src")},
                          capture_output=True, timeout=60, check=False)
    assert done.returncode in (-signal.SIGKILL, 0), done.stderr.decode()
    return [int(line) for line in done.stdout.split()]


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_killed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged: list[int] = []
    tried = 0
    for _ in range(2):
        point = POINTS[seed % len(POINTS)]
        passage = 1 if ".mount." in point else chance.randint(1, 4 if "search" in point else 60)
        acknowledged += run_until_killed(tmp_path, tried, f"{point}=kill@{passage}")
        tried += 400
    directory = FileDirectory(tmp_path / "epochs.json")
    async with mounted(tmp_path, directory, StillClock()) as store:
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
