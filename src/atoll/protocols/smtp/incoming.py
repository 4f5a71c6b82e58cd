"""A message on its way in: kept up to a size, then streamed on to transport as it comes.

In     pieces of the reader; the end with its fault.
Out    one Transaction over a connection to transport; its reply, once.
Spec   PROCESSES 7: one write for a message that fits in memory, a small one behind others of its lane; a larger one in
       chunks with back pressure: at most one chunk is under way and one is being filled.
Fails  too big, bad line ends, transport away: a reply of ours; nothing of the message was accepted.
"""

from __future__ import annotations

from collections.abc import Callable

from atoll.formats.smtp import replies
from atoll.formats.smtp.commands import RcptTo
from atoll.formats.smtp.reader import line_fault
from atoll.formats.smtp.replies import Reply
from atoll.protocols.smtp.handoff import SMALL, Handoff, HopConnection, Transaction


class Incoming:
    """One message. hop: its own connection (submission), or None: one of the pool. lane: the mailbox process that all
    recipients live in, or "": then it waits for no other and no other for it.

    pause, resume: of the client's events. done gets the reply; never before end() was called.
    """

    def __init__(self, pool: Handoff, hop: HopConnection | None, mail: bytes, recipients: list[RcptTo], head: bytes, *,
                 lane: str, limit: int, in_memory: int, binary: bool, pause: Callable[[], None],
                 resume: Callable[[], None], done: Callable[[Reply], None]) -> None:
        self._pool = pool
        self._hop = hop
        self._mail = mail
        self._recipients = recipients
        self._lane = lane
        self._pieces = [head]
        self._held = len(head)
        self.size = 0
        self._limit = limit
        self._in_memory = in_memory
        self._binary = binary
        self._carry = b""
        self._pause = pause
        self._resume = resume
        self._paused = False
        self._done = done
        self._fault: Reply | None = None
        self._transaction: Transaction | None = None
        self._under_way = False
        self._ended = False
        self._over = False

    def feed(self, data: bytes, *, checked: bool) -> None:
        """A piece. checked: the reader has looked at its line ends (DATA)."""
        self.size += len(data)
        if self._fault is not None:
            return
        if self.size > self._limit:
            self._spoil(replies.TOO_BIG)
            return
        if not checked and not self._binary:
            data = self._check(data)
            if self._fault is not None:
                return
        self._pieces.append(data)
        self._held += len(data)
        if self._held > self._in_memory:
            self._paused = True
            self._pause()
            if not self._under_way:
                self._forward()

    @property
    def hopeless(self) -> Reply | None:
        """Why no more of it is wanted. Line ends are judged when all of them are here: answered once, at the end."""
        return None if self._fault in (replies.BARE_CONTENT, replies.NUL_CONTENT) else self._fault

    def _check(self, data: bytes) -> bytes:
        """Line ends of a BDAT piece; a CR at its end waits for what follows."""
        data = self._carry + data
        self._carry = b"\r" if data.endswith(b"\r") else b""
        data = data[: len(data) - len(self._carry)]
        fault = line_fault(data)
        if fault:
            self._spoil(replies.NUL_CONTENT if fault == "NUL" else replies.BARE_CONTENT)
        return data

    def _spoil(self, reply: Reply) -> None:
        """It will be refused at its end; nothing more of it goes on."""
        self._fault = reply
        self._pieces.clear()
        self._held = 0
        if self._transaction is not None:
            self._transaction.abort()

    def end(self, fault: str = "") -> None:
        """The content is whole. fault: what the reader found in it."""
        self._ended = True
        if self._carry:
            fault = "bare CR or LF"
        if fault and self._fault is None:
            self._spoil(replies.NUL_CONTENT if fault == "NUL" else replies.BARE_CONTENT)
        if self._fault is not None:
            self._finish(self._fault)
        elif not self._under_way:
            self._forward()

    def _forward(self) -> None:
        """Send what is held; the first time, over a connection that is free."""
        self._under_way = True
        if self._transaction is not None:
            self._send(self._transaction)
        elif self._hop is not None:
            self._start(self._hop)
        elif self._lane and self._ended and self._held <= SMALL:
            self._pool.send(self._lane, self._mail, self._recipients, b"".join(self._pieces), self._finish)
            self._pieces.clear()
        else:
            self._pool.take(self._start)

    def _start(self, hop: HopConnection | None) -> None:
        if self._over or self._fault is not None:
            if hop is not None:
                hop.free()
            return
        if hop is None:
            self._under_way = False
            self._spoil(replies.TRY_LATER)
            self._go_on()
            return
        self._transaction = Transaction(hop, self._mail, self._recipients, self._finish)
        self._send(self._transaction)

    def _send(self, transaction: Transaction) -> None:
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        transaction.send(data, last=self._ended, more=self._taken)

    def _taken(self, reply: Reply) -> None:
        """Transport has a chunk, or will not have it."""
        self._under_way = False
        if reply.code != 250 and self._fault is None:
            self._spoil(reply)
        if self._fault is None and (self._ended or self._held > self._in_memory):
            self._forward()
        self._go_on()

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            self._resume()
        elif self._ended and self._fault is not None:
            self._finish(self._fault)

    def _finish(self, reply: Reply) -> None:
        if not self._over:
            self._over = True
            self._done(reply)

    def abandon(self) -> None:
        """The client is gone, or begins anew, before its message was whole."""
        if not self._over:
            self._over = True
            if self._transaction is not None and not self._ended:
                self._transaction.abort()
