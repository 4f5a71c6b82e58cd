"""The front end of SMTP: what the sessions of one frontend process share.

In     connections of runtime.listen on ports 25, 587 and 465.
Out    messages handed to transport; nothing is kept here (no queue, no state that outlives a connection).
Spec   [RFC 5321], [RFC 6409]; PROCESSES 6, 7, 9.
Not    recipients' truth (directory), rules and routes (transport).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path

from atoll.base.clock import Clock
from atoll.directory.client.signin import SignIn
from atoll.formats.smtp import replies
from atoll.protocols.smtp.handoff import Handoff
from atoll.protocols.smtp.received import Stamp
from atoll.protocols.smtp.session import Session
from atoll.protocols.smtp.types import Kind, Limits
from atoll.runtime.admission import Ticket
from atoll.runtime.metrics import Metrics
from atoll.runtime.peers import Peer

SWEEP_SECONDS = 2.0


class SmtpFront:
    """Makes sessions and ends the silent ones.

    smtp_in, submit: transport's sockets. trust: is the process that listens there transport?
    """

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
        self.sessions: set[Session] = set()
        self.rates: dict[str, tuple[float, int]] = {}
        """Prefix -> (start of its minute, messages in it)."""
        self.empty = asyncio.Event()
        self._sweeper: asyncio.TimerHandle | None = None

    def relay(self, ticket: Ticket) -> Session:
        """A connection of port 25."""
        return self._session(ticket, Kind.RELAY, secure=False)

    def submission(self, ticket: Ticket) -> Session:
        """A connection of port 587."""
        return self._session(ticket, Kind.SUBMISSION, secure=False)

    def submissions(self, ticket: Ticket) -> Session:
        """A connection of port 465."""
        return self._session(ticket, Kind.SUBMISSIONS, secure=True)

    def _session(self, ticket: Ticket, kind: Kind, *, secure: bool) -> Session:
        if self._sweeper is None:
            self._sweep()
        return Session(self, ticket, kind, secure=secure)

    def gone(self, session: Session) -> None:
        """A session has ended."""
        self.sessions.discard(session)
        if not self.sessions:
            self.empty.set()

    def _sweep(self) -> None:
        """One timer for all sessions: a deadline is a number on each."""
        now = self.clock.monotonic()
        for session in list(self.sessions):
            if session.deadline <= now:
                session.end(replies.IDLE_TOO_LONG)
        if len(self.rates) > 10_000:
            self.rates = {key: rate for key, rate in self.rates.items() if now - rate[0] < 60}
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def over_rate(self, prefix: str) -> bool:
        """Count one message of a client prefix; is it one too many this minute?"""
        limit = self.limits.messages_per_minute
        if not limit:
            return False
        now = self.clock.monotonic()
        start, count = self.rates.get(prefix, (now, 0))
        if now - start >= 60:
            start, count = now, 0
        self.rates[prefix] = (start, count + 1)
        return count >= limit

    async def drain(self, seconds: float) -> None:
        """No new transactions: each session is told 421, the busy ones when their message is answered."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for session in list(self.sessions):
            session.stop()
        if self.sessions:
            self.empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.empty.wait(), seconds)
        for session in list(self.sessions):
            session.abort()
        self.relay_hops.close()
        self.submit_hops.close()
