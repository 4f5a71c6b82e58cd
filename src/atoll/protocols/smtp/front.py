"""The front end of SMTP: what the sessions of one frontend process share.

In     connections of runtime.listen on ports 25, 587 and 465.
Out    messages handed to transport; nothing is kept here (no queue, no state that outlives a connection).
Spec   [RFC 5321], [RFC 6409]; PROCESSES 6, 7, 9.
Not    recipients' truth (directory), rules and routes (transport).
"""

from __future__ import annotations

import asyncio
import contextlib

from atoll.formats.smtp import replies
from atoll.protocols.smtp.session import Session
from atoll.protocols.smtp.shared import Shared
from atoll.protocols.smtp.types import Kind
from atoll.runtime.admission import Ticket

SWEEP_SECONDS = 2.0


class SmtpFront(Shared):
    """Makes sessions and ends the silent ones."""

    _sweeper: asyncio.TimerHandle | None = None

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

    def _sweep(self) -> None:
        """One timer for all sessions: a deadline is a number on each."""
        now = self.clock.monotonic()
        for session in list(self.sessions):
            if session.deadline <= now:
                if session.over:  # told so, and its last words are still not read
                    session.abort()
                session.end(replies.IDLE_TOO_LONG)
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

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
