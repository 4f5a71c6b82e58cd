"""protocols.imap.wire.reader -- cut the stream into commands.

In     bytes as they come (feed).
Out    Command (one whole command, its literals inside, ready for wire.cursor), Continue (say "+ " now),
       TooBig (a literal over its limit: refuse), Line (after expect_line), Broken (close the connection), None (more).
Spec   [RFC 9051 §4.3] literals, [RFC 7888] non-synchronizing literals, [RFC 3516 §4.1] literal8.
       Only CRLF ends a line: a bare CR, LF or NUL makes the line a Command that is `bad`.
Fails  never raises. Cutting the stream differently never changes the events.
Not    what the command means.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_LITERAL = re.compile(rb"(~?)\{([^{}\r\n]{0,40})\Z")
_NUMBER = re.compile(rb"(\d{1,20})(\+?)\Z")
_TAG = re.compile(rb"[^\x00-\x20(){%*\"\\\x7f-\xff+]{1,64}")  # [RFC 9051 §9] "]" may stand in it
_FORBIDDEN = re.compile(rb"[\r\n\x00]")
_HEAD = 66
"""Enough to see a tag and what follows it."""
_TAIL = 48
"""The longest "~{number+}" that is looked at."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: `data` without the last CRLF; bad: why it cannot be read, or ""."""

    data: bytes
    bad: str = ""

    @property
    def tag(self) -> bytes:
        """The tag, b"*" when there is none that could be repeated."""
        return tag_of(self.data)


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not a command: DONE, or the answer to a SASL challenge."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Continue:
    """A synchronizing literal waits for "+ "."""


@dataclass(frozen=True, slots=True)
class TooBig:
    """A literal over its limit. It was not read when synchronizing, and is being read away when not."""

    tag: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Broken:
    """The stream cannot be followed any more: say `text` and close."""

    tag: bytes
    text: str


Event = Command | Line | Continue | TooBig | Broken


def tag_of(data: bytes) -> bytes:
    """The tag at the head of a command, or b"*"."""
    match = _TAG.match(data)
    return match.group() if match and data[match.end() : match.end() + 1] in (b" ", b"") else b"*"


class Reader:
    """Cuts a stream into commands. Does no I/O: feed() bytes, take next().

    line: bytes of all lines of a command together, literals not counted. literal_limit(head) -> (largest next literal,
    largest whole command) for a command that begins with `head` (its bytes so far). drain: how much of a refused
    non-synchronizing literal is read away before the stream counts as broken.
    """

    __slots__ = ("_broken", "_buf", "_drain", "_lines", "_literal_limit", "_max_drain", "_max_line", "_need", "_scan",
                 "_skip_line", "_wants_line")

    def __init__(self, line: int, literal_limit: Callable[[bytes], tuple[int, int]], drain: int = 0) -> None:
        self._buf = bytearray()
        self._max_line = line
        self._literal_limit = literal_limit
        self._max_drain = drain
        self._scan = 0          # where the line being looked at begins, in _buf
        self._lines = 0         # bytes of the command's finished lines
        self._need = 0          # the end of the literal being read, 0 for none
        self._drain = 0         # bytes of a refused literal still to throw away
        self._skip_line = False  # the rest of a refused command's line is thrown away too
        self._wants_line = False
        self._broken = False

    def feed(self, data: bytes) -> None:
        if not self._broken:
            self._buf += data

    def __len__(self) -> int:
        """Bytes held."""
        return len(self._buf)

    @property
    def expected(self) -> int:
        """Bytes held, or promised by the literal that is being read."""
        return max(len(self._buf), self._need)

    def expect_line(self, on: bool = True) -> None:
        """The next line is not a command (IDLE's DONE, a SASL answer)."""
        self._wants_line = on

    def take_rest(self) -> bytes:
        """All bytes not yet part of an event; the reader is empty then."""
        rest = bytes(self._buf)
        self._buf.clear()
        self._scan = self._lines = self._need = 0
        return rest

    def next(self) -> Event | None:
        """The next event, or None: need more bytes."""
        while not self._broken:
            if self._drain and not self._drained():
                return None
            if self._need:
                if len(self._buf) < self._need:
                    return None
                self._scan, self._need = self._need, 0
            end = self._buf.find(b"\r\n", self._scan)
            length = (end if end >= 0 else len(self._buf) - 1) - self._scan
            if self._lines + length > self._max_line:
                return self._break("Line too long")
            if end < 0:
                return None
            if self._skip_line:
                if not self._skip_rest(end):
                    return self._break("Literal too big")
                continue
            if self._wants_line:
                self._wants_line = False
                return Line(self._cut(end))
            event = self._line_ended(end)
            if event is not None:
                return event
        return None

    def _skip_rest(self, end: int) -> bool:
        """Throw away a refused command's line. Its next literal must go too: it is text, never a command."""
        line = self._cut(end)
        match = _LITERAL.search(line[-_TAIL:-1]) if line.endswith(b"}") else None
        number = _NUMBER.match(match.group(2)) if match else None
        if number is None or not number.group(2):
            self._skip_line = False
            return True
        self._drain = int(number.group(1))
        return self._drain <= self._max_drain

    def _drained(self) -> bool:
        cut = min(self._drain, len(self._buf))
        del self._buf[:cut]
        self._drain -= cut
        return not self._drain

    def _line_ended(self, end: int) -> Event | None:
        line = bytes(self._buf[max(self._scan, end - _TAIL) : end])
        match = _LITERAL.search(line[:-1]) if line.endswith(b"}") else None
        if match is None:
            bad = ""
            if _FORBIDDEN.search(self._buf, self._scan, end):
                bad = "Forbidden octet in a command line"
            return Command(self._cut(end), bad)
        number = _NUMBER.match(match.group(2))
        if number is None:
            return Command(self._cut(end), "Not a literal")
        size = int(number.group(1))
        literal, whole = self._literal_limit(bytes(self._buf[: min(end, 4096)]))
        if size > literal or end + 2 + size > whole + self._max_line:
            return self._refuse(end, size, synchronizing=not number.group(2))
        if _FORBIDDEN.search(self._buf, self._scan, end):
            return self._break("Forbidden octet in a command line")
        self._lines += end - self._scan
        self._need = end + 2 + size
        return None if number.group(2) else Continue()

    def _refuse(self, end: int, size: int, *, synchronizing: bool) -> Event:
        if not synchronizing and size > self._max_drain:
            return self._break("Literal too big")
        tag = tag_of(bytes(self._buf[: min(end, _HEAD)]))
        self._cut(end)
        if not synchronizing:
            self._drain, self._skip_line = size, True
        return TooBig(tag, size)

    def _break(self, text: str) -> Broken:
        self._broken = True
        # What is left of a refused command has no tag: that one is answered already.
        tag = b"*" if self._skip_line else tag_of(bytes(self._buf[:_HEAD]))
        self._buf.clear()
        return Broken(tag, text)

    def _cut(self, end: int) -> bytes:
        data = bytes(memoryview(self._buf)[:end])
        del self._buf[: end + 2]
        self._scan = self._lines = 0
        return data
