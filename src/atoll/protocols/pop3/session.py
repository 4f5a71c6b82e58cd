"""protocols.pop3.session -- one signed-in client at the mailbox process.

In     bytes of a connection from a frontend. Out  answers.
Spec   [RFC 1939] (states), [RFC 2449] (CAPA), [RFC 3206]; PROCESSES 4 (token, kernel-told peer).
Fails  StoreError and Gone are answers; anything else is -ERR [SYS/TEMP] and a log line.
Not    sign-in with passwords (proxy), exclusiveness (server).

No task waits with a session. Answers of many lines are iterators that are pulled while the client reads and the
slice lasts; a task runs only for the sign-in and for QUIT.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol, cast

from atoll.base.clock import Clock
from atoll.base.failpoints import FAILPOINTS
from atoll.base.ids import MailboxId, UserId
from atoll.directory.client.tokens import BadToken, Claims, TokenVerifier
from atoll.mailbox import Access, StoreError
from atoll.protocols.pop3.limits import BAD_COMMANDS, LINE, Limits
from atoll.protocols.pop3.maildrop import Gone, Maildrop, open_maildrop
from atoll.protocols.pop3.wire.answers import TERMINATOR, Stuffer, err, ok
from atoll.protocols.pop3.wire.lines import Command, Reader, TooLong, number, parse
from atoll.runtime.peers import Peer, peer_of

CAPABILITIES = "TOP UIDL PIPELINING RESP-CODES AUTH-RESP-CODE EXPIRE_NEVER IMPLEMENTATION_Atoll USER SASL_PLAIN_LOGIN"
"""As the frontend says them over TLS [RFC 2449 §6]: nobody signs in without."""
_LISTED = 200

_log = logging.getLogger("atoll.pop3")


class Refusal(Exception):
    """An -ERR: the text may be shown."""


class Mailboxes(Protocol):
    """What POP3 needs of mailbox.Store."""

    async def open(self, mailbox: MailboxId, who: UserId, *, scope: str = "full") -> Access: ...


class Host(Protocol):
    """What a session needs of the process it lives in (server.Pop3Server)."""

    store: Mailboxes
    verifier: TokenVerifier
    clock: Clock
    limits: Limits

    def enter(self, session: Session, peer: Peer) -> bool:
        """A new connection; False: close it."""

    def lock(self, session: Session) -> bool:
        """Take the maildrop; False: another session has it."""

    def leave(self, session: Session) -> None:
        """A connection ended."""


class Session(asyncio.Protocol):
    """One connection from a frontend."""

    __slots__ = ("_bad", "_gone", "_more", "_paused", "_reader", "_server", "_soon", "_task", "_updating", "claims",
                 "drop", "last_active", "transport")  # fmt: skip

    def __init__(self, server: Host) -> None:
        self._server = server
        self._reader = Reader(LINE)
        self._more: Iterator[bytes] | None = None
        self._paused = False
        self._soon: asyncio.Handle | None = None
        self._task: asyncio.Task[None] | None = None
        self._bad = 0
        self._updating = False
        self._gone = False
        self.claims: Claims | None = None
        self.drop: Maildrop | None = None
        self.last_active = 0.0
        self.transport: asyncio.Transport

    # connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        if not self._server.enter(self, peer_of(transport)):
            self.transport.abort()
            return
        self.last_active = self._server.clock.monotonic()
        self.transport.write(ok("Atoll mailbox ready"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._more = None
        if self._soon is not None:
            self._soon.cancel()
        self._gone = True
        if self._updating:  # a client that says QUIT need not wait for the answer: what it deleted goes
            return
        if self._task is not None:
            self._task.cancel()
        self._server.leave(self)

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self.last_active = self._server.clock.monotonic()
        if len(self._reader) > self._server.limits.read_ahead:
            self.transport.pause_reading()
        self._work()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._work()

    @property
    def busy(self) -> bool:
        """Is an answer on its way?"""
        return self._task is not None or self._more is not None

    def end(self) -> None:
        """Revoked, idle, or the process stops: nothing is deleted [RFC 1939 §3]."""
        self._more = None
        self.transport.close()

    # the queue of commands

    def _work(self) -> None:
        """Answer what can be answered until the client must read, a task runs, or the slice is over."""
        if self._soon is not None:
            return
        clock = self._server.clock
        until = clock.monotonic() + self._server.limits.slice_seconds
        while self._task is None and not self._paused and not self.transport.is_closing():
            if self._more is not None:
                self._pull()
            elif not self._next():
                break
            if clock.monotonic() > until:
                self._soon = asyncio.get_running_loop().call_soon(self._later)
                return
        if len(self._reader) <= self._server.limits.read_ahead and not self.transport.is_closing():
            self.transport.resume_reading()

    def _later(self) -> None:
        self._soon = None
        self._work()

    def _pull(self) -> None:
        assert self._more is not None
        try:
            self.transport.write(next(self._more))
        except StopIteration:
            self._more = None
        except Exception:
            # The answer is half out: only the end of the connection tells the client so.
            _log.exception("an answer broke off")
            self.end()

    def _next(self) -> bool:
        """Take one command; False: there is none."""
        try:
            line = self._reader.next()
        except TooLong:
            self.transport.write(err("Line too long"))
            self.transport.close()
            return False
        if line is None:
            return False
        command = parse(line)
        run = (SIGNED_IN if self.drop is not None else BEFORE).get(command.verb)
        try:
            if run is None:
                raise Refusal("Unknown command")
            run(self, command)
        except Refusal as refusal:
            self._refuse(str(refusal))
        except Gone:
            self.transport.write(err("The message is gone"))
        except StoreError as error:
            self.transport.write(err(error.public, "SYS/TEMP" if error.temporary else "SYS/PERM"))
        except Exception:
            _log.exception("a command failed", extra={"f": {"verb": command.verb}})
            self.transport.write(err("Internal error", "SYS/TEMP"))
        return True

    def _refuse(self, text: str) -> None:
        self._bad += 1
        self.transport.write(err(text))
        if self._bad >= BAD_COMMANDS:
            self.transport.close()

    def _ok(self, text: str = "") -> None:
        self.transport.write(ok(text))

    def _start(self, work: Callable[[], object]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(work))

    async def _run(self, work: Callable[[], object]) -> None:
        try:
            result = work()
            if asyncio.iscoroutine(result):
                await result
        finally:
            self._task = None
        self._work()

    # AUTHORIZATION

    def _auth(self, command: Command) -> None:
        words = command.words()
        if len(words) != 2 or words[0].upper() != b"ATOLL":
            raise Refusal("Use AUTH ATOLL")
        self._start(lambda: self._open(words[1]))

    async def _open(self, token: bytes) -> None:
        try:
            claims = self._server.verifier.verify(token, peer_of(self.transport))
        except BadToken as bad:
            _log.warning("token refused", extra={"f": {"reason": str(bad)}})
            self.transport.write(err("Token refused", "AUTH"))
            self.transport.close()
            return
        self.claims = claims
        if not self._server.lock(self):
            self.transport.write(err("The maildrop is in use by another session", "IN-USE"))
            self.transport.close()
            return
        try:
            access = await self._server.store.open(MailboxId(claims.mbx), UserId(claims.sub), scope=claims.scp)
            drop = await open_maildrop(access, self._server.limits)
        except StoreError as error:
            self.transport.write(err(error.public, "SYS/TEMP" if error.temporary else "SYS/PERM"))
            self.transport.close()
            return
        except Exception:
            _log.exception("a maildrop could not be opened")
            self.transport.write(err("The maildrop cannot be opened", "SYS/TEMP"))
            self.transport.close()
            return
        self.drop = drop
        messages, octets = drop.stat()
        self._ok(f"{messages} messages, {octets} octets")

    # TRANSACTION

    def _drop(self) -> Maildrop:
        assert self.drop is not None
        return self.drop

    def _message(self, word: bytes) -> int:
        at = number(word)
        if at is None or not self._drop().has(at):
            raise Refusal("No such message")
        return at

    def _capa(self, command: Command) -> None:
        listed = "\r\n".join(CAPABILITIES.split()).replace("_", " ")
        self.transport.write(ok("Capabilities follow") + listed.encode("ascii") + b"\r\n" + TERMINATOR)

    def _noop(self, command: Command) -> None:
        self._ok()

    def _stat(self, command: Command) -> None:
        messages, octets = self._drop().stat()
        self._ok(f"{messages} {octets}")

    def _list(self, command: Command) -> None:
        self._listing(command, lambda at: str(self._drop().size(at)))

    def _uidl(self, command: Command) -> None:
        self._listing(command, self._drop().unique_id)

    def _listing(self, command: Command, value: Callable[[int], str]) -> None:
        words = command.words()
        if len(words) > 1:
            raise Refusal("At most one message number")
        if words:
            at = self._message(words[0])
            self._ok(f"{at} {value(at)}")
            return
        self._ok(f"{self._drop().stat()[0]} messages")
        self._more = _lines(self._drop().numbers(), value)

    def _retr(self, command: Command) -> None:
        words = command.words()
        if len(words) != 1:
            raise Refusal("RETR takes one message number")
        at = self._message(words[0])
        self._send(f"{self._drop().size(at)} octets", self._drop().pieces(at))

    def _top(self, command: Command) -> None:
        words = command.words()
        lines = number(words[1]) if len(words) == 2 else None
        if lines is None:
            raise Refusal("TOP takes a message number and a number of lines")
        self._send("Top of message follows", self._drop().top(self._message(words[0]), lines))

    def _send(self, text: str, pieces: Iterator[bytes]) -> None:
        """Answer with message octets. The first piece is read before +OK is said."""
        stuffer = Stuffer()
        first = next(pieces, b"")
        lead = ok(text) + stuffer.feed(first)
        second = next(pieces, None)
        if second is None:
            self.transport.write(lead + stuffer.end())
            return
        self.transport.write(lead)
        self._more = _stuffed(stuffer, second, pieces)

    def _dele(self, command: Command) -> None:
        words = command.words()
        if len(words) != 1:
            raise Refusal("DELE takes one message number")
        at = self._message(words[0])
        self._drop().delete(at)
        self._ok("Deleted at QUIT")

    def _rset(self, command: Command) -> None:
        self._drop().reset()
        self._ok()

    def _quit(self, command: Command) -> None:
        if self.drop is None:
            self._ok("Bye")
            self.transport.close()
        else:
            self._updating = True
            self._start(self._update)

    async def _update(self) -> None:
        try:
            done = await self._drop().update()
        except Exception:
            _log.exception("the maildrop could not be updated")
            done = False
        finally:
            self._updating = False
            if self._gone:
                self._server.leave(self)
        if self._gone:
            return
        if FAILPOINTS.active:
            FAILPOINTS.hit("pop3.reply.before")
        # [RFC 1939 §6] some of the marked messages may be gone, the others are not: the client sees them next time.
        self.transport.write(ok("Bye") if done else err("Some deleted messages were not removed", "SYS/TEMP"))
        self.transport.close()


def _lines(numbers: Iterator[int], value: Callable[[int], str]) -> Iterator[bytes]:
    while chunk := list(islice(numbers, _LISTED)):
        yield "".join([f"{at} {value(at)}\r\n" for at in chunk]).encode("ascii")
    yield TERMINATOR


def _stuffed(stuffer: Stuffer, second: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield stuffer.feed(second)
    for piece in pieces:
        yield stuffer.feed(piece)
    yield stuffer.end()


Run = Callable[[Session, Command], None]
BEFORE: dict[str, Run] = {"AUTH": Session._auth, "CAPA": Session._capa, "QUIT": Session._quit}
SIGNED_IN: dict[str, Run] = {
    "CAPA": Session._capa,
    "DELE": Session._dele,
    "LIST": Session._list,
    "NOOP": Session._noop,
    "QUIT": Session._quit,
    "RETR": Session._retr,
    "RSET": Session._rset,
    "STAT": Session._stat,
    "TOP": Session._top,
    "UIDL": Session._uidl,
}
