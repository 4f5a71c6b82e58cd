"""Deliver into mailbox processes: LMTP with PIPELINING and CHUNKING over their Unix sockets.

In     a message, the recipients that live in one mailbox process.
Out    a reply for each recipient; 250 means that the mailbox has committed its copy.
Spec   [RFC 2033], [RFC 3030]; PROCESSES 7: one write per transaction, pooled connections, one transaction in flight on
       each, no LHLO per message. A delivery key per recipient makes a repeated attempt find its first result.
Fails  451 for every recipient that was not answered in time or whose connection went: the outcome is unknown, and the
       key settles it at the next attempt. A mailbox process that does not understand us (50x) is such a case too.
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
from atoll.formats.smtp import replies
from atoll.formats.smtp.replies import Reply, ReplyParser
from atoll.runtime.peers import Peer, peer_of
from atoll.transport.envelope import Target

PATIENCE = 5.0
"""Seconds until a mailbox that does not answer makes its recipients wait in the queue (PROCESSES 7)."""
OCTETS_PER_SECOND = 10e6
"""A large message may take longer by this."""
MAX_CONNECTIONS = 32
_log = logging.getLogger("atoll.delivery")
_encode = msgspec.msgpack.Encoder().encode
Done = Callable[[list[Reply]], None]


class _Transaction:
    """One message for one mailbox process."""

    __slots__ = ("accepted", "connection", "content", "done", "head", "replies", "timer")

    def __init__(self, sender: str, targets: Sequence[Target], content: bytes, done: Done) -> None:
        utf8 = "" if sender.isascii() else " SMTPUTF8"
        lines = [f"MAIL FROM:<{sender}>{utf8}\r\n".encode()]
        for target in targets:
            lines.append(b"RCPT TO:<%s@%s> XATOLL=%s\r\n" % (
                target.mailbox.hex().encode(), target.database.encode(),
                base64.urlsafe_b64encode(_encode(target.facts))))
        lines.append(b"BDAT %d LAST\r\n" % len(content))
        self.head = b"".join(lines)
        self.content = content
        self.replies: list[Reply] = [replies.TRY_LATER] * len(targets)
        self.accepted: list[int] = []
        self.done = done
        self.timer: asyncio.TimerHandle | None = None
        self.connection: _Connection | None = None

    def lost(self) -> None:
        """Its connection went: of those without a reply nothing is known."""
        self.replies = [replies.LOST if reply is replies.TRY_LATER else reply for reply in self.replies]

    def settle(self) -> None:
        """Say what became of each recipient."""
        assert self.timer is not None
        self.timer.cancel()
        self.done([replies.TRY_LATER if 500 <= reply.code < 505 else reply for reply in self.replies])


class _Connection(asyncio.Protocol):
    """One LMTP connection to a mailbox process."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._parser = ReplyParser()
        self._transport: asyncio.Transport | None = None
        self._current: _Transaction | None = None
        self._expect: deque[Callable[[Reply], None]] = deque()
        self.ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._pool.trust(peer_of(transport)):
            self._transport.abort()
        self._pool.connections.add(self)
        self._expect += (_ignore, self._greeted)
        self._transport.write(b"LHLO transport\r\n")

    def _greeted(self, reply: Reply) -> None:
        if reply.code == 250:
            self.ready = True
            self._pool.free(self)
        else:
            self.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        try:
            while (reply := self._parser.next()) is not None:
                if reply.code == 421 or not self._expect:
                    self.close()
                    return
                self._expect.popleft()(reply)
        except ValueError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._expect.clear()
        current, self._current = self._current, None
        self._pool.lost(self)
        if current is not None:
            current.lost()
            current.settle()  # failpoint: none, there was no answer

    def send(self, current: _Transaction) -> None:
        """Begin a transaction: one write."""
        assert self._transport is not None
        self._current, current.connection = current, self
        self._expect.append(_ignore)  # of MAIL: where it is refused, every RCPT is
        for at in range(len(current.replies)):
            self._expect.append(partial(self._recipient, current, at))
        if FAILPOINTS.active:
            FAILPOINTS.hit("delivery.send.before")
        if len(current.content) < 65536:
            self._transport.write(current.head + current.content)
        else:
            self._transport.write(current.head)
            self._transport.write(current.content)

    def _recipient(self, current: _Transaction, at: int, reply: Reply) -> None:
        current.replies[at] = reply
        if reply.code == 250:
            current.replies[at] = replies.TRY_LATER  # until its own reply has come
            current.accepted.append(at)
        if at == len(current.replies) - 1:  # one reply for each accepted recipient follows [RFC 2033 §4.2]
            for accepted in current.accepted:
                self._expect.append(partial(self._result, current, accepted))
            if not current.accepted:
                self._expect.append(partial(self._over, current))

    def _result(self, current: _Transaction, at: int, reply: Reply) -> None:
        current.replies[at] = reply
        if at == current.accepted[-1]:
            self._over(current, reply)

    def _over(self, current: _Transaction, _: Reply) -> None:
        self._current = None
        if FAILPOINTS.active:
            FAILPOINTS.hit("delivery.reply.after")
        if self._transport is not None:
            self._pool.free(self)
        current.settle()

    def close(self) -> None:
        """Give the connection up; what is under way is of unknown outcome."""
        if self._transport is not None:
            self._transport.abort()


def _ignore(_: Reply) -> None:
    """A reply that says nothing to us."""


class _Pool:
    """Connections to one mailbox process."""

    def __init__(self, path: Path, trust: Callable[[Peer], bool], patience: float) -> None:
        self.path = path
        self.trust = trust
        self.patience = patience
        self.connections: set[_Connection] = set()
        self.idle: list[_Connection] = []
        self.opening = 0
        self.waiting: deque[_Transaction] = deque()
        self.tasks: set[asyncio.Task[None]] = set()

    def send(self, transaction: _Transaction) -> None:
        loop = asyncio.get_running_loop()
        transaction.timer = loop.call_later(self.patience + len(transaction.content) / OCTETS_PER_SECOND, self._late,
                                            transaction)
        if self.idle:
            self.idle.pop().send(transaction)
            return
        self.waiting.append(transaction)
        if self.opening + len(self.connections) < MAX_CONNECTIONS and self.opening < len(self.waiting):
            self.opening += 1
            task = loop.create_task(self._connect())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _connect(self) -> None:
        """A connect to a process that is starting waits in its listener's backlog; each transaction has its timer."""
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: _Connection(self), str(self.path))
        except OSError as error:
            _log.warning("a mailbox process cannot be reached", extra={"f": {"error": str(error)}})
            self._refuse()
        finally:
            self.opening -= 1

    def free(self, connection: _Connection) -> None:
        if self.waiting:
            connection.send(self.waiting.popleft())
        else:
            self.idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        self.connections.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        if not connection.ready or not self.connections:
            self._refuse()

    def _refuse(self) -> None:
        """The process is away: who waits is told so, and goes to the queue."""
        waiting, self.waiting = self.waiting, deque()
        for transaction in waiting:
            transaction.settle()

    def _late(self, transaction: _Transaction) -> None:
        _log.warning("a mailbox process does not answer", extra={"f": {"socket": self.path.name}})
        if transaction.connection is not None:
            transaction.connection.close()
        else:
            self.waiting.remove(transaction)
            transaction.settle()


class IntoMailbox:
    """Delivery to every mailbox process of this island. path_of: a backend's name -> its LMTP socket."""

    def __init__(self, path_of: Callable[[str], Path], trust: Callable[[Peer], bool],
                 patience: float = PATIENCE) -> None:
        self._path_of = path_of
        self._trust = trust
        self._patience = patience
        self._pools: dict[str, _Pool] = {}

    def deliver(self, backend: str, sender: str, targets: Sequence[Target], content: bytes, done: Done) -> None:
        """done is called once, later, with a reply for each target."""
        pool = self._pools.get(backend)
        if pool is None:
            try:
                path = self._path_of(backend)
            except ValueError:  # a database that no mailbox process of this island has
                asyncio.get_running_loop().call_soon(done, [replies.TRY_LATER] * len(targets))
                return
            pool = self._pools[backend] = _Pool(path, self._trust, self._patience)
        pool.send(_Transaction(sender, targets, content, done))

    def close(self) -> None:
        """End every connection."""
        for pool in self._pools.values():
            for connection in list(pool.connections):
                connection.close()
