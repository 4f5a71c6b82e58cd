"""A client's connection: octets to events, answers back, one command at a time.

In     octets, in any pieces; the client's ends (EOF, a reader that does not read).
Out    line(), piece(), chunk_end() of the session that is built on it, each only when the one before is answered.
Spec   [RFC 2920] answers in order; PROCESSES 9. Memory: the reader holds at most BUSY_BUFFER beyond one event.
Not    a task per connection: one lives only while something is awaited (the directory, TLS).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import cast

from atoll.formats.smtp import replies
from atoll.formats.smtp.reader import End, Line, LineTooLong, Piece, Reader
from atoll.formats.smtp.replies import Reply
from atoll.runtime.rpc import RpcError
from atoll.runtime.sockets import acknowledge_at_once

BUSY_BUFFER = 65536
LINGER_SECONDS = 1.0
"""How long what still comes is thrown away after the last word: a close with octets unread would destroy that word."""
_log = logging.getLogger("atoll.smtp")


class Connection(asyncio.Protocol):
    """The flow of one connection; what is said stands in the session."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.transport: asyncio.Transport
        self.secure = False
        self.task: asyncio.Task[None] | None = None
        self._held = False
        """An answer is under way: the next command waits."""
        self._clogged = False
        """The client does not read its answers: it gets no more."""
        self._pumping = False
        self._said: list[bytes] = []
        """Answers of this turn: written together."""
        self._paused = False
        self._eof = False
        self._ended = False
        self.deadline = float("inf")
        """When the client must have said its next word, by the monotonic clock."""

    # -- what a session adds

    def line(self, line: Line) -> None:
        """A command line."""
        raise NotImplementedError

    def piece(self, data: bytes) -> None:
        """Octets of the content."""
        raise NotImplementedError

    def chunk_end(self, end: End) -> None:
        """The content or the chunk is whole."""
        raise NotImplementedError

    def stop(self) -> None:
        """The frontend goes: say so now, or after the answer that is under way."""
        raise NotImplementedError

    def released(self) -> None:
        """What was under way is answered; the next command comes."""

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self.reader.feed(data)
        self._pump()
        if self._held and len(self.reader) > BUSY_BUFFER:
            self._pause()
        elif self.reader.in_content:
            acknowledge_at_once(self.transport)

    def eof_received(self) -> bool:
        """A client that has said everything is still answered (a TLS client cannot be: its close is whole)."""
        self._eof = True
        return self._held and not self.secure and not self._ended

    def pause_writing(self) -> None:
        self._clogged = True
        self._pause()

    def resume_writing(self) -> None:
        self._clogged = False
        self._continue()

    def _pause(self) -> None:
        self._paused = True
        self.transport.pause_reading()

    # -- flow

    def say(self, reply: Reply) -> None:
        """Answer; with the other answers of this turn."""
        self.write(reply.wire)

    def write(self, octets: bytes) -> None:
        """Send; with the other answers of this turn. Nothing stands behind the last word."""
        if self._ended:
            return
        if self._pumping:
            self._said.append(octets)
        else:
            self.transport.write(octets)

    def _flush(self) -> None:
        if self._said and not self.transport.is_closing():
            self.transport.write(b"".join(self._said))
        self._said.clear()

    @property
    def over(self) -> bool:
        """The last word was said, or the other side is gone."""
        return self._ended or self.transport.is_closing()

    def end(self, reply: Reply, *, linger: bool = True) -> None:
        """Say a last word and close."""
        if self.over:
            return
        self._ended = True
        self._said.append(reply.wire)
        self._flush()
        if not linger or self._eof:
            self.transport.close()
            return
        if not self.secure:
            self.transport.write_eof()
        self.transport.resume_reading()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.close)

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    @property
    def busy(self) -> bool:
        """Is an answer under way?"""
        return self._held

    def hold(self, *, reading: bool = True) -> None:
        """No further event until release(). reading False: leave what comes in the socket."""
        self._held = True
        if not reading:
            self._pause()

    def release(self) -> None:
        """What was under way is answered."""
        self._held = False
        self.released()
        self._continue()

    def wait(self, work: Coroutine[None, None, None]) -> None:
        """Hold until `work` has answered."""
        self._held = True
        self.task = asyncio.get_running_loop().create_task(self._finish(work))

    async def _finish(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except RpcError:
            self.say(replies.TRY_LATER)
        except Exception:
            _log.exception("an SMTP command failed")
            self.end(replies.TRY_LATER)
        self.task = None
        self.release()

    def _continue(self) -> None:
        if self._pumping or self._held or self._clogged or self.over:
            return
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        self._pump()
        if self._eof and not self._held:
            self.transport.close()

    def _pump(self) -> None:
        """Work through what has come. Not entered twice: an answer that is known at once continues the loop."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while not self._held and not self._clogged and not self.over:
                event = self.reader.next()
                if event is None:
                    return
                if isinstance(event, Line):
                    self.line(event)
                elif isinstance(event, Piece):
                    self.piece(event.data)
                else:
                    self.chunk_end(event)
        except LineTooLong:
            self.end(replies.LINE_TOO_LONG)
        finally:
            self._pumping = False
            if self._said:
                self._flush()
