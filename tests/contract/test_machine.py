"""The store's contract as a state machine (STORE 6 and 8): writers, bad days, clients of several kinds.

SOAK=1 runs it long (EXAMPLES histories, 1,000 if not said), ATOLL_ENGINE=postgres on PostgreSQL; `make soak` does both.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from atoll.mailbox import Flag
from atoll.mailbox.tokens import OLDEST
from tests.mailbox.kit import ALICES, BOB, T0
from tests.postgres import chosen_engine

from .world import PATHS, World

SOAK = bool(os.environ.get("SOAK"))
paths = st.sampled_from(PATHS)
picks = st.lists(st.integers(0, 30), min_size=1, max_size=4)
few = st.integers(1, 4)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(chosen_engine())

    # -- writers ------------------------------------------------------------------------------------------------
    @rule(path=paths, count=few, key=st.sampled_from([b"", b"a", b"b"]), age=st.integers(0, 5))
    def deliver(self, path: str, count: int, key: bytes, age: int) -> None:
        self.world.deliver(path, count, key, T0 - age * 86_400_000)

    @rule(path=paths, which=picks, op=st.sampled_from("+-="), flags=st.sampled_from([1, 4, 8, 9, 5, 0]))
    def flag(self, path: str, which: list[int], op: str, flags: int) -> None:
        self.world.flag(path, self.world.some(path, which), op, flags)

    @rule(path=paths, which=picks, into=paths)
    def copy(self, path: str, which: list[int], into: str) -> None:
        self.world.copy(path, self.world.some(path, which), into)

    @rule(path=paths, which=picks, into=paths)
    def move(self, path: str, which: list[int], into: str) -> None:
        self.world.move(path, self.world.some(path, which), into)

    @rule(path=paths)
    def expunge(self, path: str) -> None:
        self.world.expunge(path)

    @rule(pick=st.integers(0, 20))
    def recover(self, pick: int) -> None:
        self.world.recover(pick)

    @rule(path=paths)
    def refused(self, path: str) -> None:
        self.world.refused_in_a_group(path)

    @rule(which=picks, on=st.booleans())
    def bob_reads(self, which: list[int], on: bool) -> None:
        bob = self.world.run(self.world.store.open(ALICES, BOB))
        self.world.run(bob.flags(bob.folder("INBOX"), self.world.some("INBOX", which), "+" if on else "-",
                                 Flag.SEEN))

    # -- bad days -----------------------------------------------------------------------------------------------
    @rule()
    def crash(self) -> None:
        self.world.crash()

    @rule(path=paths, after=st.booleans())
    def crash_in_commit(self, path: str, after: bool) -> None:
        self.world.crash_in_commit(path, after=after)

    @precondition(lambda self: len(self.world.backups) < 3)
    @rule()
    def back_up(self) -> None:
        self.world.back_up()

    @precondition(lambda self: bool(self.world.backups))
    @rule(pick=st.integers(0, 2))
    def restore(self, pick: int) -> None:
        self.world.restore(pick)

    @rule(path=paths)
    def trim(self, path: str) -> None:
        self.world.trim(path)

    @rule(hours=st.sampled_from([1, 30, 400]))
    def time_passes(self, hours: int) -> None:
        self.world.pass_time(hours)

    # -- clients ------------------------------------------------------------------------------------------------
    @rule(path=paths)
    def imap(self, path: str) -> None:
        self.world.imap[0].sync(self.world.access, path)

    @rule()
    def imap_of_bob(self) -> None:
        self.world.imap[1].sync(self.world.run(self.world.store.open(ALICES, BOB)), "INBOX")

    @rule(which=st.integers(0, 1), limit=few, lose=st.booleans())
    def page(self, which: int, limit: int, lose: bool) -> None:
        self.world.paged[which].step(self.world.access, limit, lose=lose)

    @rule(which=st.integers(0, 1), days=st.integers(-1, 5), uid=st.integers(0, 12))
    def change_window(self, which: int, days: int, uid: int) -> None:
        self.world.paged[which].edge = OLDEST if days < 0 else (T0 - days * 86_400_000, uid)

    @rule(limit=few, lose=st.booleans())
    def ids(self, limit: int, lose: bool) -> None:
        self.world.ids.step(self.world.access, limit, lose=lose)

    @rule(path=paths)
    def session(self, path: str) -> None:
        self.world.live(path)

    @invariant()
    def holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        try:
            self.world.sync_all()
        finally:
            self.world.close()


TestMachine = Machine.TestCase
if SOAK:
    TestMachine = pytest.mark.soak(TestMachine)
TestMachine.settings = settings(max_examples=int(os.environ.get("EXAMPLES", "1000")) if SOAK else 30,
                                stateful_step_count=100 if SOAK else 40, deadline=None,
                                suppress_health_check=list(HealthCheck))
