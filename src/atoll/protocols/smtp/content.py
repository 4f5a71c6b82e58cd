"""A message on its way in: pieces are kept up to a size, then streamed on to transport as they come.

In     pieces of the reader; the end with its fault.
Out    one Transaction over a connection to transport; its reply, once.
Fails  too big, bad line ends, transport away: a reply of ours; nothing of the message was accepted.
"""

from __future__ import annotations

from collections.abc import Callable

from atoll.formats.smtp import replies
from atoll.formats.smtp.commands import RcptTo
from atoll.formats.smtp.reader import line_fault
from atoll.formats.smtp.replies import Reply
from atoll.protocols.smtp.handoff import Handoff, HopConnection, Transaction


class Incoming:
    """One message. pause, resume: of the client's connection. hop: its own connection (submission) or from the pool."""

    def __init__(self, pool: Handoff, hop: HopConnection | None, mail: bytes, recipients: list[RcptTo], head: bytes, *,
                 limit: int, in_memory: int, binary: bool, pause: Callable[[], None], resume: Callable[[], None],
                 done: Callable[[Reply], None]) -> None:
        self._pool = pool
        self._hop = hop
        self._mail = mail
        self._recipients = recipients
        self._pieces = [head]
        self._held = len(head)
        self.size = 0
        self._limit = limit
        self._in_memory = in_memory
        self._binary = binary
        self._carry = b""
        self._pause = pause
        self._resume = resume
        self._done = done
        self._fault: Reply | None = None
        self._transaction: Transaction | None = None
        self._sending = False
        self._ended = False

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
        self._pieces.append(data)
        self._held += len(data)
        if self._held > self._in_memory and not self._sending:
            self._stream()

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
        self._fault = reply
        self._pieces.clear()
        if self._transaction is not None:
            self._transaction.abort()

    def end(self, fault: str = "") -> None:
        """The content is whole."""
        if self._carry:
            fault = "bare CR or LF"
        if fault and self._fault is None:
            self._spoil(replies.NUL_CONTENT if fault == "NUL" else replies.BARE_CONTENT)
        if self._fault is not None:
            self._finish(self._fault)
            return
        self._ended = True
        if not self._sending:
            self._send_rest()

    def _stream(self) -> None:
        self._sending = True
        self._pause()
        self._with_hop(self._first)

    def _with_hop(self, use: Callable[[HopConnection | None], None]) -> None:
        if self._hop is not None:
            use(self._hop)
        else:
            self._pool.take(use)

    def _first(self, hop: HopConnection | None) -> None:
        if hop is None:
            self._sending = False
            self._spoil(replies.TRY_LATER)
            self._resume()
            return
        self._transaction = Transaction(hop, self._mail, self._recipients, self._finish)
        self._transaction.send(self._take(), last=False, more=self._more)

    def _more(self) -> None:
        """Transport has taken a chunk."""
        if self._fault is not None:
            return
        if self._ended:
            self._send_rest()
        elif self._held > self._in_memory // 2:
            assert self._transaction is not None
            self._transaction.send(self._take(), last=False, more=self._more)
        else:
            self._sending = False
        self._resume()

    def _take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        return data

    def _send_rest(self) -> None:
        if self._transaction is not None:
            self._transaction.send(self._take(), last=True)
        else:
            self._with_hop(self._whole)

    def _whole(self, hop: HopConnection | None) -> None:
        if hop is None:
            self._finish(replies.TRY_LATER)
            return
        self._transaction = Transaction(hop, self._mail, self._recipients, self._finish)
        self._transaction.send(self._take(), last=True)

    def _finish(self, reply: Reply) -> None:
        done, self._done = self._done, lambda _: None
        done(reply)

    def abandon(self) -> None:
        """The client is gone before its message was whole."""
        self._done = lambda _: None
        if self._transaction is not None and not self._ended:
            self._transaction.abort()
