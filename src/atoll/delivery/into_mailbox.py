"""Deliver into mailbox processes: LMTP with PIPELINING and CHUNKING over their Unix sockets.

In     a message, the recipients that live in one mailbox process.
Out    a reply for each recipient; 250 means that the mailbox has committed its copy.
Spec   [RFC 2033], [RFC 3030]; PROCESSES 7: one write per transaction, pooled connections, one transaction in flight on
       each, no LHLO per message. A delivery key per recipient makes a repeated attempt find its first result.
Fails  451 for every recipient that was not answered in time or whose connection went: the outcome is unknown, and the
       key settles it at the next attempt.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import msgspec

from atoll.base.failpoints import FAILPOINTS
from atoll.base.ids import to_text
from atoll.formats.smtp import replies
from atoll.formats.smtp.replies import Reply, ReplyParser
from atoll.runtime.peers import Peer, peer_of
from atoll.transport.envelope import Target

PATIENCE = 5.0
"""Seconds until a mailbox that does not answer makes its recipients wait in the queue (PROCESSES 7)."""
MAX_CONNECTIONS = 32
_log = logging.getLogger("atoll.delivery")


Done = Callable[[list[Reply]], None]


class _Transaction:
    __slots__ = ("accepted", "done", "replies", "timer", "wanted")

    def __init__(self, count: int, done: Done) -> None:
        self.wanted = count
        self.replies: list[Reply | None] = [None] * count
        self.accepted: list[int] = []
        self.done = done
        self.timer: asyncio.TimerHandle | None = None


class _Connection(asyncio.Protocol):
    """One LMTP connection to a mailbox process."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._parser = ReplyParser()
        self._transport: asyncio.Transport | None = None
        self._current: _Transaction | None = None
        self._stage = 0
        self._expect: deque[Callable[[Reply], None]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._pool.trust(peer_of(transport)):
            self._transport.abort()
            return
        self._expect.append(lambda _: None)
        self._expect.append(self._greeted)
        self._transport.write(b"LHLO transport\r\n")

    def _greeted(self, reply: Reply) -> None:
        if reply.code == 250:
            self._pool.free(self)
        elif self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        try:
            while (reply := self._parser.next()) is not None:
                if not self._expect:
                    raise ValueError("a reply to nothing")
                self._expect.popleft()(reply)
        except ValueError:
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._expect.clear()
        current, self._current = self._current, None
        self._pool.lost(self)
        if current is not None:
            self._settle(current)

    def send(self, sender: bytes, targets: Sequence[Target], content: bytes, done: Done) -> None:
        """Start a transaction; done gets one reply for each target."""
        assert self._transport is not None
        current = self._current = _Transaction(len(targets), done)
        current.timer = asyncio.get_running_loop().call_later(PATIENCE + len(content) / 10e6, self._late)
        lines = [b"MAIL FROM:<%s>\r\n" % sender]
        self._expect.append(lambda _: None)
        for at, target in enumerate(targets):
            word = base64.urlsafe_b64encode(msgspec.msgpack.encode(target.facts))
            lines.append(b"RCPT TO:<%s@%s> XATOLL=%s\r\n" % (to_text(target.mailbox).encode(), target.database.encode(),
                                                           word))
            self._expect.append(partial(self._recipient, at))
        lines.append(b"BDAT %d LAST\r\n" % len(content))
        if FAILPOINTS.active:
            FAILPOINTS.hit("delivery.send.before")
        if len(content) < 65536:
            self._transport.write(b"".join(lines) + content)
        else:
            self._transport.write(b"".join(lines))
            self._transport.write(content)

    def _recipient(self, at: int, reply: Reply) -> None:
        current = self._current
        assert current is not None
        if reply.code == 250:
            current.accepted.append(at)
        else:
            current.replies[at] = reply
        if at == current.wanted - 1:  # one reply for each accepted recipient follows [RFC 2033 §4.2]
            if not current.accepted:
                self._expect.append(self._over)
            for accepted in current.accepted:
                self._expect.append(partial(self._result, accepted))

    def _result(self, at: int, reply: Reply) -> None:
        current = self._current
        assert current is not None
        current.replies[at] = reply
        if at == current.accepted[-1]:
            self._over(reply)

    def _over(self, _: Reply) -> None:
        current, self._current = self._current, None
        assert current is not None
        if FAILPOINTS.active:
            FAILPOINTS.hit("delivery.reply.after")
        self._settle(current)
        if self._transport is not None:
            self._pool.free(self)

    def _late(self) -> None:
        _log.warning("a mailbox process does not answer", extra={"f": {"seconds": PATIENCE}})
        if self._transport is not None:
            self._transport.abort()

    @staticmethod
    def _settle(current: _Transaction) -> None:
        if current.timer is not None:
            current.timer.cancel()
        current.done([reply if reply is not None else replies.TRY_LATER for reply in current.replies])

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Pool:
    """Connections to one mailbox process."""

    def __init__(self, path: Path, trust: Callable[[Peer], bool]) -> None:
        self.path = path
        self.trust = trust
        self.idle: list[_Connection] = []
        self.open = 0
        self.waiting: deque[tuple[bytes, Sequence[Target], bytes, Done]] = deque()
        self.tasks: set[asyncio.Task[None]] = set()

    def send(self, sender: bytes, targets: Sequence[Target], content: bytes, done: Done) -> None:
        if self.idle:
            self.idle.pop().send(sender, targets, content, done)
            return
        self.waiting.append((sender, targets, content, done))
        if self.open < MAX_CONNECTIONS:
            self.open += 1
            task = asyncio.get_running_loop().create_task(self._connect())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: _Connection(self), str(self.path))
        except OSError:
            self.open -= 1
            self._refuse()

    def free(self, connection: _Connection) -> None:
        if self.waiting:
            connection.send(*self.waiting.popleft())
        else:
            self.idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        self.open -= 1
        if connection in self.idle:
            self.idle.remove(connection)
        if self.open == 0:
            self._refuse()

    def _refuse(self) -> None:
        """The process is away: who waits is told so, and goes to the queue."""
        while self.open == 0 and self.waiting:
            _, targets, _, done = self.waiting.popleft()
            done([replies.TRY_LATER] * len(targets))


class IntoMailbox:
    """Delivery to every mailbox process of this island. path_of: a backend's name -> its LMTP socket."""

    def __init__(self, path_of: Callable[[str], Path], trust: Callable[[Peer], bool]) -> None:
        self._path_of = path_of
        self._trust = trust
        self._pools: dict[str, _Pool] = {}

    def deliver(self, backend: str, sender: str, targets: Sequence[Target], content: bytes, done: Done) -> None:
        """done is called once, later, with a reply for each target."""
        pool = self._pools.get(backend)
        if pool is None:
            pool = self._pools[backend] = _Pool(self._path_of(backend), self._trust)
        pool.send(sender.encode("utf-8", "surrogatepass"), targets, content, done)

    def close(self) -> None:
        """Close what is idle."""
        for pool in self._pools.values():
            for connection in list(pool.idle):
                connection.close()
