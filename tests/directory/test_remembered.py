"""Verified credentials over a restart of the directory [PROCESSES 5, 11]."""

from __future__ import annotations

import os

import msgspec

from atoll.directory.client.model import ClientFacts
from atoll.directory.server.auth.remembered import ENTRIES, IDLE_SECONDS, MOST_SECONDS, Remembered
from atoll.directory.server.sessions import Grant, Sessions
from atoll.runtime import handover

WHO = bytes(16)


class StillClock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def now_ms(self) -> int:
        return int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now


def key(of: Remembered, password: bytes = b"right", epoch: int = 1) -> bytes:
    return of.key(WHO, epoch, "imap", b"main", password)


def test_the_next_process_goes_on_where_the_one_before_ended() -> None:
    clock = StillClock()
    first = Remembered(clock)
    first.add(key(first))
    second = Remembered(clock)
    assert key(second) != key(first)
    assert second.take(first.left()) == 1
    assert second.has(key(second))
    assert not second.has(key(second, b"wrong"))
    assert not second.has(key(second, epoch=2)), "a change of the account"


def test_times_go_on_and_are_never_longer_than_ours() -> None:
    clock = StillClock()
    first = Remembered(clock)
    first.add(key(first))
    clock.now += IDLE_SECONDS - 1
    second = Remembered(clock)
    second.take(first.left())
    clock.now += 2
    assert not second.has(key(second))
    liar = msgspec.msgpack.encode([bytes(32), [(key(first), clock.now + 10, clock.now + 2 * MOST_SECONDS)]])
    assert Remembered(clock).take(liar) == 0


def test_nothing_and_garbage_are_nothing() -> None:
    clock = StillClock()
    of = Remembered(clock)
    before = key(of)
    crowd = msgspec.msgpack.encode([bytes(32), [(b"", 1.0, 1.0)] * (ENTRIES + 1)])
    for left in (b"", b"\xc1", os.urandom(100), msgspec.msgpack.encode([b"short", []]), crowd):
        assert of.take(left) == 0
    assert key(of) == before


def test_live_sessions_go_over_and_those_of_a_process_that_is_gone_do_not_stay() -> None:
    first = Sessions(StillClock())
    for instance in ("mailbox-1.a", "mailbox-2.a"):
        first.key_for(instance)
    facts = ClientFacts(ip="192.0.2.1", port=4000)
    sids = [first.issue(backend, Grant(WHO, b"m" * 16, 7, "imap", "alice@example.test", "password", facts), 1).sid
            for backend in ("mailbox-1", "mailbox-2")]
    second = Sessions(StillClock())
    assert second.take(first.left()) == 2
    second.key_for("mailbox-1.a")
    second.key_for("mailbox-2.b")
    held = second.held_by("mailbox-1.a", sids[0])
    assert held is not None
    assert (held.user, held.epoch, held.facts) == (WHO, 7, facts)
    assert second.held_by("mailbox-2.a", sids[1]) is None
    assert [Sessions(StillClock()).take(left) for left in (b"", b"\xc1", msgspec.msgpack.encode([1]))] == [0, 0, 0]


def test_the_most_that_is_remembered_can_be_handed_over() -> None:
    clock = StillClock()
    of = Remembered(clock)
    for number in range(ENTRIES):
        of.add(number.to_bytes(32, "big"))
    assert len(of.left()) < handover.LIMIT
