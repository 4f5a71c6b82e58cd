"""tests/faults/test_storms.py with hundreds of seeds: `make soak`. SEEDS: how many of each kind (500)."""

from __future__ import annotations

import os

import pytest

from tests.faults import storms

pytestmark = [pytest.mark.soak, pytest.mark.island]
SEEDS = range(min(500, int(os.environ.get("SEEDS", "500"))))


@pytest.mark.parametrize("seed", SEEDS)
def test_deaths_in_a_start(seed: int) -> None:
    assert storms.deaths_in_a_start(seed) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_deaths_in_restarts(seed: int) -> None:
    assert storms.deaths_in_restarts(seed) == []
