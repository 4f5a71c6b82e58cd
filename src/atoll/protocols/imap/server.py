"""protocols.imap.server -- IMAP of a mailbox process: the sessions on its imap socket.

In     listening Unix sockets (frontends; other mailbox processes), the store, the directory's verifier.
Out    sessions; none of a revoked user, none idle for more than the limit.
Spec   PROCESSES 4 (tokens, kernel-told peers), 6 (revocation within 1 s), 8; [RFC 9051 §5.4] autologout.
Fails  nothing of one session reaches another.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from atoll.base.clock import Clock
from atoll.content import Scanner
from atoll.directory.client.model import Revocation
from atoll.directory.client.tokens import TokenVerifier
from atoll.protocols.imap.command import Command
from atoll.protocols.imap.commands import COMMANDS
from atoll.protocols.imap.host import Mailboxes, People
from atoll.protocols.imap.limits import DEFAULT, SIGN_IN_SECONDS, Limits
from atoll.protocols.imap.session import Session
from atoll.runtime.peers import Peer
from atoll.runtime.sockets import serve_unix
from atoll.runtime.turns import Turns

SWEEP_SECONDS = 30.0
CLOSING_SECONDS = 0.02
"""Between looks at who is still busy when we stop."""
GOODBYE = "Please connect again"


class ImapServer:
    """All IMAP sessions of a mailbox process.

    admit: which peers are frontends or mailbox processes. backend: our name ("mailbox-1"). socket_of: where another
    mailbox process takes delegates (mbox-imap). ended: told the session id of each session that is over.
    turns: shared by all long work of the process. scanner: where messages that come in are looked at.
    """

    def __init__(self, store: Mailboxes, people: People, verifier: TokenVerifier, clock: Clock, *,
                 admit: Callable[[Peer], bool], backend: str = "", limits: Limits = DEFAULT,
                 socket_of: Callable[[str], Path] = Path, turns: Turns | None = None,
                 scanner: Scanner | None = None) -> None:
        self.store = store
        self.scanner = scanner or Scanner()
        self.people = people
        self.verifier = verifier
        self.clock = clock
        self.limits = limits
        self.backend = backend
        self._socket_of = socket_of
        self.commands: Mapping[str, Command] = COMMANDS
        self.ended: Callable[[str], None] = lambda sid: None
        self.held = 0
        self.turns = turns or Turns()
        self.starts = Turns()
        self._admit = admit
        self._sessions: set[Session] = set()
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None

    def socket_of(self, backend: str) -> Path:
        """Where another mailbox process takes delegates."""
        return self._socket_of(backend)

    async def serve(self, sock: socket.socket) -> None:
        """Accept on a listening socket."""
        loop = asyncio.get_running_loop()
        # The Server is kept: uvloop closes one that is collected.
        self._servers.append(await serve_unix(lambda: Session(self), sock))
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)

    async def close(self, seconds: float = 0.0) -> None:
        """Accept no more, say goodbye to everybody; seconds: how long a command that runs may take to be answered."""
        for server in self._servers:
            server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        deadline = self.clock.monotonic() + seconds
        while any(session.busy for session in self._sessions) and self.clock.monotonic() < deadline:
            for session in [one for one in self._sessions if not one.busy]:
                session.bye("UNAVAILABLE", GOODBYE)
            await asyncio.sleep(CLOSING_SECONDS)
        self.end_all()

    def end_all(self) -> None:
        """Say goodbye to everybody: we stop, or nobody would tell us of revocations (Backend.on_away)."""
        for session in list(self._sessions):
            session.bye("UNAVAILABLE", GOODBYE)

    def __len__(self) -> int:
        return len(self._sessions)

    def sessions(self) -> list[Session]:
        """Those that are open now."""
        return list(self._sessions)

    def literal_limit(self, head: bytes) -> tuple[int, int]:
        """How large the next literal, and the whole command that begins so, may be now."""
        literal, whole = self.limits.literal_limit(head)
        if self.held > self.limits.in_flight:  # small messages still come in
            return min(literal, self.limits.large), min(whole, 2 * self.limits.large)
        return literal, whole

    def enter(self, session: Session, peer: Peer) -> bool:
        """A new connection. Is it from a frontend or a mailbox process? Others need an administrator's token."""
        self._sessions.add(session)
        return self._admit(peer)

    def leave(self, session: Session) -> None:
        """A connection ended."""
        self._sessions.discard(session)
        if session.claims is not None:
            self.ended(session.claims.sid)

    def revoke(self, revocation: Revocation) -> None:
        """End the sessions of a user that were opened under a lower credential epoch."""
        for session in list(self._sessions):
            claims = session.claims
            if claims is not None and claims.sub == revocation.user and claims.ep < revocation.epoch:
                session.bye("UNAVAILABLE", "Please sign in again")

    def _sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        now = self.clock.monotonic()
        for session in list(self._sessions):
            patience = self.limits.idle_seconds if session.claims is not None else SIGN_IN_SECONDS
            if session.last_active < now - patience and not session.busy:
                session.bye("", "Idle for too long")

