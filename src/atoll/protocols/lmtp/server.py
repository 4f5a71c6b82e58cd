"""LMTP in the mailbox role: what is answered 250 is committed.

In     transactions of transport: the kernel says which process connects. RCPT TO:<mailbox id@database> XATOLL=<facts>.
Out    Store.deliver for all recipients of a message as one; a reply for each [RFC 2033 §4.2].
Spec   docs/seams.md 6; PROCESSES 7; the scan is here and nowhere else (ARCHITECTURE, Transport). Transactions of a
       connection are delivered at the same time and answered in order [RFC 2920]: those of a group commit in one write.
Fails  552 5.2.2 over quota, 451 4.2.1 not mounted or in doubt, 550 5.1.1 no such mailbox.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
import socket
from collections import deque
from collections.abc import Callable
from typing import cast

import msgspec

from atoll.base.failpoints import FAILPOINTS
from atoll.base.ids import MailboxId
from atoll.base.version import PRODUCT, __version__
from atoll.content import Scanner, quick
from atoll.formats.mime import scan
from atoll.formats.smtp import replies
from atoll.formats.smtp.commands import Refuse, parse_bdat
from atoll.formats.smtp.reader import AUTH_LINE, End, Line, LineTooLong, Piece, Reader
from atoll.formats.smtp.replies import Reply
from atoll.mailbox import Content, Delivered, Delivery, Store, StoreCode, StoreError
from atoll.runtime.peers import Peer, peer_of
from atoll.runtime.sockets import serve_unix
from atoll.transport.envelope import LmtpFacts

MAX_UNDER_WAY = 256
"""Transactions of one connection: more wait in its socket."""
DELIVERED = Reply(250, "2.1.5", "Ok copies=1")
_REFUSALS = {
    StoreCode.OVER_QUOTA: Reply(552, "5.2.2", "Mailbox full"),
    StoreCode.NO_FOLDER: Reply(550, "5.1.1", "No such mailbox"),
    StoreCode.TOO_BIG: Reply(552, "5.3.4", "Message too big"),
    StoreCode.UNAVAILABLE: Reply(451, "4.2.1", "The mailbox is not available just now"),
}
# Transport says nothing else: its own words, made from what it parsed (docs/seams.md 6).
_MAIL = re.compile(rb"FROM:<([^\x00-\x1f]{0,400})>(?: SMTPUTF8)?")
_RCPT = re.compile(rb"TO:<([0-9a-f]{32})@[a-z0-9-]{1,31}> XATOLL=([A-Za-z0-9_=-]{1,4000})")
_RETURN_PATH = re.compile(rb"\nreturn-path[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*", re.IGNORECASE)
_WHOLE = re.compile(rb"MAIL FROM:<([ -~]{0,400})>(?: SMTPUTF8)?\r\nRCPT (TO:<[0-9a-f]{32}@[ -~]{1,4100})\r\n"
                    rb"BDAT ([0-9]{1,9}) LAST\r\n")
"""The command lines of a message for one recipient: sender, what stands behind RCPT, the octets of the content."""
_FACTS = msgspec.msgpack.Decoder(LmtpFacts).decode
_END = End()
_log = logging.getLogger("atoll.lmtp")


class LmtpServer:
    """What the connections share."""

    def __init__(self, store: Store, *, admit: Callable[[Peer], bool], scanner: Scanner | None = None) -> None:
        self.store = store
        self.scanner = scanner or Scanner()
        self.admit = admit
        self.connections: set[LmtpSession] = set()
        self._servers: list[asyncio.Server] = []

    async def serve(self, sock: socket.socket) -> None:
        """Accept on a listening Unix socket."""
        self._servers.append(await serve_unix(lambda: LmtpSession(self), sock))

    async def close(self) -> None:
        """No new transactions; those in flight are answered."""
        for server in self._servers:
            server.close()
        busy = [task for session in self.connections for task in session.tasks]
        if busy:
            await asyncio.wait(busy, timeout=10)
        for session in list(self.connections):
            session.end()


class LmtpSession(asyncio.Protocol):
    """One connection of transport."""

    __slots__ = ("_last", "_paused", "_pieces", "_quitting", "_reader", "_said", "_sender", "_server", "_targets",
                 "_transport", "_waking", "tasks")

    def __init__(self, server: LmtpServer) -> None:
        self._server = server
        self._reader = Reader(AUTH_LINE)
        self._transport: asyncio.Transport
        self._sender: bytes | None = None
        self._targets: list[tuple[MailboxId, LmtpFacts]] = []
        self._pieces: list[bytes] = []
        self._said: deque[bytes | asyncio.Task[bytes]] = deque()
        """Replies that wait for those before them, and deliveries that will end with theirs."""
        self._last = False
        self._paused = self._quitting = self._waking = False
        self.tasks: set[asyncio.Task[bytes]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._server.admit(peer_of(transport)):
            self._transport.abort()
            return
        self._server.connections.add(self)
        self._transport.write(f"220 mailbox LMTP {PRODUCT} {__version__}\r\n".encode())

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)

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
            while len(self.tasks) < MAX_UNDER_WAY:
                if (whole := self._reader.whole(_WHOLE)) is not None:
                    (sender, rcpt, _), content = whole
                    self._whole(sender, rcpt, content)
                    continue
                event = self._reader.next()
                if event is None:
                    break
                if isinstance(event, Line):
                    verb, _, rest = event.text.partition(b" ")
                    self._line(verb.upper(), rest)
                elif isinstance(event, Piece):
                    self._pieces.append(event.data)
                else:
                    self._end(event)
        except LineTooLong:
            self._transport.abort()
            return
        if len(self.tasks) >= MAX_UNDER_WAY:
            self._paused = True
            self._transport.pause_reading()
        self._flush()

    def _say(self, reply: Reply) -> None:
        """Answered with the others of its transaction: transport pipelines and waits for the last one only."""
        if self._said and isinstance(self._said[-1], bytes):
            self._said[-1] += reply.wire
        else:
            self._said.append(reply.wire)

    def _flush(self) -> None:
        """Write what is known, up to the last reply that somebody waits for."""
        out: list[bytes] = []
        delivered = False
        while self._said:
            first = self._said[0]
            if isinstance(first, asyncio.Task):
                if not first.done():
                    break
                if first.cancelled() or first.exception() is not None:
                    self._transport.abort()
                    return
                first, delivered = first.result(), True
            elif len(self._said) > 1 and not cast("asyncio.Task[bytes]", self._said[1]).done():
                break
            out.append(first)
            self._said.popleft()
        if out and not self._transport.is_closing():
            self._transport.write(b"".join(out))
        if delivered and FAILPOINTS.active:
            FAILPOINTS.hit("lmtp.reply.after")
        if self._quitting and not self._said:
            self._transport.close()

    def _whole(self, sender: bytes, rcpt: bytes, content: bytes) -> None:
        """A message of which everything has come, as nearly all have: the same as line by line."""
        self._sender, self._targets, self._pieces = sender, [], [content]
        self._say(replies.OK)
        self._line(b"RCPT", rcpt)
        self._last = True
        self._end(_END)

    def _line(self, verb: bytes, rest: bytes) -> None:
        try:
            self._command(verb, rest)
        except Refuse as refuse:
            self._say(refuse.reply)
        except (UnicodeDecodeError, binascii.Error, msgspec.DecodeError):
            self._say(replies.SYNTAX)

    def _command(self, verb: bytes, rest: bytes) -> None:
        if verb == b"MAIL":
            found = _MAIL.fullmatch(rest)
            if found is None:
                raise Refuse(replies.SYNTAX)
            self._sender, self._targets, self._pieces = found[1], [], []
            self._say(replies.OK)
        elif verb == b"RCPT":
            if self._sender is None:
                raise Refuse(replies.SEQUENCE)
            found = _RCPT.fullmatch(rest)
            if found is None:
                raise Refuse(replies.SYNTAX)
            facts = _FACTS(base64.urlsafe_b64decode(found[2]))
            self._targets.append((MailboxId(bytes.fromhex(found[1].decode())), facts))
            self._say(replies.OK)
        elif verb == b"BDAT":
            chunk = parse_bdat(rest.decode())
            self._last = chunk.last
            self._reader.chunk(chunk.size)
        elif verb == b"LHLO":
            self._say(Reply(250, "", "mailbox\nPIPELINING\nCHUNKING\n8BITMIME\nSMTPUTF8\nENHANCEDSTATUSCODES\nXATOLL"))
        elif verb in (b"RSET", b"NOOP"):
            self._sender, self._targets, self._pieces = None, [], []
            self._say(replies.OK)
        elif verb == b"QUIT":
            self._say(replies.BYE)
            self._quitting = True
        else:
            self._say(replies.UNKNOWN)

    def _end(self, _: End) -> None:
        if not self._last:
            self._say(replies.OK)
        elif self._sender is None or not self._targets:
            self._say(replies.NO_RECIPIENTS)
        else:
            pieces, self._pieces = self._pieces, []
            task = asyncio.get_running_loop().create_task(self._deliver(self._sender, self._targets, pieces))
            self._sender = None
            self._said.append(task)
            self.tasks.add(task)
            task.add_done_callback(self._delivered)

    async def _deliver(self, sender: bytes, targets: list[tuple[MailboxId, LmtpFacts]], pieces: list[bytes]) -> bytes:
        """The replies to one transaction."""
        data = _one_return_path(b"".join([b"Return-Path: <", sender, b">\r\n", *pieces]))
        content = Content(data, scan(data) if quick(data) else await self._server.scanner.scan(data))
        results = await self._server.store.deliver(
            [Delivery(mailbox, _folder(facts), content, facts.received, facts.key, junk=facts.junk)
             for mailbox, facts in targets])
        if FAILPOINTS.active:
            FAILPOINTS.hit("lmtp.reply.before")
        return b"".join([_reply(result).wire for result in results])  # failpoint: lmtp.reply.after

    def _delivered(self, task: asyncio.Task[bytes]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a delivery failed", exc_info=task.exception())
        if not self._waking:  # when all that were committed together are here
            self._waking = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
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


def _one_return_path(data: bytes) -> bytes:
    """Without those that the message brought: whoever delivers writes the only one [RFC 5321 §4.4]."""
    end = data.find(b"\r\n\r\n") + 1  # with the CR of its last line
    if end <= 0 or _RETURN_PATH.search(data, 0, end) is None:
        return data
    return _RETURN_PATH.sub(b"", data[:end]) + data[end:]


def _folder(facts: LmtpFacts) -> str:
    """Where a copy goes: the folder that +detail names, if the mailbox has it (Store.deliver falls back to INBOX)."""
    return facts.detail or "INBOX"


def _reply(result: Delivered | StoreError) -> Reply:
    if isinstance(result, Delivered):
        return DELIVERED
    return _REFUSALS.get(result.code, Reply(451, "4.3.0", "Not delivered just now"))
