"""runtime.admission -- who may come in: caps per network prefix, before any handshake (PROCESSES 9).

In     addresses and a clock. Out  a Ticket for each connection that may stay, None for one to close at once.
Spec   PROCESSES 9: a prefix is an IPv4 address or an IPv6 /64; 50 open and not signed in, 20 new a second with a burst
       of 100; from 80 % of all sessions on, those not signed in go first, the oldest before the others.
Fails  never. Memory is bounded: a prefix is forgotten when nothing of it is open and its bucket is full again.
Not    sockets (runtime.listen), wrong passwords (the directory counts those).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from atoll.base.clock import Clock

OPEN_UNAUTHENTICATED = 50
NEW_PER_SECOND = 20.0
BURST = 100.0
CROWDED = 0.8
SPARE_DESCRIPTORS = 256
DESCRIPTORS_PER_SESSION = 2
MAX_PREFIXES = 100_000


def sessions_for(descriptors: int) -> int:
    """How many sessions a frontend with this many descriptors announces."""
    return max((descriptors - SPARE_DESCRIPTORS) // DESCRIPTORS_PER_SESSION, 1)


def unmapped(ip: str) -> str:
    """The IPv4 address itself, where a socket of both families says ::ffff:192.0.2.1."""
    if not ip.startswith("::ffff:"):
        return ip
    mapped = ipaddress.IPv6Address(ip.partition("%")[0]).ipv4_mapped
    return ip if mapped is None else str(mapped)


def prefix_of(ip: str) -> str:
    """The network that is counted: the address, or its /64; mapped IPv4 addresses count as IPv4."""
    ip = unmapped(ip)
    if ":" not in ip:
        return ip
    address = ipaddress.IPv6Address(ip.partition("%")[0])
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64)) + "/64"


def among(ip: str, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Is this client's address in one of them? An IPv4 address is itself however the socket writes it."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any((mapped or address) in network for network in networks)


@dataclass(slots=True)
class _Prefix:
    waiting: int
    tokens: float
    at: float


@dataclass(frozen=True, slots=True)
class Rates:
    """The numbers of PROCESSES 9; configuration may set others. trusted: networks that are not counted."""

    open_unauthenticated: int = OPEN_UNAUTHENTICATED
    new_per_second: float = NEW_PER_SECOND
    burst: float = BURST
    trusted: tuple[str, ...] = ()


DEFAULT = Rates()


class Ticket:
    """One connection's place. Its owner says signed_in() once, and close() when it ends; both may be said twice."""

    __slots__ = ("_admission", "_state", "drop", "ip", "port", "prefix")

    def __init__(self, admission: Admission, ip: str, port: int, prefix: str) -> None:
        self._admission = admission
        self._state = 0  # 0 waits, 1 signed in, 2 closed
        self.ip = ip
        self.port = port
        self.prefix = prefix
        self.drop: Callable[[], object] | None = None
        """Ends the connection; called when room is needed and it has not signed in."""

    def signed_in(self) -> None:
        """It is a session now: it counts for its prefix no longer and is not dropped for others."""
        if self._state == 0:
            self._state = 1
            self.drop = None
            self._admission._leave_waiting(self)

    def close(self) -> None:
        """The connection is over."""
        if self._state == 0:
            self._admission._leave_waiting(self)
        if self._state != 2:
            self._state = 2
            self.drop = None
            self._admission._open -= 1


class Admission:
    """The counters of one frontend process, shared by its protocols. max_sessions: see sessions_for()."""

    def __init__(self, clock: Clock, max_sessions: int, rates: Rates = DEFAULT) -> None:
        self._clock = clock
        self._max = max_sessions
        self._rates = rates
        self._open = 0
        self._prefixes: dict[str, _Prefix] = {}
        self._waiting: dict[Ticket, None] = {}  # in order of arrival
        self._trusted = [ipaddress.ip_network(network) for network in rates.trusted]

    @property
    def open(self) -> int:
        """Connections that hold a ticket."""
        return self._open

    @property
    def crowded(self) -> bool:
        """Whether those not signed in make room for others: they have less time now [S031]."""
        return self._open >= self._max * CROWDED

    def enter(self, ip: str, port: int = 0) -> Ticket | None:
        """A place for a new connection, or None: close it now, without a word."""
        ip = unmapped(ip)
        key = prefix_of(ip)
        prefix = self._refilled(key)
        if not self._is_trusted(ip):
            if prefix.tokens < 1 or prefix.waiting >= self._rates.open_unauthenticated:
                return None
            prefix.tokens -= 1
        if self.crowded:
            self._make_room()
        if self._open >= self._max:
            return None
        ticket = Ticket(self, ip, port, key)
        prefix.waiting += 1
        self._open += 1
        self._waiting[ticket] = None
        return ticket

    def _is_trusted(self, ip: str) -> bool:
        if not self._trusted:
            return False
        address = ipaddress.ip_address(ip.partition("%")[0])
        return any(address in network for network in self._trusted)

    def _refilled(self, key: str) -> _Prefix:
        now = self._clock.monotonic()
        prefix = self._prefixes.get(key)
        if prefix is None:
            if len(self._prefixes) >= MAX_PREFIXES:
                self._forget(now)
            prefix = self._prefixes[key] = _Prefix(0, self._rates.burst, now)
        else:
            grown = prefix.tokens + (now - prefix.at) * self._rates.new_per_second
            prefix.tokens, prefix.at = min(self._rates.burst, grown), now
        return prefix

    def _forget(self, now: float) -> None:
        full = self._rates.burst / self._rates.new_per_second
        for key in [key for key, one in self._prefixes.items() if not one.waiting and now - one.at >= full]:
            del self._prefixes[key]
        if len(self._prefixes) >= MAX_PREFIXES:  # a flood of addresses: forget the oldest that has nothing open
            for key in [key for key, one in self._prefixes.items() if not one.waiting][: MAX_PREFIXES // 10]:
                del self._prefixes[key]

    def _make_room(self) -> None:
        oldest = next(iter(self._waiting), None)
        if oldest is not None:
            drop = oldest.drop
            oldest.close()
            if drop is not None:
                drop()

    def _leave_waiting(self, ticket: Ticket) -> None:
        if self._waiting.pop(ticket, 0) is None:
            prefix = self._prefixes.get(ticket.prefix)
            if prefix is not None:
                prefix.waiting -= 1
