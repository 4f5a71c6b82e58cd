"""protocols.pop3.proxy -- the frontend's POP3: greeting, TLS, sign-in, then bytes both ways.

In     connections of runtime.listen; the directory's sign-in; the path of a mailbox process's socket.
Out    before sign-in: CAPA, STLS, USER, PASS, AUTH, QUIT. After it: a splice (runtime.splice).
Spec   PROCESSES 6 (hand-over), 9 (times); [RFC 1939 §4], [RFC 2449], [RFC 2595] STLS, [RFC 5034] AUTH.
Fails  a mailbox process that goes: the connection ends, and nothing was deleted.
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
from atoll.protocols.pop3.limits import BAD_COMMANDS, HANDSHAKE_SECONDS, LINE, SIGN_IN_SECONDS
from atoll.protocols.pop3.wire.answers import TERMINATOR, err, ok
from atoll.protocols.pop3.wire.lines import Command, Reader, TooLong, parse
from atoll.runtime.admission import Ticket
from atoll.runtime.peers import Peer, peer_of
from atoll.runtime.splice import splice

HOLD_SECONDS = 20.0
"""How long a sign-in waits for a mailbox process that is starting (ISLANDS 9)."""
MAX_DELAY = 5.0
MAX_BACKEND_WORDS = 4096
CAPABILITIES = ("TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "EXPIRE NEVER", "IMPLEMENTATION Atoll")
_CODES = {
    "credentials": "AUTH",
    "authorization": "AUTH",
    "disabled": "AUTH",
    "protocol": "AUTH",
    "slow": "LOGIN-DELAY",
    "temporary": "SYS/TEMP",
}

_log = logging.getLogger("atoll.pop3.proxy")


class Pop3Proxy:
    """What the POP3 connections of one frontend share.

    socket_of: the path of a mailbox process's POP3 socket by its name ("mailbox-1"). tls: the context of now.
    trust: is the process that listens there what it should be?
    """

    def __init__(
        self,
        sign_in: SignIn,
        socket_of: Callable[[str], Path],
        tls: Callable[[], ssl.SSLContext],
        *,
        trust: Callable[[Peer], bool] = lambda _: True,
    ) -> None:
        self.sign_in = sign_in
        self.socket_of = socket_of
        self.tls = tls
        self.trust = trust
        self.clients: set[asyncio.Transport] = set()

    def clear(self, ticket: Ticket) -> PreAuth:
        """A connection of port 110."""
        return PreAuth(self, ticket, secure=False)

    def secure(self, ticket: Ticket) -> PreAuth:
        """A connection of port 995."""
        return PreAuth(self, ticket, secure=True)

    async def drain(self, seconds: float) -> None:
        """Close all connections, spread over that time."""
        clients = list(self.clients)
        for at, transport in enumerate(clients):
            transport.close()
            if seconds and at % 50 == 49:
                await asyncio.sleep(seconds * 50 / len(clients))


class PreAuth(asyncio.Protocol):
    """One client before sign-in. Answers at once; a task only while a sign-in or STLS is under way."""

    __slots__ = (
        "_bad",
        "_mechanism",
        "_proxy",
        "_reader",
        "_secure",
        "_task",
        "_ticket",
        "_timer",
        "_user",
        "transport",
    )

    def __init__(self, proxy: Pop3Proxy, ticket: Ticket, *, secure: bool) -> None:
        self._proxy = proxy
        self._ticket = ticket
        self._secure = secure
        self._reader = Reader(LINE)
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._bad = 0
        self._mechanism = ""  # of an AUTH that waits for a line
        self._user: bytes | None = None
        self.transport: asyncio.Transport

    # connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._ticket.drop = self.transport.abort
        self._proxy.clients.add(self.transport)
        self._timer = asyncio.get_running_loop().call_later(SIGN_IN_SECONDS, self._too_slow)
        self.transport.write(ok("Atoll POP3 ready"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._ticket.close()
        self._proxy.clients.discard(self.transport)
        self._stop_timer()
        if self._task is not None:
            self._task.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._task is None:
            self._end(err("Sign in sooner"))
        else:  # a directory that is slow is not the client's fault
            self._timer = asyncio.get_running_loop().call_later(SIGN_IN_SECONDS, self._too_slow)

    def _end(self, last: bytes) -> None:
        self.transport.write(last)
        self.transport.close()

    def pause_writing(self) -> None:
        self.transport.abort()  # answers are small here: who lets so many lie reads none

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self._work()
        if self._task is not None and len(self._reader) > LINE:
            self.transport.pause_reading()

    def _work(self) -> None:
        while self._task is None and not self.transport.is_closing():
            try:
                line = self._reader.next()
            except TooLong:
                self._end(err("Line too long"))
                return
            if line is None:
                return
            try:
                if self._mechanism:
                    self._sasl_line(line)
                else:
                    self._command(parse(line))
            except NotSasl as error:
                self._mechanism, self._user = "", None
                self._refuse(str(error))

    def _command(self, command: Command) -> None:
        run = COMMANDS.get(command.verb)
        if run is None:
            self._refuse("Unknown command, or one that needs a sign-in first")
        else:
            run(self, command)

    def _refuse(self, text: str, code: str = "") -> None:
        self._bad += 1
        self.transport.write(err(text, code))
        if self._bad >= BAD_COMMANDS:
            self.transport.close()

    def _ok(self, text: str = "") -> None:
        self.transport.write(ok(text))

    # commands

    def _capa(self, command: Command) -> None:
        more = ("USER", "SASL PLAIN LOGIN") if self._secure else ("STLS",)
        listed = "".join([f"{name}\r\n" for name in (*CAPABILITIES, *more)])
        self.transport.write(ok("Capabilities follow") + listed.encode("ascii") + TERMINATOR)

    def _quit(self, command: Command) -> None:
        self._end(ok("Bye"))

    def _stls(self, command: Command) -> None:
        if self._secure:
            self._refuse("TLS is on already")
            return
        if len(self._reader):
            # Whatever was sent behind STLS in the clear may be somebody else's: never acted upon.
            self.transport.abort()
            return
        self.transport.pause_reading()
        self._ok("Begin TLS")
        self._task = asyncio.get_running_loop().create_task(self._upgrade())

    async def _upgrade(self) -> None:
        clear = self.transport
        try:
            secure = await asyncio.get_running_loop().start_tls(
                clear, self, self._proxy.tls(), server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except (OSError, ssl.SSLError):
            clear.abort()
            return
        finally:
            self._task = None
        if secure is None:  # the client left in mid-handshake
            return
        self._proxy.clients.discard(clear)
        self._proxy.clients.add(secure)
        self.transport = secure
        self._ticket.drop = secure.abort
        self._secure = True
        self._reader = Reader(LINE)  # nothing said before counts [RFC 2595 §4]
        self._user, self._mechanism, self._bad = None, "", 0

    # sign-in

    def _may(self) -> bool:
        if not self._secure:
            self._refuse("Use STLS first")
        return self._secure

    def _user_name(self, command: Command) -> None:
        if not self._may():
            return
        if not command.rest:
            self._refuse("USER takes a name")
            return
        self._user = command.rest.strip()
        self._ok("Password please")

    def _password(self, command: Command) -> None:
        if not self._may():
            return
        if self._user is None:
            self._refuse("USER first")
            return
        user, self._user = self._user, None
        self._start(Credentials(sasl.name(user), command.rest))

    def _auth(self, command: Command) -> None:
        words = command.words()
        if not words:  # an old way to ask for the mechanisms, still in use
            listed = b"PLAIN\r\nLOGIN\r\n" if self._secure else b""
            self.transport.write(ok("Mechanisms follow") + listed + TERMINATOR)
            return
        mechanism = words[0].upper()
        if mechanism not in (b"PLAIN", b"LOGIN") or len(words) > 2:
            self._refuse("Mechanism is not supported")
            return
        if not self._may():
            return
        self._mechanism, self._user = mechanism.decode("ascii"), None
        if len(words) == 2:
            self._sasl_line(words[1])
        else:
            self.transport.write(b"+ \r\n" if mechanism == b"PLAIN" else b"+ VXNlcm5hbWU6\r\n")  # "Username:"

    def _sasl_line(self, line: bytes) -> None:
        if line == b"*":
            raise NotSasl("Authentication cancelled")
        answer = sasl.unbase64(line)
        if self._mechanism == "PLAIN":
            self._start(sasl.plain(answer))
        elif self._user is None:
            self._user = answer
            self.transport.write(b"+ UGFzc3dvcmQ6\r\n")  # "Password:"
        else:
            self._start(Credentials(sasl.name(self._user), answer))

    def _start(self, credentials: Credentials) -> None:
        self._mechanism, self._user = "", None
        self._task = asyncio.get_running_loop().create_task(self._sign_in(credentials))

    def _facts(self) -> ClientFacts:
        tls = self.transport.get_extra_info("ssl_object")
        cipher = tls.cipher() if tls is not None else None
        version = tls.version() or "" if tls is not None else ""
        return ClientFacts(self._ticket.ip, self._ticket.port, version, cipher[0] if cipher else "")

    async def _sign_in(self, credentials: Credentials) -> None:
        """Ask the directory, open the mailbox process, splice. A process that just went is tried once more."""
        try:
            for attempt in (1, 2):
                signed = await self._proxy.sign_in.password(
                    "pop3", credentials.login, credentials.password, self._facts(), credentials.authzid
                )
                answer = await self._open(signed)
                if answer is not None:
                    self.transport.write(answer)
                    break
                await asyncio.sleep(0.2 * attempt)
            else:
                self.transport.write(err("The mailbox is not available at the moment", "SYS/TEMP"))
        except Refused as refused:
            if refused.reason != "temporary":
                await asyncio.sleep(min(refused.delay, MAX_DELAY))
            self._refuse(refused.text or "Sign-in refused", _CODES[refused.reason])
        except Exception:
            _log.exception("sign-in failed")
            self.transport.write(err("Sign-in is not possible at the moment", "SYS/TEMP"))
        finally:
            self._task = None
        if self.transport.get_protocol() is self:
            self.transport.resume_reading()
            self._work()

    async def _open(self, signed: SignedIn) -> bytes | None:
        """Hand the token over. The mailbox process's answer line; spliced if it is +OK; None: it cannot be reached."""
        loop = asyncio.get_running_loop()
        backend = _Opening(loop.create_future())
        try:
            async with asyncio.timeout(HOLD_SECONDS):
                transport, _ = await loop.create_unix_connection(
                    lambda: backend, str(self._proxy.socket_of(signed.backend))
                )
                if not self._proxy.trust(peer_of(transport)):
                    _log.error("not the mailbox process", extra={"f": {"backend": signed.backend}})
                    transport.abort()
                    return None
                transport.write(b"AUTH ATOLL " + signed.token.encode("ascii") + b"\r\n")
                answer = await backend.answer
        except (OSError, TimeoutError):
            answer = b""
        except asyncio.CancelledError:
            backend.abort()
            raise
        if answer.startswith(b"+OK"):
            self.transport.write(answer)
            self._splice(transport)
            return b""
        backend.abort()
        return answer if answer.startswith((b"-ERR [IN-USE]", b"-ERR [SYS/PERM]")) else None

    def _splice(self, backend: asyncio.Transport) -> None:
        self._stop_timer()
        self._ticket.signed_in()
        client, proxy, ticket = self.transport, self._proxy, self._ticket

        def gone() -> None:
            ticket.close()
            proxy.clients.discard(client)

        splice(client, backend, gone)
        rest = self._reader.take_rest()
        if rest:
            backend.write(rest)
        client.resume_reading()


COMMANDS: dict[str, Callable[[PreAuth, Command], None]] = {
    "AUTH": PreAuth._auth,
    "CAPA": PreAuth._capa,
    "PASS": PreAuth._password,
    "QUIT": PreAuth._quit,
    "STLS": PreAuth._stls,
    "USER": PreAuth._user_name,
}


class _Opening(asyncio.Protocol):
    """The mailbox process's side until its answer to our token: a greeting line, then the answer line."""

    __slots__ = ("_words", "answer", "transport")

    def __init__(self, answer: asyncio.Future[bytes]) -> None:
        self.answer = answer
        self.transport: asyncio.Transport | None = None
        self._words = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it

    def data_received(self, data: bytes) -> None:
        self._words += data
        lines = bytes(self._words).split(b"\r\n", 2)
        if len(lines) == 3:
            self._say(lines[1] + b"\r\n")
        elif len(self._words) > MAX_BACKEND_WORDS:
            self._say(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        self._say(b"")

    def _say(self, answer: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def abort(self) -> None:
        """Give up before the splice."""
        if self.transport is not None:
            self.transport.abort()
