"""admin.transfer.responses -- what an IMAP server says, as values. Pure.

In     bytes in pieces of any size, from any server.
Out    Response: tag, status or name, a tree of values (bytes, int, None, list).
Spec   RFC 9051 §7, §9, read tolerantly: whatever is no list, string or literal is an atom.
Fails  BadServer: a line or a literal beyond its limit, a nesting beyond any real one. The connection cannot go on.
Not    sending, and not what a response means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_LINE = 4 * 1024 * 1024
"""Octets of one response without its literals: a SEARCH answer of 500,000 numbers fits."""
MAX_LITERAL = 256 * 1024 * 1024
MAX_DEPTH = 120
"""BODYSTRUCTURE nests with the message; we ask for none, servers send what they like."""

Value = bytes | int | None | list["Value"]


class BadServer(Exception):
    """The server says what cannot be IMAP."""


class Text(bytes):
    """A quoted string or a literal: never NIL, never a number."""

    __slots__ = ()


@dataclass(slots=True)
class Response:
    """tag b"*" untagged, b"+" continuation. name: upper case ("OK", "FETCH"); number: of "* 12 FETCH", else 0.

    values: what follows, parsed (not for OK, NO, BAD, BYE, PREAUTH and "+": text then).
    """

    tag: bytes
    name: str
    number: int = 0
    values: list[Value] = field(default_factory=list)
    text: bytes = b""

    @property
    def code(self) -> str:
        """The response code, upper case: of "[UIDVALIDITY 12] ..." it is "UIDVALIDITY"; "" without one."""
        return self.code_words[0].decode("ascii", "replace").upper() if self.code_words else ""

    @property
    def code_words(self) -> list[bytes]:
        """The words of the response code."""
        if not self.text.startswith(b"["):
            return []
        return self.text[1 : self.text.find(b"]")].split()


_LITERAL_END = re.compile(rb"~?\{(\d{1,12})\+?\}\r?\n\Z")
_ATOM = re.compile(rb'[^\s()"]+').match
_SPACES = re.compile(rb"\s*").match
_STATUS = frozenset({b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"})


class Reader:
    """feed() bytes, take next() responses."""

    def __init__(self, max_line: int = MAX_LINE, max_literal: int = MAX_LITERAL) -> None:
        self._buffer = bytearray()
        self._seen = 0  # how much of the buffer was looked at for a line end
        self._parts: list[bytes] = []  # text, literal, text, literal ... of the response that is being read
        self._size = 0
        self._wanted = 0  # octets of a literal that are still to come
        self._literal: list[bytes] | None = None
        self._max_line = max_line
        self._max_literal = max_literal

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> Response | None:
        """The next whole response, None: need more bytes."""
        while True:
            if self._literal is not None and not self._take_literal():
                return None
            end = self._buffer.find(b"\n", self._seen)
            if end < 0:
                self._seen = len(self._buffer)
                if self._seen + self._size > self._max_line:
                    raise BadServer("a line without an end")
                return None
            line = bytes(self._buffer[: end + 1])
            del self._buffer[: end + 1]
            self._seen = 0
            self._size += len(line)
            if self._size > self._max_line:
                raise BadServer("a response that is too long")
            self._parts.append(line)
            announced = _LITERAL_END.search(line, max(0, len(line) - 20))
            if announced is None:
                parts, self._parts, self._size = self._parts, [], 0
                return parse(parts)
            self._wanted = int(announced.group(1))
            if self._wanted > self._max_literal:
                raise BadServer(f"a literal of {self._wanted} octets")
            self._literal = []

    def _take_literal(self) -> bool:
        assert self._literal is not None
        piece = bytes(self._buffer[: self._wanted])
        del self._buffer[: self._wanted]
        self._wanted -= len(piece)
        self._literal.append(piece)
        if self._wanted:
            return False
        self._parts.append(b"".join(self._literal))
        self._literal = None
        return True


def parse(parts: list[bytes]) -> Response:
    """A response from its pieces: text, literal, text ..."""
    head, _, rest = parts[0].partition(b" ")
    if head.rstrip() == b"+":
        return Response(b"+", "", text=rest.strip())
    word, _, after = rest.partition(b" ")
    upper = word.strip().upper()
    if upper in _STATUS:
        return Response(head, upper.decode("ascii"), text=b"".join([after, *parts[1:]]).strip())
    values = _Tree(parts, len(head)).values()
    number = 0
    if values and isinstance(values[0], int):
        number = values.pop(0)  # type: ignore[assignment]
    name = values.pop(0) if values else b""
    return Response(head, name.decode("ascii", "replace").upper() if isinstance(name, bytes) else "", number, values)


class _Tree:
    """The values of a response, without recursion."""

    def __init__(self, parts: list[bytes], start: int) -> None:
        self._parts = parts
        self._at = 0
        self._pos = start

    def values(self) -> list[Value]:
        top: list[Value] = []
        stack = [top]
        while True:
            text = self._parts[self._at]
            match = _SPACES(text, self._pos)
            self._pos = match.end() if match else self._pos
            if self._pos >= len(text):
                return top
            byte = text[self._pos]
            if byte == 0x28:
                inner: list[Value] = []
                stack[-1].append(inner)
                stack.append(inner)
                if len(stack) > MAX_DEPTH:
                    raise BadServer("lists nested too deep")
                self._pos += 1
            elif byte == 0x29:
                if len(stack) > 1:
                    stack.pop()
                self._pos += 1
            elif byte == 0x22:
                stack[-1].append(self._quoted(text))
            else:
                stack[-1].append(self._atom(text))

    def _quoted(self, text: bytes) -> Text:
        out = bytearray()
        pos = self._pos + 1
        while pos < len(text) and text[pos] != 0x22:
            if text[pos] == 0x5C and pos + 1 < len(text):
                pos += 1
            out.append(text[pos])
            pos += 1
        self._pos = pos + 1
        return Text(out)

    def _atom(self, text: bytes) -> Value:
        # BODY[HEADER.FIELDS (DATE FROM)]<0> is one name: its brackets may hold spaces and lists.
        match = _ATOM(text, self._pos)
        assert match is not None
        word = match.group()
        end = match.end()
        if b"[" in word and b"]" not in word:
            close = text.find(b"]", end)
            end = close + 1 if close >= 0 else len(text)
            word = text[self._pos : end]
        self._pos = end
        if (
            word.startswith((b"{", b"~{"))
            and _LITERAL_END.match(text[end - len(word) :])
            and self._at + 2 < len(self._parts) + 1
        ):
            return self._jump()
        if word.isdigit() and len(word) < 20:
            return int(word)
        return None if word.upper() == b"NIL" else word

    def _jump(self) -> Value:
        literal = self._parts[self._at + 1]
        self._at += 2
        self._pos = 0
        return Text(literal)
