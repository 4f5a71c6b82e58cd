"""Who may come in: caps per prefix, room for those who signed in."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from atoll.runtime.admission import Admission, Rates, Ticket, prefix_of, sessions_for


@dataclass
class Clock:
    """Time that a test moves."""

    at: float = 0.0

    def now_ms(self) -> int:
        return int(self.at * 1000)

    def monotonic(self) -> float:
        return self.at


def test_prefixes() -> None:
    assert prefix_of("192.0.2.7") == "192.0.2.7"
    assert prefix_of("2001:db8:1:2:3:4:5:6") == prefix_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert prefix_of("2001:db8:1:3::9") != prefix_of("2001:db8:1:2::9")
    assert prefix_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert prefix_of("fe80::1%eth0") == "fe80::/64"


def test_open_and_not_signed_in() -> None:
    admission = Admission(Clock(), 1000, Rates(open_unauthenticated=3, new_per_second=1000, burst=1000))
    tickets = [admission.enter("192.0.2.1") for _ in range(3)]
    assert all(tickets)
    assert admission.enter("192.0.2.1") is None
    assert admission.enter("192.0.2.2") is not None
    assert tickets[0] is not None
    tickets[0].signed_in()
    assert admission.enter("192.0.2.1") is not None
    assert admission.enter("192.0.2.1") is None
    assert tickets[1] is not None
    tickets[1].close()
    assert admission.enter("192.0.2.1") is not None


def test_rate() -> None:
    clock = Clock()
    admission = Admission(clock, 1000, Rates(open_unauthenticated=1000, new_per_second=2, burst=4))
    assert [admission.enter("192.0.2.1") is not None for _ in range(6)] == [True] * 4 + [False] * 2
    clock.at += 1
    assert [admission.enter("192.0.2.1") is not None for _ in range(3)] == [True, True, False]


def test_trusted_networks_are_not_counted() -> None:
    admission = Admission(Clock(), 1000, Rates(1, 1, 1, ("192.0.2.0/24",)))
    assert all(admission.enter("192.0.2.9") for _ in range(20))
    assert admission.enter("198.51.100.1") is not None
    assert admission.enter("198.51.100.1") is None


def test_those_not_signed_in_make_room_the_oldest_first() -> None:
    admission = Admission(Clock(), 10, Rates(1000, 1000, 1000))
    gone: list[int] = []
    for number in range(8):
        ticket = admission.enter(f"192.0.2.{number}")
        assert ticket is not None
        ticket.drop = lambda number=number: gone.append(number)
        if number in (0, 2):
            ticket.signed_in()
    assert gone == []
    for number in range(4):
        assert admission.enter(f"198.51.100.{number}") is not None
    assert gone == [1, 3, 4, 5]
    assert admission.open == 8
    assert admission.crowded


def test_it_is_crowded_from_four_fifths_on() -> None:
    admission = Admission(Clock(), 10, Rates(1000, 1000, 1000))
    tickets = [admission.enter(f"192.0.2.{number}") for number in range(8)]
    assert admission.crowded
    assert tickets[0] is not None
    tickets[0].close()
    assert not admission.crowded


def test_full_of_sessions_is_full() -> None:
    admission = Admission(Clock(), 4, Rates(1000, 1000, 1000))
    for number in range(4):
        ticket = admission.enter(f"192.0.2.{number}")
        assert ticket is not None
        ticket.signed_in()
    assert admission.enter("192.0.2.9") is None


def test_a_flood_of_prefixes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.runtime.admission.MAX_PREFIXES", 50)
    admission = Admission(Clock(), 10_000, Rates(10, 1, 1))
    for number in range(1000):
        ticket = admission.enter(f"10.0.{number // 250}.{number % 250}")
        if ticket is not None:
            ticket.close()
    assert len(admission._prefixes) <= 51


def test_announced_sessions() -> None:
    assert sessions_for(65536) == 32640
    assert sessions_for(100) == 1


class Counters(RuleBasedStateMachine):
    """Whatever happens in whatever order, the counters are those of the tickets that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.admission = Admission(self.clock, 12, Rates(3, 5, 8))
        self.waiting: list[Ticket] = []
        self.sessions: list[Ticket] = []

    @rule(address=st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]))
    def enter(self, address: str) -> None:
        ticket = self.admission.enter(address)
        if ticket is not None:
            ticket.drop = lambda: self.waiting.remove(ticket)
            self.waiting.append(ticket)

    @rule(data=st.data())
    def sign_in(self, data: st.DataObject) -> None:
        if self.waiting:
            ticket = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
            ticket.signed_in()
            ticket.signed_in()
            self.sessions.append(ticket)

    @rule(data=st.data(), session=st.booleans())
    def close(self, data: st.DataObject, session: bool) -> None:
        tickets = self.sessions if session else self.waiting
        if tickets:
            ticket = tickets.pop(data.draw(st.integers(0, len(tickets) - 1)))
            ticket.close()
            ticket.close()

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.clock.at += seconds

    @invariant()
    def counters_are_true(self) -> None:
        assert self.admission.open == len(self.waiting) + len(self.sessions) <= 12
        for key, prefix in self.admission._prefixes.items():
            assert prefix.waiting == sum(ticket.prefix == key for ticket in self.waiting) <= 3


Counters.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestCounters = Counters.TestCase


def test_an_ipv4_client_of_a_socket_of_both_families_is_itself() -> None:
    admission = Admission(Clock(), 100, Rates(burst=1, new_per_second=0.001, trusted=("192.0.2.0/24",)))
    tickets = [admission.enter("::ffff:192.0.2.7", 25) for _ in range(5)]
    assert [ticket.ip for ticket in tickets if ticket is not None] == ["192.0.2.7"] * 5
    assert admission.enter("::ffff:198.51.100.1") is not None
    assert admission.enter("198.51.100.1") is None
