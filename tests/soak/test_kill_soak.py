"""tests/faults/test_kills.py and test_killed_by_hand.py with thousands of seeds: `make soak`.

In     SEEDS in the environment: how many (10,000); FIRST: the first of them (0).
Out    each seed whose promises were broken, with what was armed: SEEDS=1 FIRST=4711 runs it alone. One that depends on
       what the deaths before it left is found again by its block (FIRST = the block's first seed).
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.faults import kills
from tests.faults.ledger import Ledger
from tests.faults.test_killed_by_hand import CONFIG
from tests.faults.test_killed_by_hand import run as by_hand
from tests.island import Island

pytestmark = [pytest.mark.soak, pytest.mark.island]
COUNT = int(os.environ.get("SEEDS", "10000"))
FIRST = int(os.environ.get("FIRST", "0"))
BLOCK = 100
"""Seeds on one island's databases, one after the other."""

Run = Callable[[Island, int], Ledger]


def broken(seeds: range, run: Run) -> dict[int, object]:
    """Seed -> what was wrong. After such a one a new island goes on."""
    wrong: dict[int, object] = {}
    left = list(seeds)
    while left:
        island = Island(config=CONFIG)
        try:
            while left:
                seed = left.pop(0)
                found = run(island, seed).wrong()
                if found:
                    wrong[seed] = found
                    break
        except Exception as error:
            wrong[seed] = f"{type(error).__name__}: {error}"
        finally:
            island.close()
    return wrong


def blocks(count: int) -> list[range]:
    return [range(start, min(start + BLOCK, FIRST + count)) for start in range(FIRST, FIRST + count, BLOCK)]


@pytest.mark.parametrize("seeds", blocks(COUNT), ids=str)
def test_killed_at_a_failpoint(seeds: range) -> None:
    assert broken(seeds, lambda island, seed: kills.run(island, kills.plan(seed))) == {}


@pytest.mark.parametrize("seeds", blocks(max(1, COUNT // 10)), ids=str)
def test_killed_by_hand(seeds: range) -> None:
    assert broken(seeds, by_hand) == {}
