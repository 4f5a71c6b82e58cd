"""The frontend's connections to transport: SMTP with CHUNKING over a Unix socket (PROCESSES 6, 7).

In     an Envelope (sender, recipients, facts) and the content in one piece or in chunks.
Out    transport's reply to the whole: durable in a mailbox or in a queue when it is 250.
Spec   one write per transaction (MAIL, RCPT..., BDAT LAST), one transaction in flight per connection, one EHLO.
Fails  a connection that goes: the callers' reply is 451; what was not answered was not accepted.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from atoll.formats.smtp import replies
from atoll.formats.smtp.commands import MailFrom, RcptTo
from atoll.formats.smtp.replies import Reply, ReplyParser
from atoll.runtime.peers import Peer, peer_of

MAX_CONNECTIONS = 64
Done = Callable[[Reply], None]


def facts_word(facts: msgspec.Struct) -> str:
    """What XATOLL= says."""
    return base64.urlsafe_b64encode(msgspec.json.encode(facts)).decode("ascii")


def mail_line(mail: MailFrom, xatoll: str) -> bytes:
    """MAIL, in our own words."""
    words = [f"MAIL FROM:<{mail.sender}>"]
    if mail.body != "7BIT":
        words.append(f"BODY={mail.body}")
    if mail.utf8:
        words.append("SMTPUTF8")
    if mail.ret:
        words.append(f"RET={mail.ret}")
    if mail.envid:
        words.append(f"ENVID={mail.envid}")
    if xatoll:
        words.append(f"XATOLL={xatoll}")
    return " ".join(words).encode("utf-8") + b"\r\n"


def rcpt_line(rcpt: RcptTo) -> bytes:
    """RCPT, in our own words."""
    words = [f"RCPT TO:<{rcpt.recipient}>"]
    if rcpt.notify:
        words.append(f"NOTIFY={','.join(sorted(rcpt.notify))}")
    if rcpt.orcpt:
        words.append(f"ORCPT={rcpt.orcpt}")
    return " ".join(words).encode("utf-8") + b"\r\n"


class HopConnection(asyncio.Protocol):
    """One connection to transport. idle: no transaction is in flight."""

    def __init__(self, trust: Callable[[Peer], bool], on_free: Callable[[HopConnection], None],
                 on_lost: Callable[[HopConnection], None], hello: bytes) -> None:
        self._trust = trust
        self._on_free = on_free
        self._on_lost = on_lost
        self._hello = hello
        self._parser = ReplyParser()
        self._expected: deque[Done | None] = deque()
        self._transport: asyncio.Transport | None = None
        self.ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._trust(peer_of(transport)):
            self._transport.abort()
            return
        self._expected.append(None)
        self.ask(self._hello, self._greeted)

    def _greeted(self, reply: Reply) -> None:
        if reply.code == 250:
            self.ready = True
            self._on_free(self)
        else:
            self.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        try:
            while (reply := self._parser.next()) is not None:
                if reply.code == 421 or not self._expected:
                    self.close()
                    return
                done = self._expected.popleft()
                if done is not None:
                    done(reply)
        except ValueError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport, self.ready = None, False
        waiting, self._expected = self._expected, deque()
        self._on_lost(self)
        for done in waiting:
            if done is not None:
                done(replies.TRY_LATER)

    def ask(self, data: bytes, done: Done | None) -> None:
        """Send; done is called with the reply. None: the reply says nothing to us."""
        if self._transport is None:
            if done is not None:
                done(replies.TRY_LATER)
            return
        self._expected.append(done)
        self._transport.write(data)

    def free(self) -> None:
        """The transaction is over."""
        if self._transport is not None:
            self._on_free(self)

    def close(self) -> None:
        """Give the connection up; what waits is answered 451."""
        if self._transport is not None:
            self._transport.close()


class Transaction:
    """One message on its way over a connection. Calls done once."""

    def __init__(self, hop: HopConnection, mail: bytes, recipients: list[RcptTo], done: Done) -> None:
        self._hop = hop
        self._head = mail + b"".join([rcpt_line(rcpt) for rcpt in recipients])
        self._replies = len(recipients) + 1 if mail else len(recipients)
        self._done = done
        self._verdict: Reply | None = None
        self._over = False

    def send(self, data: bytes, *, last: bool, more: Callable[[], None] | None = None) -> None:
        """A chunk. more: called when the next one may come."""
        head, self._head = self._head, b""
        if head:
            for _ in range(self._replies):
                self._hop._expected.append(self._early)
        chunk = b"%sBDAT %d%s\r\n%s" % (head, len(data), b" LAST" if last else b"", data)
        self._hop.ask(chunk, self._last if last else lambda reply: self._chunk(reply, more))

    def abort(self) -> None:
        """The content turned out bad: nothing of it may be accepted."""
        self._over = True
        self._hop.close()

    def _early(self, reply: Reply) -> None:
        if reply.code >= 400 and self._verdict is None:
            self._verdict = reply

    def _chunk(self, reply: Reply, more: Callable[[], None] | None) -> None:
        self._early(reply)
        if more is not None and not self._over:
            more()

    def _last(self, reply: Reply) -> None:
        if self._over:
            return
        self._over = True
        verdict = self._verdict if self._verdict is not None and reply.code >= 400 else reply
        if reply is not replies.TRY_LATER:
            self._hop.free()
        self._done(verdict)


class Handoff:
    """A pool of connections to one of transport's sockets."""

    def __init__(self, path: Path, host: str, trust: Callable[[Peer], bool]) -> None:
        self._path = path
        self._hello = f"EHLO {host}\r\n".encode()
        self._trust = trust
        self._idle: list[HopConnection] = []
        self._open = 0
        self._waiting: deque[Callable[[HopConnection | None], None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, use: Callable[[HopConnection | None], None]) -> None:
        """use is called with a connection of its own (at once if one is idle), or None: transport is away."""
        while self._idle:
            hop = self._idle.pop()
            if hop.ready:
                use(hop)
                return
        self._waiting.append(use)
        if self._open < MAX_CONNECTIONS:
            self._open += 1
            task = asyncio.get_running_loop().create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def connect(self) -> HopConnection | None:
        """A connection outside the pool (submission); None: transport is away."""
        ready: asyncio.Future[HopConnection | None] = asyncio.get_running_loop().create_future()

        def settle(hop: HopConnection | None) -> None:
            if not ready.done():
                ready.set_result(hop)

        try:
            await asyncio.get_running_loop().create_unix_connection(
                lambda: HopConnection(self._trust, settle, lambda _: settle(None), self._hello), str(self._path))
        except OSError:
            return None
        return await ready

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(
                lambda: HopConnection(self._trust, self._free, self._lost, self._hello), str(self._path))
        except OSError:
            self._open -= 1
            if self._waiting:
                self._waiting.popleft()(None)

    def _free(self, hop: HopConnection) -> None:
        if self._waiting:
            self._waiting.popleft()(hop)
        else:
            self._idle.append(hop)

    def _lost(self, hop: HopConnection) -> None:
        self._open -= 1
        if hop in self._idle:
            self._idle.remove(hop)
        if self._waiting and self._open == 0:
            self._waiting.popleft()(None)

    def close(self) -> None:
        """Close what is idle."""
        for hop in list(self._idle):
            hop.close()
