"""Slowing down who guesses, without locking out whom they guess at (PROCESSES 5, ATTACKS A001).

In     failures and successes, by (user, client prefix), prefix, frontend.
Out    seconds to wait before the next try of this pair is looked at; 0: now.
Spec   A pair is slowed from its 10th failure in 10 minutes on: 1, 2, 4 ... 60 s. Another prefix is never slowed by it,
       so nobody can lock another person out. A prefix is slowed from its 100th failure on, except pairs that
       succeeded within a day. The same wrong password again counts a tenth: a forgotten device is no attack.
       A slowed pair is refused before anything is looked up: a remembered success answers no guesses.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Hashable

from atoll.base.clock import Clock

WINDOW = 600.0
PAIR_FREE = 10
PREFIX_FREE = 100
MOST_DELAY = 60.0
KNOWN_SECONDS = 86_400.0
ENTRIES = 50_000
GUESSES_KEPT = 10


def prefix_of(ip: str) -> str:
    """The part of a client address that one customer has: IPv4 /32, IPv6 /64; "" for what is not an address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


class _Count:
    __slots__ = ("failures", "guesses", "last", "not_before", "since")

    def __init__(self, now: float) -> None:
        self.failures = 0.0
        self.since = now
        self.last = now
        self.not_before = 0.0
        self.guesses: set[bytes] = set()


class SlowDown:
    """Counters in memory, bounded; they start at zero with the role."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: OrderedDict[Hashable, _Count] = OrderedDict()
        self._known: OrderedDict[Hashable, float] = OrderedDict()

    def delay(self, user: bytes, prefix: str) -> float:
        """Seconds until a try of this user from this prefix is looked at."""
        now = self._clock.monotonic()
        wait = self._wait((user, prefix), now)
        if self._known.get((user, prefix), 0.0) <= now:
            wait = max(wait, self._wait(prefix, now))
        return wait

    def _wait(self, key: Hashable, now: float) -> float:
        count = self._counts.get(key)
        return max(0.0, count.not_before - now) if count is not None else 0.0

    def failed(self, user: bytes, prefix: str, guess: bytes) -> int:
        """Count a failure; how many this pair has in its window. guess: a keyed digest of the wrong password."""
        now = self._clock.monotonic()
        pair = self._count((user, prefix), now)
        weight = 0.1 if guess in pair.guesses else 1.0
        if len(pair.guesses) < GUESSES_KEPT:
            pair.guesses.add(guess)
        self._add(pair, weight, PAIR_FREE, now)
        self._add(self._count(prefix, now), weight, PREFIX_FREE, now)
        return int(pair.failures)

    def succeeded(self, user: bytes, prefix: str) -> None:
        """This pair is a known one for a day. Its failures stay counted: an owner's success hides no guesser."""
        self._known.pop((user, prefix), None)
        if len(self._known) >= ENTRIES:
            self._known.popitem(last=False)
        self._known[(user, prefix)] = self._clock.monotonic() + KNOWN_SECONDS

    def _count(self, key: Hashable, now: float) -> _Count:
        count = self._counts.pop(key, None)
        if count is None or now - count.last > WINDOW:
            count = _Count(now)
        elif now - count.since > WINDOW:  # a lasting series: what is over ten minutes old fades by half
            count.failures /= 2
            count.since = now
            count.guesses.clear()
        if len(self._counts) >= ENTRIES:
            self._counts.popitem(last=False)
        self._counts[key] = count
        return count

    @staticmethod
    def _add(count: _Count, weight: float, free: int, now: float) -> None:
        count.failures += weight
        count.last = now
        if count.failures >= free:
            steps = (count.failures - free) * PAIR_FREE / free
            count.not_before = now + min(MOST_DELAY, 2.0 ** min(steps, 10))
