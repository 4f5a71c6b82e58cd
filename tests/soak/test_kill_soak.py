"""tests/faults/test_kills.py and test_killed_by_hand.py with thousands of seeds: `make soak`.

In     SEEDS in the environment: how many (10,000); FIRST: the first of them (0).
Out    each series of seeds in which a promise was broken; its island's folder is left where it is, with its log.
       SEEDS=25 FIRST=4700 runs such a series again, SEEDS=1 FIRST=4711 a seed alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.faults import streak
from tests.faults.ledger import Ledger
from tests.faults.test_killed_by_hand import CONFIG
from tests.island import Island

pytestmark = [pytest.mark.soak, pytest.mark.island]
COUNT = int(os.environ.get("SEEDS", "10000"))
FIRST = int(os.environ.get("FIRST", "0"))
SERIES = 25
"""Seeds in one life of an island."""
BLOCK = 100
"""Seeds on one island's databases."""

Run = Callable[[Island, range], Ledger]


def broken(seeds: range, run: Run) -> dict[str, object]:
    """Series -> what was wrong. After such a one a new island goes on."""
    wrong: dict[str, object] = {}
    island = Island(config=CONFIG)
    for start in range(seeds.start, seeds.stop, SERIES):
        series = range(start, min(start + SERIES, seeds.stop))
        try:
            found: object = run(island, series).wrong()
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if found:
            wrong[f"{series} in {island.data}"] = found
            island.crash()
            island = Island(config=CONFIG)
    island.close()
    return wrong


def blocks(count: int) -> list[range]:
    return [range(start, min(start + BLOCK, FIRST + count)) for start in range(FIRST, FIRST + count, BLOCK)]


@pytest.mark.parametrize("seeds", blocks(COUNT), ids=str)
def test_killed_at_a_failpoint(seeds: range) -> None:
    assert broken(seeds, streak.run) == {}


@pytest.mark.parametrize("seeds", blocks(max(1, COUNT // 10)), ids=str)
def test_killed_by_hand(seeds: range) -> None:
    assert broken(seeds, streak.by_hand) == {}
