"""Deliver into mailbox processes: LMTP with PIPELINING and CHUNKING over their Unix sockets.

In     a message, the recipients that live in one mailbox process.
Out    a reply for each recipient; 250 means that the mailbox has committed its copy.
Spec   [RFC 2033], [RFC 2920], [RFC 3030]; PROCESSES 7: pooled connections, no LHLO per message. The small messages for
       one database go over one connection, each without waiting for the answers of those before it: what comes in one
       turn of the loop is one write, and the answers of a group commit are one read. They come in order, so a database
       that is slow delays only its own; a large message has a connection to itself.
       A delivery key per recipient makes a repeated attempt find its first result.
       A message at which a connection went before is sent alone: nothing else is under way to that mailbox process
       meanwhile. What comes in that time waits here until it is settled.
Fails  451 for every recipient that was not answered in time or whose connection went: the outcome is unknown, and the
       key settles it at the next attempt. A mailbox process that does not understand us (50x) is such a case too.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import deque
from collections.abc import Callable, Sequence
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
LARGE = 64 << 10
"""Octets from which on a message has a connection to itself."""
DEPTH = 64
"""Small messages under way on one connection."""
MAX_CONNECTIONS = 32
"""To one database."""
_log = logging.getLogger("atoll.delivery")
_encode = msgspec.msgpack.Encoder().encode
Done = Callable[[list[Reply]], None]


class _Transaction:
    """One message for one mailbox process: what is said, and what is heard."""

    __slots__ = ("_accepted", "_done", "_gate", "_heard", "alone", "connection", "content", "head", "replies", "timer")

    def __init__(self, sender: str, targets: Sequence[Target], content: bytes, done: Done, gate: _Gate,
                 alone: bool) -> None:
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
        self._accepted: list[int] = []
        self._heard = 0
        self._done: Done | None = done
        self._gate = gate
        self.alone = alone
        self.timer: asyncio.TimerHandle | None = None
        self.connection: _Connection | None = None

    @property
    def large(self) -> bool:
        """It would hold up what comes behind it."""
        return len(self.content) >= LARGE

    @property
    def settled(self) -> bool:
        """Its sender knows what became of it."""
        return self._done is None

    def heard(self, reply: Reply) -> bool:
        """The next reply to it; was it the last one?"""
        at, count = self._heard, len(self.replies)
        self._heard += 1
        if at == 0:
            return False  # of MAIL: where it is refused, every RCPT is
        if at <= count:
            if reply.code == 250:
                self._accepted.append(at - 1)  # TRY_LATER until its own reply has come
            else:
                self.replies[at - 1] = reply
            return False
        if not self._accepted:  # one reply for each accepted recipient [RFC 2033 §4.2], or one that says there is none
            return True
        self.replies[self._accepted[at - count - 1]] = reply
        return at - count == len(self._accepted)

    def lost(self) -> None:
        """Its connection went: of those without a reply nothing is known."""
        what = replies.LOST_ALONE if self.alone else replies.LOST
        self.replies = [what if reply is replies.TRY_LATER else reply for reply in self.replies]

    def settle(self) -> None:
        """Say what became of each recipient, once."""
        assert self.timer is not None
        self.timer.cancel()
        done, self._done = self._done, None
        if done is not None:
            done([replies.TRY_LATER if 500 <= reply.code < 505 else reply for reply in self.replies])
            self._gate.over()


class _Connection(asyncio.Protocol):
    """One LMTP connection to a mailbox process. ready: greeted, and neither lost nor stuck."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._parser = ReplyParser()
        self._transport: asyncio.Transport | None = None
        self._greeting = 2
        """Replies before the first transaction: the greeting and LHLO's."""
        self._greeted = False
        self._under_way: deque[_Transaction] = deque()
        self._unsent: list[bytes] = []
        self.ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._pool.trust(peer_of(transport)):
            self._transport.abort()
        self._pool.connections.append(self)
        self._transport.write(b"LHLO transport\r\n")

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        try:
            while self._transport is not None and (reply := self._parser.next()) is not None:
                if reply.code == 421 or not self._hear(reply):
                    self.close()
                    return
        except ValueError:
            self.close()

    def _hear(self, reply: Reply) -> bool:
        """A reply in its turn; is it one that may come?"""
        if self._greeting:
            self._greeting -= 1
            if self._greeting == 0:
                self.ready = self._greeted = reply.code == 250
                if self.ready:
                    self._pool.free()
            return self._greeting > 0 or self.ready
        if not self._under_way:
            return False
        if self._under_way[0].heard(reply):
            self._over(self._under_way.popleft())
        return True

    def _over(self, current: _Transaction) -> None:
        if FAILPOINTS.active:
            FAILPOINTS.hit("delivery.reply.after")
        current.settle()
        self._pool.free()
        self._close_stuck()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.ready = False
        self._pool.lost(self, greeted=self._greeted)
        under_way, self._under_way = self._under_way, deque()
        for current in under_way:
            current.lost()
            current.settle()  # failpoint: none, there was no answer

    def takes(self, transaction: _Transaction) -> bool:
        """May this one go now, behind what is under way?"""
        if not self.ready:
            return False
        if not self._under_way:
            return True
        return len(self._under_way) < DEPTH and not transaction.large and not self._under_way[-1].large

    def send(self, current: _Transaction) -> None:
        """Begin a transaction; all that begin in this turn of the loop are one write."""
        if FAILPOINTS.active:
            FAILPOINTS.hit("delivery.send.before")
        current.connection = self
        self._under_way.append(current)
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._write)
        self._unsent += (current.head, current.content)

    def _write(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is None:
            return
        if len(unsent) == 2 and len(unsent[1]) >= LARGE:
            self._transport.write(unsent[0])
            self._transport.write(unsent[1])
        else:
            self._transport.write(b"".join(unsent))

    def late(self, current: _Transaction) -> None:
        """No answer in time. Those behind it have theirs still to come; new ones take another connection.

        A process that is slow has not died of the message: it is tried again soon (transport.lanes). One that is
        silent over a message alone at which a connection went before may well have.
        """
        self.ready = False
        if current.alone:
            current.lost()
        current.settle()  # failpoint: none, there was no answer
        self._pool.free()
        self._close_stuck()

    def _close_stuck(self) -> None:
        if not self.ready and all(current.settled for current in self._under_way):
            self.close()

    def close(self) -> None:
        """Give the connection up; what is under way is of unknown outcome."""
        if self._transport is not None:
            self._transport.abort()


class _Gate:
    """Who may go to one mailbox process now: everybody, or one alone."""

    __slots__ = ("_alone", "_held", "_under_way")

    def __init__(self) -> None:
        self._under_way = 0
        self._alone: deque[tuple[_Pool, _Transaction]] = deque()
        self._held: deque[tuple[_Pool, _Transaction]] = deque()

    def send(self, pool: _Pool, transaction: _Transaction) -> None:
        """Now, or when those before it are settled."""
        if transaction.alone:
            self._alone.append((pool, transaction))
            self._next()
        elif self._alone:
            self._held.append((pool, transaction))
        else:
            self._under_way += 1
            pool.send(transaction)

    def over(self) -> None:
        """One is settled. Those that waited while it was alone go before the next one that has to be."""
        self._under_way -= 1
        if self._alone and not self._under_way:
            if self._alone[0][1].settled:
                self._alone.popleft()
                held, self._held = self._held, deque()
                self._under_way += len(held)
                for pool, transaction in held:
                    pool.send(transaction)
            self._next()

    def _next(self) -> None:
        if self._alone and not self._under_way:
            self._under_way += 1
            self._alone[0][0].send(self._alone[0][1])


class _Pool:
    """Connections to one mailbox process, for one of its databases."""

    def __init__(self, path: Path, trust: Callable[[Peer], bool], patience: float) -> None:
        self.path = path
        self.trust = trust
        self.patience = patience
        self.connections: list[_Connection] = []
        self.opening = 0
        self.waiting: deque[_Transaction] = deque()
        self.tasks: set[asyncio.Task[None]] = set()

    def send(self, transaction: _Transaction) -> None:
        loop = asyncio.get_running_loop()
        transaction.timer = loop.call_later(self.patience + len(transaction.content) / OCTETS_PER_SECOND, self._late,
                                            transaction)
        connection = self._for(transaction)
        if connection is not None:
            connection.send(transaction)
            return
        self.waiting.append(transaction)
        self._grow()

    def _for(self, transaction: _Transaction) -> _Connection | None:
        """The first connection is that of the small ones as long as it can take them."""
        among = reversed(self.connections) if transaction.large else self.connections
        return next((connection for connection in among if connection.takes(transaction)), None)

    def _grow(self) -> None:
        """One more connection, unless as many are coming as the waiting need."""
        small = sum(not transaction.large for transaction in self.waiting)
        needed = len(self.waiting) - small + -(-small // DEPTH)
        if self.opening + len(self.connections) < MAX_CONNECTIONS and self.opening < needed:
            self.opening += 1
            task = asyncio.get_running_loop().create_task(self._connect())
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

    def free(self) -> None:
        """There may be room for who waits."""
        while self.waiting and (connection := self._for(self.waiting[0])) is not None:
            connection.send(self.waiting.popleft())
        if self.waiting:
            self._grow()

    def lost(self, connection: _Connection, *, greeted: bool) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
        if not greeted or not self.connections:
            self._refuse()

    def _refuse(self) -> None:
        """The process is away: who waits is told so, and goes to the queue."""
        waiting, self.waiting = self.waiting, deque()
        for transaction in waiting:
            transaction.settle()

    def _late(self, transaction: _Transaction) -> None:
        if transaction.connection is None or transaction.connection.ready:
            _log.warning("a mailbox process does not answer", extra={"f": {"socket": self.path.name}})
        if transaction.connection is not None:
            transaction.connection.late(transaction)
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
        self._pools: dict[tuple[str, str], _Pool] = {}
        self._gates: dict[str, _Gate] = {}

    def deliver(self, backend: str, sender: str, targets: Sequence[Target], content: bytes, done: Done, *,
                alone: bool = False) -> None:
        """done is called once, later, with a reply for each target. alone: LOST_ALONE if the connection goes again."""
        databases = {target.database for target in targets} if len(targets) > 1 else ()
        lane = backend, targets[0].database if len(databases) < 2 else ""  # of several: nobody waits for the slowest
        pool = self._pools.get(lane)
        if pool is None:
            try:
                path = self._path_of(backend)
            except ValueError:  # a database that no mailbox process of this island has
                asyncio.get_running_loop().call_soon(done, [replies.TRY_LATER] * len(targets))
                return
            pool = self._pools[lane] = _Pool(path, self._trust, self._patience)
        gate = self._gates.get(backend)
        if gate is None:
            gate = self._gates[backend] = _Gate()
        gate.send(pool, _Transaction(sender, targets, content, done, gate, alone))

    def close(self) -> None:
        """End every connection."""
        for pool in self._pools.values():
            for connection in list(pool.connections):
                connection.close()
