"""A short one of what `make soak` does by the thousand: many deaths in one life of an island (streak.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import streak
from tests.faults.test_killed_by_hand import CONFIG
from tests.island import Island

pytestmark = pytest.mark.island


@pytest.fixture(scope="module")
def stopped() -> Iterator[Island]:
    island = Island(config=CONFIG)
    yield island
    island.close()


def test_each_role_dies_of_one_point_after_the_other(stopped: Island) -> None:
    ledger = streak.run(stopped, range(4, 9))
    assert ledger.wrong() == {}
    assert len(ledger.acknowledged) > 100


def test_each_role_dies_at_any_moment(stopped: Island) -> None:
    ledger = streak.by_hand(stopped, range(1))
    assert ledger.wrong() == {}
    assert len(ledger.acknowledged) > 20


def names(armed: str) -> list[str]:
    return [name.partition("=")[0] for name in armed.split(",")]


def test_what_is_armed_when() -> None:
    plans = [streak.kills.plan(seed) for seed in range(4, 6)]
    text, deaths = streak.armed(plans)
    first, second, *others = text.split(";")
    assert names(first) == ["lmtp.reply.before", "queue.commit.after", "directory.commit.before"]
    assert names(second) == ["mailbox.search.commit.before", "queue.reply.before"]
    assert set(others) == {"mailbox.dismount.before=kill@1"}
    assert deaths == {"mailbox-1": 2, "mailbox-2": 2, "transport": 2, "directory": 1}
