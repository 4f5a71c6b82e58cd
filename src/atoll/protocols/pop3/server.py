"""protocols.pop3.server -- POP3 of a mailbox process: the sessions on its pop socket, one for each maildrop.

In     a listening Unix socket, the store, a verifier of tokens for "pop3".
Out    sessions; none of a revoked user, none idle for too long, never two on one maildrop.
Spec   [RFC 1939 §4] (exclusive access); PROCESSES 4, 6 (revocation within 1 s). A mailbox is open in one process
       only, so the lock is a dictionary of that process and dies with it.
Fails  nothing of one session reaches another.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from atoll.base.clock import Clock
from atoll.directory.client.model import Revocation
from atoll.directory.client.tokens import TokenVerifier
from atoll.protocols.pop3.limits import DEFAULT, Limits
from atoll.protocols.pop3.session import Mailboxes, Session
from atoll.runtime.peers import Peer
from atoll.runtime.sockets import serve_unix

CLOSING_SECONDS = 0.02
"""Between looks at who is still busy when we stop."""
SWEEP_SECONDS = 30.0


class Pop3Server:
    """All POP3 sessions of a mailbox process. admit: which peers may connect at all."""

    def __init__(
        self,
        store: Mailboxes,
        verifier: TokenVerifier,
        clock: Clock,
        *,
        admit: Callable[[Peer], bool],
        limits: Limits = DEFAULT,
    ) -> None:
        self.store = store
        self.verifier = verifier
        self.clock = clock
        self.limits = limits
        self.ended: Callable[[str], None] = lambda sid: None
        self._admit = admit
        self._sessions: set[Session] = set()
        self._locks: dict[bytes, Session] = {}
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None

    async def serve(self, sock: socket.socket) -> None:
        """Accept on a listening socket."""
        loop = asyncio.get_running_loop()
        # The Server is kept: uvloop closes one that is collected.
        self._servers.append(await serve_unix(lambda: Session(self), sock))
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)

    async def close(self, seconds: float = 0.0) -> None:
        """Accept no more and end all sessions; seconds: how long an answer that is on its way may take."""
        for server in self._servers:
            server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        deadline = self.clock.monotonic() + seconds
        while any(session.busy for session in self._sessions) and self.clock.monotonic() < deadline:
            for session in [one for one in self._sessions if not one.busy]:
                session.end()
            await asyncio.sleep(CLOSING_SECONDS)
        self.end_all()

    def __len__(self) -> int:
        return len(self._sessions)

    def sessions(self) -> list[Session]:
        """Those that are open now."""
        return list(self._sessions)

    def enter(self, session: Session, peer: Peer) -> bool:
        """A new connection; False: close it."""
        if not self._admit(peer):
            return False
        self._sessions.add(session)
        return True

    def lock(self, session: Session) -> bool:
        """Take the maildrop for a session; False: another one has it."""
        assert session.claims is not None
        return self._locks.setdefault(session.claims.mbx, session) is session

    def leave(self, session: Session) -> None:
        """A connection ended."""
        self._sessions.discard(session)
        if session.claims is not None:
            if self._locks.get(session.claims.mbx) is session:
                del self._locks[session.claims.mbx]
            self.ended(session.claims.sid)

    def revoke(self, revocation: Revocation) -> None:
        """End the sessions of a user that were opened under a lower credential epoch."""
        for session in list(self._sessions):
            claims = session.claims
            if claims is not None and claims.sub == revocation.user and claims.ep < revocation.epoch:
                session.end()

    def end_all(self) -> None:
        """End every session: the directory is away, and nobody would tell us of revocations (Backend.on_away)."""
        for session in list(self._sessions):
            session.end()

    def _sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        oldest = self.clock.monotonic() - self.limits.idle_seconds
        for session in list(self._sessions):
            if session.last_active < oldest and not session.busy:
                session.end()
