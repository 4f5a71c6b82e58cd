"""One SMTP client: what it says, in which order, and what it is answered.

In     bytes. Out  replies; whole messages by content.Incoming.
Spec   [RFC 5321 §3, §4], [RFC 2920] PIPELINING, [RFC 3207] STARTTLS, [RFC 4954] AUTH, [RFC 9422] LIMITS.
Fails  every wrong word has its reply; too many of them end the connection. An answer is written before the next
       command is looked at.
Not    a task per connection: one lives only while the directory is asked or TLS begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, cast

from atoll.base.ids import new_id, to_text
from atoll.formats.smtp import replies
from atoll.formats.smtp.commands import MailFrom, RcptTo, Refuse, parse_bdat, parse_mail, parse_rcpt, split_address
from atoll.formats.smtp.reader import AUTH_LINE, COMMAND_LINE, End, Line, LineTooLong, Piece, Reader
from atoll.formats.smtp.replies import Reply
from atoll.protocols.smtp.content import Incoming
from atoll.protocols.smtp.handoff import HopConnection, facts_word, mail_line
from atoll.protocols.smtp.received import protocol_name, received
from atoll.protocols.smtp.sasl import Credentials, Exchange, NotSasl
from atoll.protocols.smtp.submission import open_submission
from atoll.protocols.smtp.types import HopFacts, Kind
from atoll.runtime.admission import Ticket
from atoll.runtime.rpc import RpcError

if TYPE_CHECKING:
    from atoll.protocols.smtp.front import SmtpFront

FOREIGN = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT", b"OPTIONS"})
"""Verbs of other protocols: somebody lets a browser speak to us (S033)."""
BUSY_BUFFER = 65536
_log = logging.getLogger("atoll.smtp")


class Session(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, front: SmtpFront, ticket: Ticket, kind: Kind, *, secure: bool) -> None:
        self._front = front
        self._limits = front.limits
        self._ticket = ticket
        self._kind = kind
        self._secure = secure
        self._reader = Reader()
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None] | None = None
        self._waiting = False
        """An answer is under way: the next command waits."""
        self._helo = ""
        self._esmtp = False
        self._mail: MailFrom | None = None
        self._recipients: list[RcptTo] = []
        self._incoming: Incoming | None = None
        self._chunked = False
        self._chunk_last = False
        self._skipping = False
        self._exchange: Exchange | None = None
        self._login = ""
        self._hop: HopConnection | None = None
        self._errors = self._junk = self._unknown = self._messages = self._sign_ins = 0
        self._stopping = False
        self._greeting: asyncio.TimerHandle | None = None
        self.deadline = front.clock.monotonic() + self._limits.command_seconds

    # -- connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ticket.drop = self.abort
        self._front.sessions.add(self)
        self._front.metrics.count("smtp_connections_total", port=self._kind.name.lower())
        if self._kind is Kind.RELAY:
            self._greeting = asyncio.get_running_loop().call_later(self._limits.pregreet_seconds, self._greet)
        else:
            self._greet()

    def _greet(self) -> None:
        self._greeting = None
        self._say(Reply(220, "", f"{self._front.host} ESMTP Atoll"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._ticket.close()
        self._front.gone(self)
        if self._greeting is not None:
            self._greeting.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._incoming is not None:
            self._incoming.abandon()
        if self._hop is not None:
            self._hop.close()

    def eof_received(self) -> bool:
        return False

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def end(self, reply: Reply) -> None:
        """Say a last word and close."""
        if not self._transport.is_closing():
            self._transport.write(reply.to_wire())
            self._transport.close()

    def stop(self) -> None:
        """The frontend goes: 421 when nothing is in flight, else after the answer."""
        self._stopping = True
        if self._incoming is None and not self._waiting:
            self.end(replies.SHUTTING_DOWN)

    def _say(self, reply: Reply) -> None:
        self._transport.write(reply.to_wire())

    def _fail(self, reply: Reply) -> None:
        """A refusal that counts."""
        self._errors += 1
        self._say(reply)
        if self._errors >= self._limits.hard_errors:
            self.end(replies.TOO_MANY_ERRORS)

    def data_received(self, data: bytes) -> None:
        if self._greeting is not None:  # it speaks before it is greeted: no mail server does [RFC 5321 §3.1]
            self.end(Reply(554, "5.5.0", "You spoke before the greeting"))
            return
        self._reader.feed(data)
        self._work()
        if self._waiting and len(self._reader) > BUSY_BUFFER:
            self._transport.pause_reading()

    def _work(self) -> None:
        while not self._waiting and not self._transport.is_closing():
            try:
                event = self._reader.next()
            except LineTooLong:
                self.end(replies.LINE_TOO_LONG)
                return
            if event is None:
                return
            if isinstance(event, Line):
                self._line(event)
            elif isinstance(event, Piece):
                if self._incoming is not None:
                    self._incoming.feed(event.data, checked=not self._chunked)
            else:
                self._content_end(event)

    def _wait(self, work: Coroutine[None, None, None]) -> None:
        """Look at no further command until `work` has answered."""
        self._waiting = True
        self._task = asyncio.get_running_loop().create_task(self._finish(work))

    async def _finish(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except RpcError:
            self._say(replies.TRY_LATER)
        except asyncio.CancelledError:
            raise
        except Exception:
            _log.exception("an SMTP command failed", extra={"f": {"ip": self._ticket.ip}})
            self.end(replies.TRY_LATER)
        self._task = None
        self._go_on()

    def _go_on(self) -> None:
        self._waiting = False
        if self._stopping and self._incoming is None:
            self.end(replies.SHUTTING_DOWN)
            return
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._work()

    # -- commands

    def _line(self, line: Line) -> None:
        self.deadline = self._front.clock.monotonic() + self._limits.command_seconds
        if self._exchange is not None:
            self._auth_line(line.text)
            return
        if self._skipping:  # content sent behind a refused DATA: never commands (S016)
            self._skipping = line.text != b"." and len(self._reader) > 0
            self._fail(replies.SEQUENCE)
            return
        if line.bare:
            self._fail(replies.BARE_COMMAND)
            return
        verb, _, rest = line.text.partition(b" ")
        verb = verb.upper()
        if verb in FOREIGN or line.text.startswith(b"\x16\x03"):
            self.end(replies.NOT_SMTP)
            return
        run = COMMANDS.get(verb)
        if run is None:
            self._fail(replies.UNKNOWN)
            return
        try:
            run(self, rest.decode("utf-8"))
        except Refuse as refuse:
            self._fail(refuse.reply)
        except UnicodeDecodeError:
            self._fail(replies.SYNTAX)

    def _count_junk(self) -> bool:
        self._junk += 1
        if self._junk > self._limits.junk_commands:
            self.end(replies.TOO_FAST)
            return True
        return False

    def _reset(self) -> None:
        if self._hop is not None and self._mail is not None:
            self._hop.ask(b"RSET\r\n", lambda _: None)
        self._mail, self._recipients, self._incoming, self._chunked = None, [], None, False

    def _ehlo(self, rest: str) -> None:
        if self._hello(rest, esmtp=True):
            limits = self._limits
            lines = [self._front.host, "PIPELINING", f"SIZE {limits.message}", "8BITMIME", "SMTPUTF8", "CHUNKING",
                     "BINARYMIME", "DSN", "ENHANCEDSTATUSCODES",
                     f"LIMITS MAILMAX={limits.messages} RCPTMAX={limits.recipients}"]
            if not self._secure:
                lines.append("STARTTLS")
            elif self._kind.signs_in:
                lines.append("AUTH " + " ".join(Exchange.MECHANISMS))
            self._say(Reply(250, "", "\n".join(lines)))

    def _helo_command(self, rest: str) -> None:
        if self._hello(rest, esmtp=False):
            self._say(Reply(250, "", self._front.host))

    def _hello(self, rest: str, *, esmtp: bool) -> bool:
        if self._count_junk():
            return False
        name = rest.strip()
        if not name or len(name) > 255 or not name.isprintable():
            raise Refuse(replies.SYNTAX)
        self._reset()
        self._helo, self._esmtp = name, esmtp
        return True

    def _starttls(self, rest: str) -> None:
        if rest.strip():
            raise Refuse(replies.SYNTAX)
        if self._secure or self._mail is not None:
            raise Refuse(replies.SEQUENCE)
        if len(self._reader):  # sent in the clear behind STARTTLS: perhaps somebody else's words
            self.abort()
            return
        self._transport.pause_reading()
        self._say(replies.START_TLS)
        self._wait(self._upgrade())

    async def _upgrade(self) -> None:
        clear = self._transport
        try:
            secure = await asyncio.get_running_loop().start_tls(clear, self, self._front.tls(), server_side=True,
                                                                ssl_handshake_timeout=30)
        except (OSError, ssl.SSLError):
            clear.abort()
            return
        if secure is None:
            return
        self._transport = secure
        self._ticket.drop = self.abort
        self._secure = True
        self._reader = Reader()  # nothing said before counts [RFC 3207 §4.2]
        self._helo, self._esmtp, self._mail, self._recipients = "", False, None, []

    def _auth(self, rest: str) -> None:
        mechanism, _, initial = rest.strip().partition(" ")
        if not self._kind.signs_in:
            raise Refuse(replies.UNKNOWN)
        if not self._secure:
            raise Refuse(Reply(538, "5.7.11", "Encryption required: STARTTLS first"))
        if not self._helo or self._login or self._mail is not None:
            raise Refuse(replies.SEQUENCE)
        if mechanism.upper() not in Exchange.MECHANISMS:
            raise Refuse(Reply(504, "5.5.4", "Mechanism not supported"))
        self._exchange = Exchange(mechanism.upper())
        self._reader.allow(AUTH_LINE)
        if initial:
            self._auth_line(initial.encode())
        else:
            self._transport.write(b"334 %s\r\n" % self._exchange.challenge())

    def _auth_line(self, text: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        self._exchange = None
        if text == b"*":
            self._sign_in_failed(Reply(501, "5.7.0", "Authentication cancelled"))
            return
        try:
            found = exchange.answer(text)
        except NotSasl:
            self._sign_in_failed(Reply(501, "5.5.2", "Invalid response"))
            return
        if found is None:
            self._exchange = exchange
            self._transport.write(b"334 %s\r\n" % exchange.challenge())
            return
        self._reader.allow(COMMAND_LINE)
        self._wait(self._sign_in(found))

    def _sign_in_failed(self, reply: Reply) -> None:
        self._reader.allow(COMMAND_LINE)
        self._sign_ins += 1
        self._fail(reply)
        if self._sign_ins >= self._limits.sign_ins:
            self.end(replies.TOO_MANY_ERRORS)

    async def _sign_in(self, found: Credentials) -> None:
        opened = await open_submission(self._front, self._ticket, found, self._facts())
        if isinstance(opened, Reply):
            self._sign_in_failed(opened)
            return
        self._hop, self._login = opened
        self._ticket.signed_in()
        self._say(replies.AUTH_OK)

    def _facts(self) -> HopFacts:
        tls = self._transport.get_extra_info("ssl_object") if self._secure else None
        version = tls.version() if tls is not None else ""
        cipher = tls.cipher()[0] if tls is not None and tls.cipher() else ""
        return HopFacts(self._ticket.ip, self._ticket.port, version or "", cipher, self._helo[:255])

    def _mail_from(self, rest: str) -> None:
        if not self._helo or self._mail is not None:
            raise Refuse(replies.SEQUENCE)
        if self._kind.signs_in and not self._login:
            raise Refuse(replies.NEED_AUTH if self._secure else replies.NEED_TLS)
        mail = parse_mail(rest)
        if mail.size > self._limits.message:
            raise Refuse(replies.TOO_BIG)
        if self._messages >= self._limits.messages:
            self.end(replies.TOO_FAST)
            return
        if not self._kind.signs_in and self._front.over_rate(self._ticket.prefix):
            raise Refuse(Reply(450, "4.7.1", "Too many messages this minute"))
        if self._hop is None:
            self._mail = mail
            self._say(replies.OK)
        else:
            self._wait(self._ask_sender(self._hop, mail))

    async def _ask_sender(self, hop: HopConnection, mail: MailFrom) -> None:
        """Transport says at once whether this person may send as that address."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        hop.ask(mail_line(mail, facts_word(self._facts())),
                lambda reply: None if answer.done() else answer.set_result(reply))
        reply = await answer
        if reply.code == 250:
            self._mail = mail
            self._say(replies.OK)
        else:
            self._fail(reply)

    def _rcpt_to(self, rest: str) -> None:
        if self._mail is None or self._chunked:
            raise Refuse(replies.SEQUENCE)
        rcpt = parse_rcpt(rest, utf8=self._mail.utf8)
        if len(self._recipients) >= self._limits.recipients:
            self._say(replies.TOO_MANY_RECIPIENTS)
            return
        known = self._front.sign_in.cached_recipient(rcpt.recipient)
        if known:
            self._recipients.append(rcpt)
            self._say(replies.OK)
        else:
            self._wait(self._ask_recipient(rcpt))

    async def _ask_recipient(self, rcpt: RcptTo) -> None:
        sign_in = self._front.sign_in
        if await sign_in.recipient(rcpt.recipient) is not None:
            self._recipients.append(rcpt)
            self._say(replies.OK)
            return
        self._unknown += 1
        if self._unknown > self._limits.unknown_recipients and not self._login:
            _log.warning("directory harvest", extra={"f": {"ip": self._ticket.ip, "unknown": self._unknown}})
            await asyncio.sleep(self._limits.tarpit_seconds)
            self.end(replies.TOO_FAST)
            return
        local = await sign_in.is_local_domain(split_address(rcpt.recipient)[1])
        self._fail(replies.NO_MAILBOX if local else replies.NO_RELAY)

    def _data(self, rest: str) -> None:
        if rest.strip():
            raise Refuse(replies.SYNTAX)
        if self._mail is None or self._chunked:
            raise Refuse(replies.SEQUENCE)
        if not self._recipients:
            self._skipping = len(self._reader) > 0
            raise Refuse(replies.NO_RECIPIENTS)
        if self._mail.body == "BINARYMIME":  # only BDAT can carry it [RFC 3030 §3]
            raise Refuse(replies.SEQUENCE)
        self._begin(self._mail)
        self._reader.data()
        self._say(replies.START_DATA)

    def _bdat(self, rest: str) -> None:
        chunk = parse_bdat(rest)  # what follows cannot be told from commands if this fails
        self._chunk_last = chunk.last
        self.deadline = self._front.clock.monotonic() + self._limits.content_seconds
        if chunk.size > self._limits.message:
            self.end(replies.TOO_BIG)
            return
        if self._mail is not None and self._recipients and self._incoming is None:
            self._begin(self._mail)
        self._chunked = True
        self._reader.chunk(chunk.size)

    def _begin(self, mail: MailFrom) -> None:
        self.deadline = self._front.clock.monotonic() + self._limits.content_seconds
        front, facts = self._front, self._facts()
        one = self._recipients[0].recipient if len(self._recipients) == 1 else ""
        head = received(helo=self._helo, ip=self._ticket.ip, host=front.host,
                        protocol=protocol_name(esmtp=self._esmtp, utf8=mail.utf8, tls=self._secure,
                                               signed_in=bool(self._login)),
                        tls=f"{facts.tls} {facts.cipher}".strip(), ident=to_text(new_id()), recipient=one,
                        date=front.stamp.now(front.clock.now_ms()))
        line = b"" if self._hop is not None else mail_line(mail, facts_word(facts))
        self._incoming = Incoming(
            front.submit_hops if self._kind.signs_in else front.relay_hops, self._hop, line, self._recipients, head,
            limit=self._limits.message, in_memory=self._limits.in_memory, binary=mail.body == "BINARYMIME",
            pause=self._pause, resume=self._resume, done=self._answered)

    def _pause(self) -> None:
        self._waiting = True
        self._transport.pause_reading()

    def _resume(self) -> None:
        if self._waiting and self._task is None:
            self._go_on()

    def _content_end(self, end: End) -> None:
        if self._incoming is None:  # a chunk behind refused commands [RFC 3030 §2]
            self._fail(replies.SEQUENCE if self._mail is None else replies.NO_RECIPIENTS)
            self._chunked = False
        elif self._chunked and not self._chunk_last:
            self._say(Reply(250, "2.0.0", f"{self._incoming.size} octets so far"))
        else:
            if end.fault:
                _log.warning("smtp.smuggling_attempt", extra={"f": {"ip": self._ticket.ip, "fault": end.fault}})
            self._waiting = True
            self._incoming.end(end.fault)

    def _answered(self, reply: Reply) -> None:
        """Transport has the message, or not."""
        self._front.metrics.count("smtp_messages_total", code=str(reply.code))
        self._messages += 1
        self._junk = 0
        self._mail, self._recipients, self._incoming, self._chunked = None, [], None, False
        self.deadline = self._front.clock.monotonic() + self._limits.command_seconds
        with contextlib.suppress(RuntimeError):
            self._say(reply)
        if self._hop is not None and reply is replies.TRY_LATER:
            self.end(replies.SHUTTING_DOWN)  # its connection to transport went: sign in anew
            return
        self._go_on()

    def _rset(self, rest: str) -> None:
        if not self._count_junk():
            self._reset()
            self._say(replies.OK)

    def _noop(self, rest: str) -> None:
        if not self._count_junk():
            self._say(replies.OK)

    def _quit(self, rest: str) -> None:
        self.end(replies.BYE)

    def _vrfy(self, rest: str) -> None:
        if not self._count_junk():  # the same words whoever is asked for (S024)
            self._say(Reply(252, "2.1.5", "Send some mail, I will try to deliver it"))

    def _expn(self, rest: str) -> None:
        raise Refuse(Reply(502, "5.5.1", "Lists are not expanded"))

    def _help(self, rest: str) -> None:
        if not self._count_junk():
            self._say(Reply(214, "2.0.0", "RFC 5321"))


COMMANDS: dict[bytes, Callable[[Session, str], None]] = {
    b"EHLO": Session._ehlo, b"HELO": Session._helo_command, b"STARTTLS": Session._starttls, b"AUTH": Session._auth,
    b"MAIL": Session._mail_from, b"RCPT": Session._rcpt_to, b"DATA": Session._data, b"BDAT": Session._bdat,
    b"RSET": Session._rset, b"NOOP": Session._noop, b"QUIT": Session._quit, b"VRFY": Session._vrfy,
    b"EXPN": Session._expn, b"HELP": Session._help,
}
