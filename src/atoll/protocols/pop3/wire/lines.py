"""protocols.pop3.wire.lines -- commands out of bytes.

In     bytes in pieces of any size. Out  Command: an upper-case verb and the rest of the line, untouched.
Spec   [RFC 1939 §3], [RFC 2449 §4]. A line may end in a bare LF: nothing but commands comes this way.
Fails  TooLong: no line within the limit; the connection cannot go on.
Not    what a command means.
"""

from __future__ import annotations

from dataclasses import dataclass


class TooLong(Exception):
    """A line is longer than the limit."""


@dataclass(frozen=True, slots=True)
class Command:
    """`rest` is what follows the verb and one space, b"" when nothing does. It may be a password: never logged."""

    verb: str
    rest: bytes

    def words(self) -> list[bytes]:
        """`rest` split at spaces."""
        return self.rest.split()


class Reader:
    """feed() bytes, take next() lines."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._start = 0

    def __len__(self) -> int:
        return len(self._buffer) - self._start

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> bytes | None:
        """The next line without its end; None: need more bytes."""
        end = self._buffer.find(b"\n", self._start, self._start + self._limit)
        if end < 0:
            if len(self) >= self._limit:
                raise TooLong
            if self._start:
                del self._buffer[: self._start]
                self._start = 0
            return None
        line = bytes(self._buffer[self._start : end])
        self._start = end + 1
        if self._start == len(self._buffer):
            self._buffer.clear()
            self._start = 0
        return line[:-1] if line.endswith(b"\r") else line

    def take_rest(self) -> bytes:
        """What was fed and not taken."""
        rest = bytes(self._buffer[self._start :])
        self._buffer.clear()
        self._start = 0
        return rest


def parse(line: bytes) -> Command:
    """A command line. The verb is "" when there is none, or octets that no verb has."""
    verb, _, rest = line.partition(b" ")
    if not verb.isalpha() or len(verb) > 8 or b"\0" in rest:
        return Command("", b"")
    return Command(verb.decode("ascii").upper(), rest)


def number(word: bytes) -> int | None:
    """A decimal number of at most ten digits; None for anything else."""
    return int(word) if 0 < len(word) <= 10 and word.isdigit() else None
