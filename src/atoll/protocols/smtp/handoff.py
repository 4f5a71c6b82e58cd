"""The frontend's connections to transport: SMTP with CHUNKING over a Unix socket (PROCESSES 6, 7).

In     an Envelope (sender, recipients, facts) and the content in one piece or in chunks.
Out    transport's reply to the whole: durable in a mailbox or in a queue when it is 250.
Spec   one write per transaction (MAIL, RCPT..., BDAT LAST), one EHLO. Small anonymous messages for one mailbox process
       go over one connection, each without waiting for the answers of those before it: what comes in one turn of the
       loop is one write. They are answered in order, so a mailbox process that is slow delays only its own; a large
       message, one for several processes, or one whose sender is checked first, has a connection to itself.
Fails  a connection that goes: the callers' reply is 451; what was not answered was not accepted.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import msgspec

from atoll.formats.smtp import replies
from atoll.formats.smtp.commands import MailFrom, RcptTo
from atoll.formats.smtp.replies import Reply, ReplyParser
from atoll.runtime.peers import Peer, peer_of

MAX_CONNECTIONS = 256
SMALL = 64 << 10
"""Octets up to which a message need not have a connection to itself."""
DEPTH = 64
"""Messages under way on a connection that is shared."""
WAIT_SECONDS = 30.0
"""How long a message waits for transport, which may be starting anew (PROCESSES 11), before the client hears 451."""
Done = Callable[[Reply], None]
_log = logging.getLogger("atoll.smtp.handoff")


Use = Callable[["HopConnection | None"], None]


def facts_word(facts: msgspec.Struct) -> str:
    """What XATOLL= says."""
    return base64.urlsafe_b64encode(msgspec.json.encode(facts)).decode("ascii")


def mail_line(mail: MailFrom, xatoll: str, xid: str) -> bytes:
    """MAIL, in our own words and their order: formats.smtp.inside reads nothing else."""
    words = [f"MAIL FROM:<{mail.sender}>"]
    if mail.body != "7BIT":
        words.append(f"BODY={mail.body}")
    if mail.utf8:
        words.append("SMTPUTF8")
    if mail.ret:
        words.append(f"RET={mail.ret}")
    if mail.envid:
        words.append(f"ENVID={mail.envid}")
    words.append(f"XATOLL={xatoll} XID={xid}")
    return " ".join(words).encode("utf-8") + b"\r\n"


def rcpt_line(rcpt: RcptTo) -> bytes:
    """RCPT, in our own words and their order."""
    words = [f"RCPT TO:<{rcpt.recipient}>"]
    if rcpt.notify:
        words.append(f"NOTIFY={','.join(sorted(rcpt.notify))}")
    if rcpt.orcpt:
        words.append(f"ORCPT={rcpt.orcpt}")
    return " ".join(words).encode("utf-8") + b"\r\n"


class HopConnection(asyncio.Protocol):
    """One connection to transport. ready: greeted, and its end has not come. on_lost: who must know that it went."""

    def __init__(self, trust: Callable[[Peer], bool], hello: bytes, on_ready: Callable[[HopConnection], None],
                 on_free: Callable[[HopConnection], None], on_lost: Callable[[HopConnection], None]) -> None:
        self._trust = trust
        self._hello = hello
        self._on_ready = on_ready
        self._on_free = on_free
        self.on_lost = on_lost
        self._parser = ReplyParser()
        self._expected: deque[Done] = deque()
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self.ready = False
        self.under_way = 0
        """Messages that share it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._trust(peer_of(transport)):
            self._transport.abort()
            return
        self._expected.append(_nothing)
        self.ask(self._hello, self._greeted)

    def _greeted(self, reply: Reply) -> None:
        if reply.code == 250:
            self.ready = True
            self._on_ready(self)
        else:
            self.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        try:
            while (reply := self._parser.next()) is not None:
                if reply.code == 421 or not self._expected:
                    self.close()
                    return
                self._expected.popleft()(reply)
        except ValueError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        waiting, self._expected = self._expected, deque()
        self.on_lost(self)
        self.ready = False
        for done in waiting:
            done(replies.TRY_LATER)

    def ask(self, data: bytes, done: Done, early: Done | None = None, count: int = 0) -> None:
        """Send one write: `count` replies go to early, the last one to done. Not connected: done gets 451."""
        if self._transport is None:
            done(replies.TRY_LATER)
            return
        for _ in range(count):
            self._expected.append(early or _nothing)
        self._expected.append(done)
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._write)
        self._unsent.append(data)

    def _write(self) -> None:
        """All that was asked in one turn of the loop."""
        unsent, self._unsent = self._unsent, []
        if self._transport is not None:
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    async def answer(self, data: bytes) -> Reply:
        """Send a command, wait for its reply."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.ask(data, lambda reply: None if answer.done() else answer.set_result(reply))
        return await answer

    def free(self) -> None:
        """The transaction is over."""
        if self.usable:
            self._on_free(self)

    @property
    def usable(self) -> bool:
        """Greeted, and not about to close."""
        return self.ready and self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Give the connection up; what waits is answered 451."""
        if self._transport is not None:
            self._transport.close()


def _nothing(_: object) -> None:
    """A reply that says nothing to us; a connection that nobody waits for."""


class Transaction:
    """One message on its way over a connection. Calls done once, after its last chunk."""

    def __init__(self, hop: HopConnection, mail: bytes, recipients: list[RcptTo], done: Done) -> None:
        self._hop = hop
        self._head = mail + b"".join([rcpt_line(rcpt) for rcpt in recipients])
        self._replies = len(recipients) + bool(mail)
        self._done = done
        self._verdict: Reply | None = None
        self._over = False

    def send(self, data: bytes, *, last: bool, more: Done) -> None:
        """A chunk. more: called with its reply, when the next one may come."""
        head, self._head = self._head, b""
        count, self._replies = self._replies, 0
        chunk = b"%sBDAT %d%s\r\n%s" % (head, len(data), b" LAST" if last else b"", data)
        self._hop.ask(chunk, self._last if last else partial(self._chunk, more), self._early, count)

    def abort(self) -> None:
        """The content turned out bad: nothing of it may be accepted."""
        self._over = True
        self._hop.close()

    def _early(self, reply: Reply) -> None:
        if reply.code >= 400 and self._verdict is None:
            self._verdict = reply

    def _chunk(self, more: Done, reply: Reply) -> None:
        if not self._over:
            more(self._verdict or reply)

    def _last(self, reply: Reply) -> None:
        if self._over:
            return
        self._over = True
        self._hop.free()
        self._done(self._verdict if self._verdict is not None and reply.code >= 400 else reply)


class _Whole:
    """A small message on its way over a connection that it shares. Calls done once."""

    __slots__ = ("_done", "_freed", "_hop", "_verdict")

    def __init__(self, hop: HopConnection, freed: Callable[[HopConnection], None], done: Done) -> None:
        self._hop = hop
        self._freed = freed
        self._done = done
        self._verdict: Reply | None = None

    def early(self, reply: Reply) -> None:
        """The reply to MAIL or to a RCPT."""
        if reply.code >= 400 and self._verdict is None:
            self._verdict = reply

    def last(self, reply: Reply) -> None:
        """The reply to the whole."""
        self._hop.under_way -= 1
        self._freed(self._hop)
        self._done(self._verdict if self._verdict is not None and reply.code >= 400 else reply)


class Handoff:
    """A pool of connections to one of transport's sockets."""

    def __init__(self, path: Path, host: str, trust: Callable[[Peer], bool]) -> None:
        self._path = path
        self._hello = f"EHLO {host}\r\n".encode()
        self._trust = trust
        self._idle: list[HopConnection] = []
        self._shared: dict[str, HopConnection] = {}
        """Lane (the name of a mailbox process) -> the connection that its messages share."""
        self._open = 0
        self._waiting: deque[tuple[float, Use]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def take(self, use: Use) -> None:
        """use is called with a connection of its own (at once if one is idle), or None: transport is away."""
        while self._idle:
            hop = self._idle.pop()
            if hop.usable:
                use(hop)
                return
        loop = asyncio.get_running_loop()
        self._waiting.append((loop.time() + WAIT_SECONDS, use))
        if self._timer is None:
            self._timer = loop.call_later(WAIT_SECONDS, self._late)
        self._grow()

    def send(self, lane: str, mail: bytes, recipients: list[RcptTo], content: bytes, done: Done) -> None:
        """Hand over a small message, behind others of its lane."""
        octets = b"".join([mail, *map(rcpt_line, recipients), b"BDAT %d LAST\r\n" % len(content), content])
        shared = self._shared.get(lane)
        if shared is not None and shared.usable and shared.under_way < DEPTH:
            self._ask(shared, octets, len(recipients), done)
        else:
            self.take(partial(self._share, lane, octets, len(recipients), done))

    def _share(self, lane: str, octets: bytes, recipients: int, done: Done, hop: HopConnection | None) -> None:
        if hop is None:
            done(replies.TRY_LATER)
            return
        shared = self._shared.get(lane)
        if shared is not None and shared.usable and shared.under_way < DEPTH:  # another one brought it meanwhile
            self._ask(shared, octets, recipients, done)
            self._free(hop)
        else:
            self._shared[lane] = hop
            self._ask(hop, octets, recipients, done)

    def _ask(self, hop: HopConnection, octets: bytes, recipients: int, done: Done) -> None:
        whole = _Whole(hop, self._answered, done)
        hop.under_way += 1
        hop.ask(octets, whole.last, whole.early, recipients + 1)

    def _answered(self, hop: HopConnection) -> None:
        """One that is shared no longer goes back when its last message is answered."""
        if not hop.under_way and hop.usable and hop not in self._shared.values():
            self._free(hop)

    def _grow(self) -> None:
        if self._open < MAX_CONNECTIONS:
            self._open += 1
            task = asyncio.get_running_loop().create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(
                lambda: HopConnection(self._trust, self._hello, self._free, self._free, self._lost), str(self._path))
        except OSError as error:
            _log.warning("transport cannot be reached", extra={"f": {"error": str(error)}})
            self._open -= 1
            self._refuse(float("inf"))

    async def connect(self) -> HopConnection | None:
        """A connection outside the pool (submission); None: transport is away."""
        ready: asyncio.Future[HopConnection | None] = asyncio.get_running_loop().create_future()

        def settle(hop: HopConnection | None) -> None:
            if not ready.done():
                ready.set_result(hop)

        hop = HopConnection(self._trust, self._hello, settle, _nothing, lambda _: settle(None))
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: hop, str(self._path))
            return await asyncio.wait_for(ready, WAIT_SECONDS)
        except (OSError, TimeoutError):
            hop.close()
            return None
        except asyncio.CancelledError:
            hop.close()
            raise

    def _free(self, hop: HopConnection) -> None:
        if self._waiting:
            self._waiting.popleft()[1](hop)
        else:
            self._idle.append(hop)

    def _lost(self, hop: HopConnection) -> None:
        self._open -= 1
        if hop in self._idle:
            self._idle.remove(hop)
        self._shared = {lane: shared for lane, shared in self._shared.items() if shared is not hop}
        if not hop.ready:  # never greeted: another would fare no better
            self._refuse(float("inf"))
        elif self._waiting:
            self._grow()

    def _late(self) -> None:
        """One timer for all that wait."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        self._refuse(now)
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(self._waiting[0][0] - now, self._late)

    def _refuse(self, until: float) -> None:
        while self._waiting and self._waiting[0][0] <= until:
            self._waiting.popleft()[1](None)

    def close(self) -> None:
        """Close what is idle or shared."""
        if self._timer is not None:
            self._timer.cancel()
        for hop in [*self._idle, *self._shared.values()]:
            hop.close()
