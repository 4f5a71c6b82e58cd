"""One SMTP client: what it says and what it is answered.

In     command lines, content. Out  replies; whole messages by incoming.Incoming.
Spec   [RFC 5321 §3, §4], [RFC 3030], [RFC 3207] STARTTLS, [RFC 4954] AUTH, [RFC 9422] LIMITS; the order of verbs is in
       states.py.
Fails  every wrong word has its reply; too many of them end the connection.
Not    who may send, who exists: the directory and transport say so.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial

from atoll.base.ids import new_id, to_text
from atoll.formats.sasl import Credentials, NotSasl
from atoll.formats.smtp import replies
from atoll.formats.smtp.commands import MailFrom, RcptTo, Refuse, parse_bdat, parse_mail, parse_rcpt, split_address
from atoll.formats.smtp.reader import AUTH_LINE, COMMAND_LINE, End, Line, Reader
from atoll.formats.smtp.replies import Reply
from atoll.protocols.smtp.connection import Connection
from atoll.protocols.smtp.handoff import HopConnection, facts_word, mail_line
from atoll.protocols.smtp.incoming import Incoming
from atoll.protocols.smtp.received import protocol_name, received
from atoll.protocols.smtp.sasl import Exchange
from atoll.protocols.smtp.shared import Shared
from atoll.protocols.smtp.states import State, after
from atoll.protocols.smtp.submission import open_submission
from atoll.protocols.smtp.types import ELSEWHERE, HopFacts, Kind
from atoll.runtime.admission import Ticket

FOREIGN = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT", b"OPTIONS", b"PATCH", b"DELETE", b"TRACE", b"PRI"})
"""Verbs of HTTP: somebody lets a browser speak to us (S033)."""
UNTRUSTED = frozenset({b"XCLIENT", b"XFORWARD", b"PROXY", b"XSHADOW", b"X-EXPS", b"XATOLL"})
"""Words by which a proxy or a server of ours would state facts: from nobody out there (S042)."""
TLS_RECORD = b"\x16\x03"
_log = logging.getLogger("atoll.smtp")


class Session(Connection):
    """A client of port 25, 587 or 465."""

    def __init__(self, front: Shared, ticket: Ticket, kind: Kind, *, secure: bool) -> None:
        super().__init__()
        self._front = front
        self._limits = front.limits_now()
        self._ticket = ticket
        self._kind = kind
        self.secure = secure
        self._greeting: asyncio.TimerHandle | None = None
        self._state = State.START
        self._helo = self._word = self._login = ""
        self._esmtp = False
        self._facts = HopFacts()
        self._exchange: Exchange | None = None
        self._hop: HopConnection | None = None
        self._mail: MailFrom | None = None
        self._id = b""
        """The network message id of the message that is begun."""
        self._id_text = ""
        self._recipients: list[RcptTo] = []
        self._backends: set[str] = set()
        """The mailbox processes that they live in."""
        self._incoming: Incoming | None = None
        self._chunk_last: bool | None = None
        """None: the content comes by DATA."""
        self._stray = False
        """What comes is the content behind a refused DATA, not commands."""
        self._errors = self._junk = self._unknown = self._messages = self._sign_ins = 0
        self._stopping = False
        self.deadline = front.clock.monotonic() + self._limits.command_seconds

    # -- connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._ticket.drop = self.abort
        self._front.sessions.add(self)
        self._front.metrics.count("smtp_connections_total", port=self._kind.name.lower())
        self._learn()
        if self._kind is Kind.RELAY:
            self._greeting = asyncio.get_running_loop().call_later(self._limits.pregreet_seconds, self._greet)
        else:
            self._greet()

    def _greet(self) -> None:
        self._greeting = None
        self.say(Reply(220, "", f"{self._front.host} ESMTP Atoll"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._ticket.close()
        self._front.gone(self)
        if self._greeting is not None:
            self._greeting.cancel()
        if self.task is not None:
            self.task.cancel()
        if self._incoming is not None:
            self._incoming.abandon()
        if self._hop is not None:
            self._hop.close()

    def data_received(self, data: bytes) -> None:
        if self._greeting is not None:  # it speaks before it is greeted: no mail server does [RFC 5321 §3.1]
            self._greeting.cancel()
            self._greeting = None
            self.end(Reply(554, "5.5.0", "You spoke before the greeting"))
            return
        super().data_received(data)

    def stop(self) -> None:
        """The frontend goes: 421 now, or after the answer that is under way."""
        self._stopping = True
        if self._incoming is None and not self.busy:
            self.end(replies.SHUTTING_DOWN, linger=False)

    def released(self) -> None:
        if self._stopping and self._incoming is None:
            self.end(replies.SHUTTING_DOWN, linger=False)

    def _learn(self) -> None:
        """The facts that travel inside with each message."""
        tls = self.transport.get_extra_info("ssl_object") if self.secure else None
        cipher = tls.cipher() if tls is not None else None
        self._facts = HopFacts(self._ticket.ip, self._ticket.port, (tls.version() or "") if tls is not None else "",
                               cipher[0] if cipher else "", self._helo)
        self._word = facts_word(self._facts)

    # -- command lines

    def line(self, line: Line) -> None:
        self.deadline = self._front.clock.monotonic() + self._limits.command_seconds
        if self._exchange is not None:
            self._auth_line(self._exchange, line.text)
            return
        if self._stray:
            self._stray = line.text != b"."
            self._fail(replies.SEQUENCE)
            return
        if line.text.startswith(TLS_RECORD):
            self.end(replies.NOT_SMTP)
            return
        if line.bare:
            self._fail(replies.BARE_COMMAND)
            return
        verb, _, rest = line.text.partition(b" ")
        verb = verb.upper()
        run = COMMANDS.get(verb)
        if run is None:
            self._unknown_verb(verb)
            return
        try:
            run(self, rest.decode("utf-8"))
        except Refuse as refuse:
            self._fail(refuse.reply)
        except UnicodeDecodeError:
            self._fail(replies.SYNTAX)

    def _unknown_verb(self, verb: bytes) -> None:
        if verb in FOREIGN:
            self.end(replies.NOT_SMTP)
        elif verb in UNTRUSTED:
            self._fail(replies.NOT_TRUSTED)
        else:
            self._fail(replies.UNKNOWN)

    def _fail(self, reply: Reply) -> None:
        """A refusal that counts."""
        self._errors += 1
        self.say(reply)
        if self._errors >= self._limits.hard_errors:
            self.end(replies.TOO_MANY_ERRORS)

    def _junk_over(self) -> bool:
        """Count a command that does nothing for mail; too many end the connection."""
        self._junk += 1
        if self._junk > self._limits.junk_commands:
            self.end(replies.TOO_FAST)
            return True
        return False

    # -- greeting and signing in

    def _ehlo(self, rest: str) -> None:
        if not self._hello(rest, esmtp=True):
            return
        limits = self._limits
        lines = [self._front.host, "PIPELINING", f"SIZE {limits.message}", "8BITMIME", "SMTPUTF8", "CHUNKING",
                 "BINARYMIME", "DSN", "ENHANCEDSTATUSCODES",
                 f"LIMITS MAILMAX={limits.messages} RCPTMAX={limits.recipients}"]
        if not self.secure:
            lines.append("STARTTLS")
        elif self._kind.signs_in:
            lines.append("AUTH " + " ".join(Exchange.MECHANISMS))
        self.say(Reply(250, "", "\n".join(lines)))

    def _helo_command(self, rest: str) -> None:
        if self._hello(rest, esmtp=False):
            self.say(Reply(250, "", self._front.host))

    def _hello(self, rest: str, *, esmtp: bool) -> bool:
        name = rest.strip()
        if not name or len(name) > 255 or not name.isprintable():
            raise Refuse(replies.SYNTAX)
        if self._junk_over():
            return False
        self._state = after(self._state, b"EHLO")
        self._reset()
        self._helo, self._esmtp = name, esmtp
        self._learn()
        return True

    def _starttls(self, rest: str) -> None:
        if rest.strip():
            raise Refuse(replies.SYNTAX)
        if self.secure:
            raise Refuse(replies.SEQUENCE)
        after(self._state, b"STARTTLS")
        if len(self.reader):  # sent in the clear behind STARTTLS: perhaps somebody else's words
            _log.warning("smtp.starttls_injection", extra={"f": {"ip": self._ticket.ip}})
            self.abort()
            return
        self.transport.pause_reading()
        self.say(replies.START_TLS)
        self.wait(self._upgrade())

    async def _upgrade(self) -> None:
        clear = self.transport
        try:
            secure = await asyncio.get_running_loop().start_tls(clear, self, self._front.tls(), server_side=True,
                                                                ssl_handshake_timeout=30)
        except (OSError, ssl.SSLError):
            clear.abort()
            return
        if secure is None:
            return
        self.transport = secure
        self._ticket.drop = self.abort
        self.secure = True
        self.reader = Reader()  # nothing said before counts [RFC 3207 §4.2]
        self._state, self._helo, self._esmtp = State.START, "", False
        self._learn()

    def _auth(self, rest: str) -> None:
        mechanism, _, initial = rest.strip().partition(" ")
        if not self._kind.signs_in:
            raise Refuse(replies.NO_AUTH)
        if not self.secure:
            raise Refuse(replies.NEED_ENCRYPTION)
        after(self._state, b"AUTH")
        if self._login:
            raise Refuse(replies.SEQUENCE)
        if mechanism.upper() not in Exchange.MECHANISMS:
            raise Refuse(replies.NO_MECHANISM if mechanism else replies.SYNTAX)
        exchange = Exchange(mechanism.upper())
        self.reader.allow(AUTH_LINE)
        if initial:
            self._auth_line(exchange, initial.encode())
        else:
            self._challenge(exchange)

    def _challenge(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.write(b"334 %s\r\n" % exchange.challenge())

    def _auth_line(self, exchange: Exchange, text: bytes) -> None:
        self._exchange = None
        if text == b"*":
            self._sign_in_failed(replies.AUTH_CANCELLED)
            return
        try:
            found = exchange.answer(text)
        except NotSasl:
            self._sign_in_failed(replies.NOT_SASL)
            return
        if found is None:
            self._challenge(exchange)
            return
        self.reader.allow(COMMAND_LINE)
        self.wait(self._sign_in(found))

    def _sign_in_failed(self, reply: Reply) -> None:
        self.reader.allow(COMMAND_LINE)
        self._sign_ins += 1
        self._fail(reply)
        if self._sign_ins >= self._limits.sign_ins:
            self.end(replies.TOO_MANY_ERRORS)

    async def _sign_in(self, found: Credentials) -> None:
        opened = await open_submission(self._front, self._ticket, found, self._facts)
        if isinstance(opened, Reply):
            self._sign_in_failed(opened)
            return
        self._hop, self._login = opened
        self._hop.on_lost = self._hop_lost
        self._ticket.signed_in()
        self.say(replies.AUTH_OK)

    def _hop_lost(self, _: HopConnection) -> None:
        """Transport ended this person's connection: a revocation, or it starts anew. The client signs in again."""
        self._stopping = True
        if not self.busy:
            self.end(replies.SHUTTING_DOWN, linger=False)

    # -- the envelope

    def _mail_from(self, rest: str) -> None:
        following = after(self._state, b"MAIL")
        if self._kind.signs_in and not self._login:
            raise Refuse(replies.NEED_AUTH if self.secure else replies.NEED_TLS)
        mail = parse_mail(rest)
        if mail.size > self._limits.message:
            raise Refuse(replies.TOO_BIG)
        if self._messages >= self._limits.messages:
            self.end(replies.TOO_FAST)
            return
        if not self._kind.signs_in and self._front.over_rate(self._ticket.prefix):
            raise Refuse(replies.TOO_MANY_MESSAGES)
        self._id = new_id()
        if self._hop is None:
            self._mail, self._state = mail, following
            self.say(replies.OK)
        else:
            self.wait(self._ask_sender(self._hop, mail, following))

    async def _ask_sender(self, hop: HopConnection, mail: MailFrom, following: State) -> None:
        """Transport says at once whether this person may send as that address."""
        reply = await hop.answer(mail_line(mail, self._word, self._id.hex()))
        if reply.code == 250:
            self._mail, self._state = mail, following
            self.say(replies.OK)
        else:
            self._fail(reply)

    def _rcpt_to(self, rest: str) -> None:
        after(self._state, b"RCPT")
        assert self._mail is not None
        rcpt = parse_rcpt(rest, utf8=self._mail.utf8)
        if len(self._recipients) >= self._limits.recipients:
            self.say(replies.TOO_MANY_RECIPIENTS)
        elif (known := self._front.sign_in.cached_recipient(rcpt.recipient)) is not None:
            self._add(rcpt, known.backend)
        else:
            self.wait(self._ask_recipient(rcpt))

    def _add(self, rcpt: RcptTo, backend: str) -> None:
        self._recipients.append(rcpt)
        self._backends.add(backend)
        self._state = after(self._state, b"RCPT")
        self.say(replies.OK)

    async def _ask_recipient(self, rcpt: RcptTo) -> None:
        sign_in = self._front.sign_in
        if (known := await sign_in.recipient(rcpt.recipient)) is not None:
            self._add(rcpt, known.backend)
            return
        local = await sign_in.is_local_domain(split_address(rcpt.recipient)[1])
        reply = replies.NO_MAILBOX if local else replies.NO_RELAY
        if self._login and self._front.sends and not local:
            self._add(rcpt, ELSEWHERE)
        elif self._login:  # a person with a long, old list is no harvester
            self.say(reply)
        elif self._unknown >= self._limits.unknown_recipients:
            _log.warning("smtp.directory_harvest", extra={"f": {"ip": self._ticket.ip, "unknown": self._unknown + 1}})
            await asyncio.sleep(self._limits.tarpit_seconds)
            self.end(replies.TOO_FAST)
        else:
            self._unknown += 1
            self._fail(reply)

    # -- the content

    def _data(self, rest: str) -> None:
        try:
            if rest.strip():
                raise Refuse(replies.SYNTAX)
            after(self._state, b"DATA")
            if self._mail is None or self._mail.body == "BINARYMIME":  # only BDAT can carry it [RFC 3030 §3]
                raise Refuse(replies.SEQUENCE)
        except Refuse:
            self._stray = len(self.reader) > 0  # it did not wait for the answer: what follows is content (S016)
            raise
        self._chunk_last = None
        self._begin(self._mail)
        self.reader.data()
        self.say(replies.START_DATA)

    def _bdat(self, rest: str) -> None:
        try:
            chunk = parse_bdat(rest)
        except Refuse as refuse:  # where the chunk ends and commands begin, nobody can tell
            self.end(refuse.reply)
            return
        if chunk.size > self._limits.message:
            self.end(replies.TOO_BIG)
            return
        self.deadline = self._front.clock.monotonic() + self._limits.content_seconds
        if self._mail is not None and self._state is State.RECIPIENT:
            self._begin(self._mail)
        self._chunk_last = chunk.last
        self.reader.chunk(chunk.size)

    def _begin(self, mail: MailFrom) -> None:
        front, facts = self._front, self._facts
        self.deadline = front.clock.monotonic() + self._limits.content_seconds
        self._id_text = to_text(self._id)
        head = received(helo=self._helo, ip=facts.ip, host=front.host,
                        protocol=protocol_name(esmtp=self._esmtp, utf8=mail.utf8, tls=self.secure,
                                               signed_in=bool(self._login)),
                        tls=f"{facts.tls} {facts.cipher}".strip(), ident=self._id_text,
                        recipient=self._recipients[0].recipient if len(self._recipients) == 1 else "",
                        date=front.stamp.now(front.clock.now_ms()))
        line = b"" if self._hop is not None else mail_line(mail, self._word, self._id.hex())
        self._incoming = Incoming(
            front.submit_hops if self._kind.signs_in else front.relay_hops, self._hop, line, self._recipients, head,
            lane="" if len(self._backends) != 1 or front.checked(facts.ip) else next(iter(self._backends)),
            limit=self._limits.message, in_memory=self._limits.in_memory, binary=mail.body == "BINARYMIME",
            pause=partial(self.hold, reading=False), resume=self.release, done=self._answered)

    def piece(self, data: bytes) -> None:
        if self._incoming is not None:
            self._incoming.feed(data, checked=self._chunk_last is None)

    def chunk_end(self, end: End) -> None:
        incoming = self._incoming
        if incoming is None:  # a chunk where none may be: swallowed, refused [RFC 3030 §2]
            refused = replies.NO_RECIPIENTS if self._state is State.SENDER else replies.SEQUENCE
            if self._state is not State.READY and self._state is not State.START:
                self._state = State.BROKEN
            self._fail(refused)
        elif self._chunk_last is False and incoming.hopeless is not None:  # at once [RFC 3030 §2]
            self._reset()
            self._state = State.BROKEN
            self._fail(incoming.hopeless)
        elif self._chunk_last is False:
            self._state = State.CHUNKS
            self.say(Reply(250, "2.0.0", f"{incoming.size} octets so far"))
        else:
            self.hold()
            incoming.end(end.fault)

    def _answered(self, reply: Reply) -> None:
        """Transport has the message, or not."""
        if reply is replies.BARE_CONTENT or reply is replies.NUL_CONTENT:
            _log.warning("smtp.smuggling_attempt", extra={"f": {"ip": self._ticket.ip, "fault": reply.text}})
        self._front.metrics.count("smtp_messages_total", code=str(reply.code))
        self._messages += 1
        self._junk = 0
        self._mail, self._recipients, self._backends, self._incoming = None, [], set(), None
        self._state = State.READY
        self.deadline = self._front.clock.monotonic() + self._limits.command_seconds
        self.say(Reply(250, "2.0.0", f"Ok {self._id_text}") if reply.code == 250 else reply)
        self.release()

    # -- the rest

    def _reset(self) -> None:
        if self._incoming is not None:
            self._incoming.abandon()
        self._mail, self._recipients, self._backends, self._incoming = None, [], set(), None

    def _rset(self, rest: str) -> None:
        if rest.strip():
            raise Refuse(replies.SYNTAX)
        if not self._junk_over():
            self._state = after(self._state, b"RSET")
            self._reset()
            self.say(replies.OK)

    def _noop(self, _: str) -> None:
        if not self._junk_over():
            self.say(replies.OK)

    def _quit(self, _: str) -> None:
        self.end(replies.BYE, linger=False)

    def _vrfy(self, name: str) -> None:
        if not name.strip():
            raise Refuse(replies.SYNTAX)
        if not self._junk_over():  # the same words whoever is asked for (S024)
            self.say(replies.NOT_VERIFIED)

    def _expn(self, _: str) -> None:
        raise Refuse(replies.NOT_EXPANDED)

    def _help(self, _: str) -> None:
        if not self._junk_over():
            self.say(Reply(214, "2.0.0", "RFC 5321"))


COMMANDS: dict[bytes, Callable[[Session, str], None]] = {
    b"EHLO": Session._ehlo, b"HELO": Session._helo_command, b"STARTTLS": Session._starttls, b"AUTH": Session._auth,
    b"MAIL": Session._mail_from, b"RCPT": Session._rcpt_to, b"DATA": Session._data, b"BDAT": Session._bdat,
    b"RSET": Session._rset, b"NOOP": Session._noop, b"QUIT": Session._quit, b"VRFY": Session._vrfy,
    b"EXPN": Session._expn, b"HELP": Session._help,
}
