"""A few storms of deaths and restarts in every run; `make soak` has many."""

from __future__ import annotations

import pytest

from tests.faults import storms

pytestmark = pytest.mark.island


@pytest.mark.parametrize("seed", [116, 122, 130])
def test_deaths_in_a_start(seed: int) -> None:
    assert storms.deaths_in_a_start(seed) == []


@pytest.mark.parametrize("seed", [1, 13, 16])
def test_deaths_in_restarts(seed: int) -> None:
    assert storms.deaths_in_restarts(seed) == []
