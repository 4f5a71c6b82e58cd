"""Splits what an SMTP client sends into command lines and message content. Does no I/O.

In     feed(bytes), in any pieces.
Out    next(): Line, Piece (content, dots unstuffed), End (of the content or of a BDAT chunk), or None: more is needed.
Spec   [RFC 5321 §2.3.8, §4.1.1.4, §4.5.2, §4.5.3.1], [RFC 3030] BDAT. A line ends with CRLF and nothing else.
Fails  LineTooLong. A CR or LF alone or a NUL in DATA is noted in End.fault: the content is read to its true end and
       answered once, so that nobody can make two messages of one (SMTP smuggling).
"""

from __future__ import annotations

import re
from io import IncrementalNewlineDecoder

import msgspec

COMMAND_LINE = 2048
"""Octets of a command line with its parameters; RFC 5321 asks for 512 and more for each extension."""
AUTH_LINE = 12288
"""Octets of a line in an AUTH exchange [RFC 4954 §4.5]."""
HOLD = 65536
"""Content is given out when it is whole, or in pieces of about so many octets."""
_END = b"\r\n.\r\n"
_dot = re.compile(rb"\r\n\.").search
"""bytes.find takes twice as long for a needle of three octets."""
_HELD = len(_END) - 1


class LineTooLong(Exception):
    """The client sends a command line beyond the limit."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """A command line without its CRLF. bare: it holds a CR, LF or NUL of its own."""

    text: bytes
    bare: bool


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Octets of the content."""

    data: bytes


class End(msgspec.Struct, frozen=True, gc=False):
    """The content (DATA) or the chunk (BDAT) is whole. fault: "" or what is wrong with its line ends."""

    fault: str = ""


def line_fault(data: bytes) -> str:
    """What is wrong with the line ends of some text: "", "NUL" or "bare CR or LF"."""
    ends = IncrementalNewlineDecoder(None, translate=False)  # what open() tells line ends apart with: one pass
    ends.decode(data.decode("latin-1"), final=True)
    if ends.newlines not in (None, "\r\n"):
        return "bare CR or LF"
    return "NUL" if b"\0" in data else ""


class Reader:
    """One direction of one connection."""

    __slots__ = ("_at_line_start", "_buffer", "_fault", "_limit", "_mode", "_scanned", "_stuffed", "_wanted")

    def __init__(self, limit: int = COMMAND_LINE) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._mode = "line"
        self._wanted = 0
        self._scanned = 0
        self._stuffed = False
        self._at_line_start = True
        self._fault = ""

    def __len__(self) -> int:
        """Octets that wait."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """More octets."""
        self._buffer += data

    def clear(self) -> None:
        """Forget what waits (before TLS)."""
        self._buffer.clear()

    def allow(self, octets: int) -> None:
        """The length of a line from now on."""
        self._limit = octets

    def data(self) -> None:
        """What comes now is the content of DATA."""
        self._mode, self._at_line_start, self._fault = "data", True, ""
        self._scanned, self._stuffed = 0, False

    def chunk(self, size: int) -> None:
        """What comes now is a chunk of that many octets."""
        self._mode, self._wanted = "chunk", size

    @property
    def in_content(self) -> bool:
        """Is more of a message's content to come?"""
        return self._mode != "line"

    def whole(self, head: re.Pattern[bytes]) -> tuple[tuple[bytes, ...], bytes] | None:
        """A transaction that is here from its first command to its last octet: (groups of `head`, content).

        head: its command lines, the last group being the size of the content. None: it is none that `head` matches, or
        not all of it has come; next() takes it then, line by line.
        """
        if self._mode != "line" or (found := head.match(self._buffer)) is None:
            return None
        words = found.groups()
        start = found.end()
        end = start + int(words[-1])
        if end > len(self._buffer):
            return None
        with memoryview(self._buffer) as view, view[start:end] as part:
            content = part.tobytes()
        del self._buffer[:end]
        return words, content

    def next(self) -> Line | Piece | End | None:
        """The next event, or None."""
        if self._mode == "line":
            return self._line()
        if self._mode == "data":
            return self._content()
        return self._octets()

    def _line(self) -> Line | None:
        end = self._buffer.find(b"\r\n", 0, self._limit + 2)
        if end < 0:
            if len(self._buffer) >= self._limit + 2:  # its CRLF would have been seen
                raise LineTooLong
            return None
        text = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return Line(text, b"\n" in text or b"\r" in text or b"\0" in text)

    def _take(self, size: int) -> bytes:
        """The first octets, copied once."""
        with memoryview(self._buffer) as view, view[:size] as part:
            data = part.tobytes()
        del self._buffer[:size]
        return data

    def _octets(self) -> Piece | End | None:
        if self._wanted == 0:
            self._mode = "line"
            return End()
        if not self._buffer:
            return None
        data = self._take(self._wanted)
        self._wanted -= len(data)
        return Piece(data)

    def _content(self) -> Piece | End | None:
        buffer = self._buffer
        if self._at_line_start and buffer.startswith(b".\r\n"):
            del buffer[:3]
            self._mode = "line"
            return End(self._fault)
        end = self._find_end()
        if end >= 0:
            cut = end + 2
        else:
            self._scanned = len(buffer)
            cut = len(buffer) - _HELD
            if len(buffer) < HOLD:
                return None
            cut -= buffer[cut - 1] == 13  # a CR is judged together with what follows it
        data = self._take(cut)
        stuffed, self._stuffed, self._scanned = self._stuffed, False, 0
        self._fault = self._fault or line_fault(data)
        if self._at_line_start and data.startswith(b"."):
            data = data[1:]
        self._at_line_start = data.endswith(b"\r\n")
        return Piece(data.replace(b"\r\n.", b"\r\n") if stuffed else data)

    def _find_end(self) -> int:
        """Where CRLF.CRLF begins, or -1. One search serves both: for most messages the first CRLF. is the end."""
        buffer = self._buffer
        found = _dot(buffer, max(self._scanned - _HELD, 0))
        if found is None or (dot := found.start()) + len(_END) > len(buffer):
            return -1
        if buffer.startswith(b"\r\n", dot + 3):
            return dot
        self._stuffed = True
        return buffer.find(_END, dot)
