"""Transport's end of the inside hop: SMTP with CHUNKING from frontends (`smtp-in`) and signed-in sessions (`submit`).

In     transactions of frontends of ours: the kernel says which process connects. XATOLL on MAIL: the client's facts.
Out    envelopes with content for transport.pipeline; its reply.
Spec   docs/seams.md 6; PROCESSES 4 (token), 6, 7. A frontend need not wait for an answer before its next transaction:
       they are answered in order [RFC 2920], those that are known in one turn of the loop in one write.
Fails  a token that opens nothing: 535. A sender that the person may not use: 550 5.7.60 at MAIL.
       A mailbox over its limit for sending: 552 5.2.2 at MAIL. Too many recipients this hour: 450 4.7.1. Too much
       held at once: 452 4.3.1.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import cast

import msgspec

from atoll.base.clock import Clock
from atoll.base.ids import NetworkMessageId
from atoll.base.version import PRODUCT, __version__
from atoll.directory.client.model import Revocation
from atoll.directory.client.tokens import BadToken, Claims, TokenVerifier
from atoll.formats.smtp import replies
from atoll.formats.smtp.commands import RcptTo, Refuse, parse_bdat
from atoll.formats.smtp.inside import WHOLE, InsideMail, inside_mail, inside_rcpt
from atoll.formats.smtp.reader import AUTH_LINE, End, Line, LineTooLong, Piece, Reader
from atoll.formats.smtp.replies import Reply
from atoll.runtime.admission import prefix_of
from atoll.runtime.peers import Peer, peer_of
from atoll.runtime.rpc import RpcError
from atoll.transport.envelope import Envelope, Facts, Recipient
from atoll.transport.rates import Rate

MAX_UNDER_WAY = 256
"""Transactions of one connection: more wait in its socket."""
MAX_HELD = 256 * 2**20
"""Octets of messages that connections may hold together; a chunk beyond is refused for now."""
Accept = Callable[[Envelope, bytes, Callable[[Reply], None]], None]
_log = logging.getLogger("atoll.smtp.hop")
_NO_FACTS = Facts()
_END = End()


class HopServer:
    """What the hop connections of transport share. verifier: for `submit`; None for `smtp-in`."""

    def __init__(self, accept: Accept, clock: Clock, *, admit: Callable[[Peer], bool], host: str, limit: int,
                 recipients: int, verifier: TokenVerifier | None = None,
                 may_send_as: Callable[[bytes, str], Awaitable[bool]] | None = None,
                 may_send: Callable[[bytes], bool] | None = None, rate: Rate | None = None) -> None:
        """rate: of a person's recipients (`submit`), of a client prefix's messages (`smtp-in`)."""
        self.accept = accept
        self.clock = clock
        self.admit = admit
        self.host = host
        self.limit = limit
        self.recipients = recipients
        self.verifier = verifier
        self.may_send_as = may_send_as
        self.may_send = may_send
        self.rate = rate
        self.ended: Callable[[str], None] = lambda sid: None
        """Told the session id of each signed-in session that is over."""
        self.held = 0
        self.draining = False
        self.connections: set[HopSession] = set()
        self.facts: dict[bytes, Facts] = {}

    def __call__(self) -> HopSession:
        return HopSession(self)

    def facts_of(self, word: bytes) -> Facts:
        """What XATOLL says; the same client says the same for each of its messages."""
        if not word:
            return _NO_FACTS
        known = self.facts.get(word)
        if known is None:
            try:
                known = msgspec.json.decode(base64.urlsafe_b64decode(word), type=Facts)
            except (binascii.Error, msgspec.DecodeError, ValueError):
                raise Refuse(replies.SYNTAX) from None
            if len(self.facts) > 1000:
                self.facts.clear()
            self.facts[word] = known
        return known

    def revoke(self, revocation: Revocation) -> None:
        """Sessions of a lower credential epoch send nothing more."""
        for connection in list(self.connections):
            claims = connection.claims
            if claims is not None and claims.sub == revocation.user and claims.ep < revocation.epoch:
                connection.end()

    def end_all(self) -> None:
        """The directory has been away for too long: nobody can say who may still send."""
        for connection in list(self.connections):
            connection.end()

    async def drain(self, seconds: float) -> None:
        """Take nothing new; end each connection when what is under way there is answered.

        A transaction that was begun is heard to its end. One that was not is left in the socket: its frontend hears
        421 behind all other answers, and nothing of it was taken.
        """
        self.draining = True
        deadline = self.clock.monotonic() + seconds
        while self.connections and self.clock.monotonic() < deadline:
            for connection in list(self.connections):
                if not connection.busy:
                    connection.end()
            await asyncio.sleep(0.02)


class _Answer:
    """The reply to a message, once it is known."""

    __slots__ = ("reply",)

    def __init__(self) -> None:
        self.reply: Reply | None = None


class HopSession(asyncio.Protocol):
    """One connection of a frontend."""

    __slots__ = ("_asking", "_facts", "_last", "_mail", "_paused", "_pieces", "_reader", "_recipients", "_refused",
                 "_said", "_server", "_size", "_task", "_transport", "_under_way", "_waking", "claims", "since")

    def __init__(self, server: HopServer) -> None:
        self._server = server
        self._reader = Reader(AUTH_LINE)
        self._transport: asyncio.Transport
        self.claims: Claims | None = None
        self.since = 0
        """When it began, milliseconds since 1970, UTC."""
        self._mail: InsideMail | None = None
        self._recipients: list[RcptTo] = []
        self._pieces: list[bytes] = []
        self._said: deque[bytes | _Answer] = deque()
        """Replies that wait for those before them, and those that are still to come."""
        self._under_way = 0
        self._size = 0
        self._facts = _NO_FACTS
        self._last = False
        self._asking = self._paused = self._waking = False
        self._refused: Reply | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._server.admit(peer_of(transport)):
            self._transport.abort()
            return
        self._server.connections.add(self)
        self.since = self._server.clock.now_ms()
        self._transport.write(f"220 {self._server.host} ESMTP {PRODUCT} {__version__}\r\n".encode())

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._task is not None:
            self._task.cancel()
        self._reset()
        if self.claims is not None:
            self._server.ended(self.claims.sid)

    @property
    def busy(self) -> bool:
        """Is a message being heard or delivered, or a question asked?"""
        return self._asking or self._under_way > 0 or self._mail is not None

    def end(self) -> None:
        """421 and close."""
        self._flush()
        if not self._transport.is_closing():
            self._transport.write(replies.SHUTTING_DOWN.wire)
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self._work()

    def _work(self) -> None:
        try:
            while not self._asking and not self._full:
                if self.claims is None and (whole := self._reader.whole(WHOLE)) is not None:
                    (mail, rcpt, _), content = whole
                    self._whole(mail, rcpt, content)
                    continue
                event = self._reader.next()
                if event is None:
                    break
                if isinstance(event, Line):
                    verb, _, rest = event.text.partition(b" ")
                    self._line(verb, rest)
                elif isinstance(event, Piece):
                    self._piece(event.data)
                else:
                    self._end(event)
        except LineTooLong:
            self._transport.abort()
            return
        if self._full and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()
        if not self._asking:
            self._flush()

    @property
    def _full(self) -> bool:
        """Is the next transaction to wait?"""
        return self._under_way >= MAX_UNDER_WAY or (self._server.draining and self._mail is None)

    def _say(self, reply: Reply) -> None:
        """Answered with the others of its transaction: a frontend that pipelines waits for the last one only."""
        if self._said and isinstance(self._said[-1], bytes):
            self._said[-1] += reply.wire
        else:
            self._said.append(reply.wire)

    def _flush(self) -> None:
        """Write what is known, up to the last reply that somebody waits for."""
        out: list[bytes] = []
        while self._said:
            first = self._said[0]
            if isinstance(first, _Answer):
                if first.reply is None:
                    break
                first = first.reply.wire
            elif len(self._said) > 1 and cast(_Answer, self._said[1]).reply is None:
                break
            out.append(first)
            self._said.popleft()
        if out and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def _whole(self, mail: bytes, rcpt: bytes, content: bytes) -> None:
        """A message of which everything has come, as nearly all have: the same as line by line."""
        self._line(b"MAIL", mail)
        self._line(b"RCPT", rcpt)
        self._last = True
        self._piece(content)
        self._end(_END)

    def _line(self, verb: bytes, rest: bytes) -> None:
        try:
            self._command(verb, rest)
        except Refuse as refuse:
            self._say(refuse.reply)
        except UnicodeDecodeError:
            self._say(replies.SYNTAX)

    def _command(self, verb: bytes, rest: bytes) -> None:
        if verb == b"MAIL":
            self._mail_from(rest)
        elif verb == b"RCPT":
            self._rcpt_to(rest)
        elif verb == b"BDAT":
            chunk = parse_bdat(rest.decode())
            self._last = chunk.last
            self._reader.chunk(chunk.size)
        elif verb == b"EHLO":
            self._say(Reply(250, "", f"{self._server.host}\nPIPELINING\n8BITMIME\nSMTPUTF8\nCHUNKING\nBINARYMIME\nDSN\n"
                                     f"ENHANCEDSTATUSCODES\nXATOLL {AUTH_LINE}"))
        elif verb == b"AUTH":
            self._auth(rest.decode())
        elif verb == b"RSET":
            self._reset()
            self._say(replies.OK)
        elif verb == b"QUIT":
            self._say(replies.BYE)
            self._flush()
            self._transport.close()  # a frontend waits for its answers before it says so
        else:
            self._say(replies.UNKNOWN)

    def _reset(self) -> None:
        self._server.held -= self._size
        self._mail, self._refused, self._last, self._size = None, None, False, 0
        self._recipients, self._pieces = [], []

    def _auth(self, rest: str) -> None:
        mechanism, _, token = rest.partition(" ")
        if self._server.verifier is None or mechanism.upper() != "ATOLL" or self.claims is not None:
            raise Refuse(replies.SEQUENCE)
        try:
            self.claims = self._server.verifier.verify(token.encode(), peer_of(self._transport))
        except BadToken as bad:
            _log.warning("a token was refused", extra={"f": {"reason": str(bad)}})
            raise Refuse(replies.AUTH_FAILED) from None
        self._say(replies.AUTH_OK)

    def _mail_from(self, rest: bytes) -> None:
        if self._server.verifier is not None and self.claims is None:
            raise Refuse(replies.NEED_AUTH)
        self._reset()  # the frontend has given up what was begun
        mail = inside_mail(rest)
        self._facts = self._server.facts_of(mail.xatoll)
        if self.claims is None:
            self._mail = mail
            self._say(replies.OK)
        elif self._server.may_send is not None and not self._server.may_send(self.claims.sub):
            self._say(replies.OVER_SENDING_LIMIT)
        else:
            self._run(self._ask_sender(self.claims, mail))

    async def _ask_sender(self, claims: Claims, mail: InsideMail) -> None:
        """Sender rights: an address of the person's own, or one he was given the right to send as."""
        assert self._server.may_send_as is not None
        try:
            may = mail.mail.sender == "" or await self._server.may_send_as(claims.sub, mail.mail.sender)
        except RpcError:
            self._say(replies.TRY_LATER)
            return
        if may:
            self._mail = mail
            self._say(replies.OK)
        else:
            self._say(replies.NOT_YOURS)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        self._asking = True
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            _log.error("a hop command failed", exc_info=task.exception())
            self._transport.abort()
        self._asking = False
        self._go_on()

    def _go_on(self) -> None:
        """Say what has become known, take what has come meanwhile."""
        self._waking = False
        if self._transport.is_closing():
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if len(self._reader):
            self._work()
        else:
            self._flush()

    def _rcpt_to(self, rest: bytes) -> None:
        if self._mail is None:
            raise Refuse(replies.SEQUENCE)
        if len(self._recipients) >= self._server.recipients:
            raise Refuse(replies.TOO_MANY_RECIPIENTS)
        self._recipients.append(inside_rcpt(rest))
        self._say(replies.OK)

    def _piece(self, data: bytes) -> None:
        if self._refused is not None:
            return
        self._size += len(data)
        self._server.held += len(data)
        if self._size > self._server.limit + AUTH_LINE:
            self._refused, self._pieces = replies.TOO_BIG, []
        elif self._server.held > MAX_HELD:
            self._refused, self._pieces = replies.NO_SPACE, []
        else:
            self._pieces.append(data)

    def _end(self, _: End) -> None:
        if self._mail is None or not self._recipients:
            self._reset()
            self._say(replies.NO_RECIPIENTS)
        elif self._refused is not None:
            refused = self._refused
            if self._last:
                self._reset()
            self._say(refused)
        elif not self._last:
            self._say(replies.OK)
        elif not self._within_rate():
            self._reset()
            self._say(replies.TOO_MANY_MESSAGES if self.claims is None else replies.TOO_MANY_THIS_HOUR)
        else:
            self._hand_over(self._mail)

    def _within_rate(self) -> bool:
        rate = self._server.rate
        if rate is None:
            return True
        if self.claims is not None:
            return rate.take(self.claims.sub, len(self._recipients))
        return not self._facts.ip or rate.take(prefix_of(self._facts.ip))

    def _hand_over(self, mail: InsideMail) -> None:
        claims = self.claims
        seen: dict[str, Recipient] = {}
        for one in self._recipients:
            seen.setdefault(one.recipient, Recipient(one.recipient, tuple(sorted(one.notify)), one.orcpt))
        said = mail.mail
        envelope = Envelope(NetworkMessageId(mail.xid), said.sender, tuple(seen.values()), self._server.clock.now_ms(),
                            self._facts, claims.sub if claims else b"", said.body, said.utf8, said.ret, said.envid)
        content = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        size, self._size = self._size, 0  # of `held`: until it is answered
        self._reset()
        answer = _Answer()
        self._said.append(answer)
        self._under_way += 1
        self._server.accept(envelope, content, partial(self._answered, answer, size))

    def _answered(self, answer: _Answer, size: int, reply: Reply) -> None:
        answer.reply = reply
        self._server.held -= size
        self._under_way -= 1
        if not self._waking:  # when all that are answered in this turn of the loop are here
            self._waking = True
            asyncio.get_running_loop().call_soon(self._go_on)
