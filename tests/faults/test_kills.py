"""SIGKILL at every failpoint of a whole island under load: nothing acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.faults import kills
from tests.faults.ledger import Ledger, letter
from tests.island import Island

pytestmark = pytest.mark.island
SEEDS = range(20)


@pytest.fixture(scope="module")
def stopped() -> Iterator[Island]:
    """One island for all seeds: each goes on with the databases that the deaths before it left."""
    island = Island(config='[admission]\ntrusted = ["127.0.0.0/8"]\n[processes]\ndrain_seconds = 0\n')
    yield island
    island.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_acknowledged_is_lost(stopped: Island, seed: int) -> None:
    plan = kills.plan(seed)
    try:
        assert kills.run(stopped, plan).wrong() == {}, plan
    except BaseException:
        stopped.crash()  # the next seed starts it
        raise


def test_the_seeds_of_every_run_pass_every_point() -> None:
    assert {name for seed in SEEDS for name in kills.plan(seed).armed} == {
        *kills.MAILBOX, *kills.TRANSPORT, *kills.DIRECTORY, "mailbox.dismount.before"}


def test_the_ledger_tells_what_is_wrong() -> None:
    ledger = Ledger()
    one, two, three = (letter(f"n{n}", random.Random(n)) for n in range(3))
    ledger.attempt("n0", ("alice", "bob"))
    ledger.acknowledge("n0", ("alice", "bob"))
    ledger.attempt("n1", ("alice",))
    ledger.read("alice", one)
    assert ledger.wrong() == {"lost": [("n0", "bob")]}
    ledger.read("bob", one)
    ledger.read("alice", two)
    assert ledger.wrong() == {}
    ledger.read("alice", two)
    ledger.read("alice", three[:-3] + b"x\r\n")
    assert set(ledger.wrong()) == {"duplicated", "unexpected", "damaged"}
