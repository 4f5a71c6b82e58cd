"""SIGKILL to roles at any moment, one after the other and several at once, while mail comes by SMTP and by APPEND.

tests/roles/test_deaths.py looks at what sessions notice of one death; this looks at the mail when deaths fall together.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.faults import kills
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.island import Island

pytestmark = pytest.mark.island
CONFIG = '[admission]\ntrusted = ["127.0.0.0/8"]\n[processes]\ndrain_seconds = 0\n'
SEEDS = range(2)
EACH = 2
"""Deaths of a role in one life of the island: after more of them it is started again seconds later."""

START_SECONDS = 10.0


@pytest.fixture(scope="module")
def stopped() -> Iterator[Island]:
    island = Island(config=CONFIG)
    yield island
    island.close()


def deaths(seed: int, roles: list[str]) -> list[tuple[float, list[str]]]:
    """(seconds to wait, roles that die together) until each has died EACH times."""
    chance = random.Random(f"by hand {seed}")
    left = sorted(roles) * EACH
    chance.shuffle(left)
    found = []
    while left:
        count = chance.choice((1, 1, 1, 2, 3))
        together, left = left[:count], left[count:]
        found.append((chance.choice((0.02, 0.1, 0.3, 0.6)), sorted(set(together))))
    return found


def alive(island: Island, role: str) -> int:
    """Its pid, as soon as it is started again; ready or not."""
    deadline = time.monotonic() + START_SECONDS
    while (pid := island.pids().get(role)) is None:
        assert time.monotonic() < deadline, f"{role} is not started again"
        time.sleep(0.01)
    return pid


def run(island: Island, seed: int) -> Ledger:
    """Start it, load it, let its roles die, read everything, empty the mailboxes, end it."""
    with kills.ended(island):
        return _run(island, seed)


def _run(island: Island, seed: int) -> Ledger:
    ledger = Ledger()
    island.start()
    load = Load(island, ledger, f"h{seed}", seed)
    with load.running():
        time.sleep(0.5)
        for seconds, roles in deaths(seed, list(island.pids())):
            time.sleep(seconds)
            for pid in [alive(island, role) for role in roles]:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.3)
    assert load.refused == []
    kills.read_all(island, ledger)
    for who in kills.PEOPLE:
        kills.empty(island, who)
    island.stop()
    return ledger


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_acknowledged_is_lost(stopped: Island, seed: int) -> None:
    ledger = run(stopped, seed)
    assert ledger.wrong() == {}
    assert len(ledger.acknowledged) > 20


def test_every_role_dies() -> None:
    roles = ["content", "directory", "frontend-1", "mailbox-1", "mailbox-2", "transport"]
    for seed in SEEDS:
        assert {role for _, together in deaths(seed, roles) for role in together} == set(roles)
