"""What the sessions of one frontend process share: the directory, the ways to transport, counters.

In     sessions that come and go. Out  the answers to "one too many?".
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from atoll.base.clock import Clock
from atoll.directory.client.signin import SignIn
from atoll.protocols.smtp.connection import Connection
from atoll.protocols.smtp.handoff import Handoff
from atoll.protocols.smtp.received import Stamp
from atoll.protocols.smtp.types import Limits
from atoll.runtime.metrics import Metrics
from atoll.runtime.peers import Peer

MINUTE = 60.0
MAX_PREFIXES = 10_000
STRESSED_SECONDS = 10.0
"""For a command, when there is little room for new connections [S031]."""


class Shared:
    """smtp_in, submit: transport's sockets. trust: is the process that listens there transport?"""

    def __init__(self, sign_in: SignIn, smtp_in: Path, submit: Path, tls: Callable[[], ssl.SSLContext], clock: Clock, *,
                 host: str, limits: Limits, metrics: Metrics, trust: Callable[[Peer], bool]) -> None:
        self.sign_in = sign_in
        self.tls = tls
        self.clock = clock
        self.host = host
        self.limits = limits
        self.metrics = metrics
        self.relay_hops = Handoff(smtp_in, host, trust)
        self.submit_hops = Handoff(submit, host, trust)
        self.stamp = Stamp()
        self.sessions: set[Connection] = set()
        self._rates: dict[str, tuple[float, int]] = {}
        """Prefix -> (start of its minute, messages in it)."""
        self.empty = asyncio.Event()
        self.sends = False
        """Does the island send to other domains?"""
        self.checked: Callable[[str], bool] = lambda ip: False
        """Is mail of this address checked, which takes as long as name servers do?"""
        self.crowded: Callable[[], bool] = lambda: False
        """Is there little room for new connections?"""

    def limits_now(self) -> Limits:
        """Of a new session: who comes when there is little room says something soon, as with Postfix under stress."""
        limits = self.limits
        if limits.command_seconds > STRESSED_SECONDS and self.crowded():
            return replace(limits, command_seconds=STRESSED_SECONDS)
        return limits

    def gone(self, session: Connection) -> None:
        """A session has ended."""
        self.sessions.discard(session)
        if not self.sessions:
            self.empty.set()

    def over_rate(self, prefix: str) -> bool:
        """Count one message of a client prefix; is it one too many this minute? Transport counts those of us all."""
        limit = self.limits.messages_per_minute
        if not limit:
            return False
        now = self.clock.monotonic()
        start, count = self._rates.get(prefix, (now, 0))
        if now - start >= MINUTE:
            start, count = now, 0
        if prefix not in self._rates and len(self._rates) >= MAX_PREFIXES:
            del self._rates[next(iter(self._rates))]  # the one that came first
        self._rates[prefix] = (start, count + 1)
        return count >= limit
