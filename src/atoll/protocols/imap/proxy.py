"""protocols.imap.proxy -- the frontend's IMAP: greeting, TLS, sign-in, then bytes both ways.

In     connections of runtime.listen; the directory's sign-in; the path of a mailbox process's socket.
Out    before sign-in: CAPABILITY, ID, NOOP, STARTTLS, LOGIN, AUTHENTICATE, LOGOUT. After it: a splice without a parse,
       with flow control, as two protocol objects and no task.
Spec   PROCESSES 6 (hand-over with the client's own tag), 9 (times); [RFC 9051 §6.1, §6.2], [RFC 4959] SASL-IR.
Fails  a mailbox process that goes: "* BYE [UNAVAILABLE]" where a client can read it, else only the end.
Not    mailboxes, tokens' content, passwords' truth: this module reaches no store and no directory server.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import cast

from atoll.directory.client.model import ClientFacts, Refused, SignedIn
from atoll.directory.client.signin import SignIn
from atoll.formats import sasl
from atoll.formats.sasl import Credentials, NotSasl
from atoll.protocols.imap.handover import UNAVAILABLE, BackendEnd, ClientEnd, Leaving
from atoll.protocols.imap.limits import (
    HANDSHAKE_SECONDS,
    PRE_AUTH_BAD_COMMANDS,
    PRE_AUTH_DEPTH,
    PRE_AUTH_LINE,
    SIGN_IN_SECONDS,
)
from atoll.protocols.imap.wire import client_id
from atoll.protocols.imap.wire.cursor import Cursor
from atoll.protocols.imap.wire.errors import Bad
from atoll.protocols.imap.wire.reader import Broken, Command, Continue, Event, Line, Reader, TooBig
from atoll.protocols.imap.wire.response import status
from atoll.runtime.admission import Ticket
from atoll.runtime.peers import Peer, peer_of

HOLD_SECONDS = 20.0
"""How long a sign-in waits for a mailbox process that is starting (ISLANDS 9)."""
MAX_DELAY = 5.0
LINGER_SECONDS = 1.0
CAPABILITIES = "IMAP4rev1 IMAP4rev2 SASL-IR ID LITERAL- ENABLE"
_WITH_LITERALS = (b"LOGIN", b"AUTHENTICATE")
_CODES = {"credentials": "AUTHENTICATIONFAILED", "temporary": "UNAVAILABLE", "disabled": "AUTHENTICATIONFAILED",
          "protocol": "AUTHORIZATIONFAILED", "authorization": "AUTHORIZATIONFAILED", "slow": "LIMIT"}

_log = logging.getLogger("atoll.imap.proxy")


def literal_limit(head: bytes) -> tuple[int, int]:
    """Before sign-in a literal may stand in LOGIN and AUTHENTICATE only."""
    words = head[:128].split(b" ", 2)
    allowed = len(words) > 1 and words[1].upper() in _WITH_LITERALS
    return (PRE_AUTH_LINE, 2 * PRE_AUTH_LINE) if allowed else (-1, -1)


class ImapProxy:
    """What the IMAP connections of one frontend share.

    socket_of: the path of a mailbox process's IMAP socket by its name ("mailbox-1"). tls: the context of now.
    trust: is the process that listens there what it should be?
    """

    def __init__(self, sign_in: SignIn, socket_of: Callable[[str], Path], tls: Callable[[], ssl.SSLContext], *,
                 trust: Callable[[Peer], bool] = lambda _: True) -> None:
        self.sign_in = sign_in
        self.socket_of = socket_of
        self.tls = tls
        self.trust = trust
        self.clients: set[Leaving] = set()

    def clear(self, ticket: Ticket) -> PreAuth:
        """A connection of port 143."""
        return PreAuth(self, ticket, secure=False)

    def secure(self, ticket: Ticket) -> PreAuth:
        """A connection of port 993."""
        return PreAuth(self, ticket, secure=True)

    async def drain(self, seconds: float) -> None:
        """Say BYE to everybody, spread over that time."""
        clients = list(self.clients)
        for number, client in enumerate(clients):
            client.bye()
            if seconds and number % 50 == 49:
                await asyncio.sleep(seconds * 50 / len(clients))


class PreAuth(asyncio.Protocol):
    """One client before sign-in. Answers at once; one task at a time, only while a sign-in or STARTTLS is under way."""

    __slots__ = ("_bad", "_deaf", "_mechanism", "_proxy", "_reader", "_secure", "_tag", "_task", "_ticket", "_timer",
                 "_user", "transport")

    def __init__(self, proxy: ImapProxy, ticket: Ticket, *, secure: bool) -> None:
        self._proxy = proxy
        self._ticket = ticket
        self._secure = secure
        self._reader = Reader(PRE_AUTH_LINE, literal_limit)
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._bad = 0
        self._deaf = False
        self._tag = b""         # of an AUTHENTICATE that waits for a line
        self._mechanism = ""
        self._user = b""
        self.transport: asyncio.Transport

    # connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's TLS transport is none by class
        self._ticket.drop = self.transport.abort
        self._proxy.clients.add(self)
        self._timer = asyncio.get_running_loop().call_later(SIGN_IN_SECONDS, self._too_slow)
        self.transport.write(f"* OK [CAPABILITY {self._capabilities()}] Atoll IMAP ready\r\n".encode("ascii"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._ticket.close()
        self._forget()
        if self._task is not None:
            self._task.cancel()

    def _forget(self) -> None:
        self._proxy.clients.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._task is None:
            self._end(b"* BYE Sign in sooner\r\n")
        else:  # a directory that is slow is not the client's fault
            self._timer = asyncio.get_running_loop().call_later(SIGN_IN_SECONDS, self._too_slow)

    def bye(self) -> None:
        """The frontend stops."""
        self._end(UNAVAILABLE)

    def _end(self, last: bytes) -> None:
        self.transport.write(last)
        self.transport.close()

    def _hang_up(self, last: bytes) -> None:
        """End in mid-sentence: closing while the client still sends would lose our last words."""
        self.transport.write(last)
        self._deaf = True
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.close)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._reader.feed(data)
        self._work()
        if self._task is not None and len(self._reader) > PRE_AUTH_LINE:
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        self.transport.abort()  # answers are small here: who lets so many lie reads none

    def eof_received(self) -> bool:
        return False

    def _work(self) -> None:
        while self._task is None and not self._deaf and not self.transport.is_closing():
            event = self._reader.next()
            if event is None:
                return
            self._on(event)

    def _on(self, event: Event) -> None:
        match event:
            case Command():
                self._command(event)
            case Line(data):
                self._sasl_line(data)
            case Continue():
                self.transport.write(b"+ \r\n")
            case TooBig() | Broken():
                # What would follow cannot be told from commands.
                self._hang_up(status(event.tag, "BAD", "Line or literal too long") + b"* BYE Bye\r\n")

    # commands

    def _command(self, command: Command) -> None:
        cur = Cursor(command.data, depth=PRE_AUTH_DEPTH)
        try:
            if command.bad:
                raise Bad(command.bad)
            tag = cur.tag()
            cur.space()
            run = COMMANDS.get(cur.word())
            if run is None:
                raise Bad("Unknown command, or one that needs a sign-in first")
            run(self, tag, cur)
        except Bad as bad:
            self._say_bad(command.tag, bad)

    def _say_bad(self, tag: bytes, bad: Bad) -> None:
        self._bad += 1
        self.transport.write(status(tag, "BAD", bad.text, bad.code))
        if self._bad >= PRE_AUTH_BAD_COMMANDS:
            self._end(b"* BYE Too many bad commands\r\n")

    def _ok(self, tag: bytes, text: str, before: str = "") -> None:
        lead = before.encode("ascii") + b"\r\n" if before else b""
        self.transport.write(lead + status(tag, "OK", text))

    def _no(self, tag: bytes, code: str, text: str) -> None:
        self.transport.write(status(tag, "NO", text, code))

    def _capabilities(self) -> str:
        more = "AUTH=PLAIN AUTH=LOGIN" if self._secure else "STARTTLS LOGINDISABLED"
        return f"{CAPABILITIES} {more}"

    def _capability(self, tag: bytes, cur: Cursor) -> None:
        cur.end()
        self._ok(tag, "Capabilities listed", f"* CAPABILITY {self._capabilities()}")

    def _noop(self, tag: bytes, cur: Cursor) -> None:
        cur.end()
        self._ok(tag, "Nothing done")

    def _id(self, tag: bytes, cur: Cursor) -> None:
        client_id.parse(cur)  # [RFC 2971 §3.3] its form is checked, its content is never acted upon
        self._ok(tag, "Noted", '* ID ("name" "Atoll")')

    def _logout(self, tag: bytes, cur: Cursor) -> None:
        cur.end()
        self._end(b"* BYE Bye\r\n" + status(tag, "OK", "Done"))

    # TLS

    def _starttls(self, tag: bytes, cur: Cursor) -> None:
        cur.end()
        if self._secure:
            raise Bad("TLS is on already")
        if len(self._reader):
            # Whatever was sent behind STARTTLS in the clear may be somebody else's: never acted upon.
            self.transport.abort()
            return
        self.transport.pause_reading()
        self._ok(tag, "Begin TLS")
        self._task = asyncio.get_running_loop().create_task(self._upgrade())

    async def _upgrade(self) -> None:
        try:
            secure = await asyncio.get_running_loop().start_tls(
                self.transport, self, self._proxy.tls(), server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS)
        except (OSError, ssl.SSLError):
            self.transport.abort()
            return
        finally:
            self._task = None
        if secure is None:  # the client left in mid-handshake
            return
        self.transport = secure
        self._ticket.drop = secure.abort
        self._secure = True
        self._reader = Reader(PRE_AUTH_LINE, literal_limit)  # nothing said before counts [RFC 9051 §6.2.1]
        self._bad = 0

    # sign-in

    def _login(self, tag: bytes, cur: Cursor) -> None:
        cur.space()
        login = cur.astring()
        cur.space()
        password = cur.astring()
        cur.end()
        self._start(tag, Credentials(sasl.name(login), password))

    def _authenticate(self, tag: bytes, cur: Cursor) -> None:
        cur.space()
        mechanism = cur.word()
        initial = None
        if cur.skip(b" "):
            initial = cur.data[cur.at :]
        if mechanism not in ("PLAIN", "LOGIN"):
            self._no(tag, "CANNOT", "Mechanism is not supported")
            return
        if not self._secure:
            self._no(tag, "PRIVACYREQUIRED", "Use TLS first")
            return
        self._tag, self._mechanism, self._user = tag, mechanism, b""
        if initial is None:
            self._challenge(b"" if mechanism == "PLAIN" else b"VXNlcm5hbWU6")  # "Username:"
        else:
            self._sasl_line(b"" if initial == b"=" else initial)  # [RFC 4959 §3]

    def _challenge(self, text: bytes) -> None:
        self._reader.expect_line()
        self.transport.write(b"+ " + text + b"\r\n")

    def _sasl_line(self, line: bytes) -> None:
        tag = self._tag
        try:
            if line == b"*":
                raise Bad("Authentication cancelled")
            answer = sasl.unbase64(line)
            if self._mechanism == "PLAIN":
                self._start(tag, sasl.plain(answer))
            elif not self._user:
                self._user = answer or b"\0"
                self._challenge(b"UGFzc3dvcmQ6")  # "Password:"
            else:
                self._start(tag, Credentials(sasl.name(self._user), answer))
        except NotSasl as error:
            self._say_bad(tag, Bad(str(error)))
        except Bad as bad:
            self._say_bad(tag, bad)

    def _start(self, tag: bytes, credentials: Credentials) -> None:
        if not self._secure:
            self._no(tag, "PRIVACYREQUIRED", "Use TLS first")
            return
        self._task = asyncio.get_running_loop().create_task(self._sign_in(tag, credentials))

    def _facts(self) -> ClientFacts:
        tls = self.transport.get_extra_info("ssl_object")
        cipher = tls.cipher() if tls is not None else None
        return ClientFacts(self._ticket.ip, self._ticket.port, tls.version() or "" if tls is not None else "",
                           cipher[0] if cipher else "")

    async def _sign_in(self, tag: bytes, credentials: Credentials) -> None:
        """Ask the directory, open the mailbox process, splice. A process that just went is tried once more."""
        try:
            for attempt in (1, 2):
                signed = await self._proxy.sign_in.password("imap", credentials.login, credentials.password,
                                                            self._facts(), credentials.authzid)
                backend = await self._open(tag, signed)
                if backend is not None:
                    self._splice(backend)
                    return
                await asyncio.sleep(0.2 * attempt)
            self._no(tag, "UNAVAILABLE", "Mailbox is not available at the moment")
        except Refused as refused:
            if refused.reason != "temporary":
                await asyncio.sleep(min(refused.delay, MAX_DELAY))
            self._no(tag, _CODES[refused.reason], refused.text or "Sign-in refused")
        except Exception:
            _log.exception("sign-in failed")
            self._no(tag, "UNAVAILABLE", "Sign-in is not possible at the moment")
        finally:
            self._task = None
        self.transport.resume_reading()
        self._work()

    async def _open(self, tag: bytes, signed: SignedIn) -> BackendEnd | None:
        loop = asyncio.get_running_loop()
        backend = BackendEnd(tag, loop.create_future())
        try:
            async with asyncio.timeout(HOLD_SECONDS):
                transport, _ = await loop.create_unix_connection(
                    lambda: backend, str(self._proxy.socket_of(signed.backend)))
                if not self._proxy.trust(peer_of(transport)):
                    _log.error("not the mailbox process", extra={"f": {"backend": signed.backend}})
                    transport.abort()
                    return None
                transport.write(tag + b" AUTHENTICATE ATOLL " + signed.token.encode("ascii") + b"\r\n")
                assert backend.opened is not None
                opened = await backend.opened
        except (OSError, TimeoutError):
            opened = False
        except asyncio.CancelledError:
            backend.abort()
            raise
        if not opened:
            backend.abort()
            if backend.denied:
                raise Refused("authorization", "This mailbox may not be opened")
            return None
        return backend

    def _splice(self, backend: BackendEnd) -> None:
        self._forget()
        self._ticket.signed_in()
        client = ClientEnd(self._proxy.clients, self._ticket, self.transport, backend)
        self.transport.set_protocol(client)
        backend.begin(client)
        rest = self._reader.take_rest()
        if rest:
            backend.transport.write(rest)
        self.transport.resume_reading()


COMMANDS: dict[str, Callable[[PreAuth, bytes, Cursor], None]] = {
    "CAPABILITY": PreAuth._capability,
    "NOOP": PreAuth._noop,
    "ID": PreAuth._id,
    "LOGOUT": PreAuth._logout,
    "STARTTLS": PreAuth._starttls,
    "LOGIN": PreAuth._login,
    "AUTHENTICATE": PreAuth._authenticate,
}
