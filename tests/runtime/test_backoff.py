"""When a dead role is started again [PROCESSES 11]."""

from __future__ import annotations

import pytest

from atoll.runtime.backoff import DELAYS, Backoff


def test_the_delays_grow_and_stay_at_a_minute() -> None:
    backoff = Backoff()
    now, seen = 0.0, []
    for _ in range(8):
        backoff.started(now)
        now += 0.1
        seen.append(backoff.died(now, 0.5))
    assert seen == [*DELAYS, 60.0, 60.0]


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)])
def test_the_jitter_is_a_fifth(chance: float, factor: float) -> None:
    backoff = Backoff()
    backoff.died(0.1, chance)
    assert backoff.died(0.2, chance) == pytest.approx(0.2 * factor)


def test_a_good_life_begins_the_row_anew() -> None:
    backoff = Backoff()
    for at in (0.0, 1.0, 2.0):
        backoff.started(at)
        backoff.died(at + 0.5, 0.5)
    backoff.started(10.0)
    assert backoff.died(70.0, 0.5) == 0.0


def test_five_deaths_in_a_minute_are_a_loop_until_a_good_life() -> None:
    backoff = Backoff()
    for at in (0.0, 1.0, 2.0, 3.0):
        backoff.started(at)
        backoff.died(at + 0.5, 0.5)
        assert not backoff.loops(at + 0.6)
    backoff.started(4.0)
    backoff.died(4.5, 0.5)
    assert backoff.loops(4.6)
    backoff.started(20.0)
    assert backoff.loops(79.0)
    assert not backoff.loops(80.0)


def test_five_deaths_over_an_hour_are_no_loop() -> None:
    backoff = Backoff()
    for at in range(0, 5 * 600, 600):
        backoff.started(float(at))
        backoff.died(at + 61.0, 0.5)
    assert not backoff.loops(2600.0)
