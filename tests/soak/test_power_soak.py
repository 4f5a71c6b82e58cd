"""Power cuts and restores by the hundred: `make soak`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.test_powerloss import READ, nothing_is_lost
from tests.faults.test_restore_under_sync import restore_twice
from tests.island import Island

pytestmark = pytest.mark.soak
SEEDS = range(1, 1 + int(os.environ.get("SEEDS", "200")))
CUTS = 50


@pytest.fixture(scope="module")
def house() -> Iterator[Island]:
    with Island(config='[admission]\ntrusted = ["127.0.0.0/8"]\n') as island:
        yield island


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", READ)
async def test_power_cuts(tmp_path: Path, kind: str, seed: int) -> None:
    await nothing_is_lost(tmp_path, kind, seed, CUTS)


@pytest.mark.parametrize("seed", SEEDS)
def test_restores(house: Island, seed: int) -> None:
    restore_twice(house, seed)
