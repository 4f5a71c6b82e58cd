"""A raw IMAP client that believes nothing: it reads the grammar of [RFC 9051 §9] and fails on anything else.

In     commands as text with literals. Out  Reply: the tagged answer and every untagged one as nested Python lists.
       Atoms are str, strings and literals are bytes, NIL is None, parentheses are lists.
Not    the project's parsers: nothing of atoll is imported here.
"""

from __future__ import annotations

import itertools
import re
import ssl
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.raw import Wire

_ATOM = re.compile(rb'[^\x00-\x20(){"\x7f-\xff]+')
_LITERAL = re.compile(rb"~?\{(\d+)\}$")
_SECTION = re.compile(r"(BODY|BINARY|BINARY\.SIZE)\[")


class Syntax(AssertionError):
    """The server said something that is not IMAP."""


@dataclass
class Untagged:
    """`* 3 FETCH (...)`: number 3, kind FETCH, values [[...]]. code, text: of OK, NO, BAD, BYE, PREAUTH."""

    kind: str
    number: int = 0
    values: list[Any] = field(default_factory=list)
    code: str = ""
    text: str = ""


@dataclass
class Reply:
    """The tagged answer with what came before it."""

    status: str
    code: str
    text: str
    untagged: list[Untagged]

    def all(self, kind: str) -> list[Untagged]:
        return [one for one in self.untagged if one.kind == kind]

    def one(self, kind: str) -> Untagged:
        found = self.all(kind)
        assert len(found) == 1, f"{kind}: {self.untagged}"
        return found[0]

    def numbers(self, kind: str) -> list[int]:
        """Of EXPUNGE and the like."""
        return [one.number for one in self.all(kind)]

    def codes(self) -> list[str]:
        """Response codes of untagged OK lines, then the tagged one."""
        return [one.code for one in self.all("OK") if one.code] + ([self.code] if self.code else [])

    def code_of(self, name: str) -> str:
        """The argument of a response code, wherever it stands."""
        for code in self.codes():
            if code == name or code.startswith(name + " "):
                return code[len(name) + 1 :]
        raise AssertionError(f"no [{name}] in {self.codes()}")

    def has_code(self, name: str) -> bool:
        return any(code == name or code.startswith(name + " ") for code in self.codes())

    def fetched(self) -> dict[int, dict[str, Any]]:
        """Message number -> item -> value, all FETCH answers merged in order."""
        found: dict[int, dict[str, Any]] = {}
        for one in self.all("FETCH"):
            found.setdefault(one.number, {}).update(pairs(one.values[0]))
        return found

    def by_uid(self) -> dict[int, dict[str, Any]]:
        return {int(items["UID"]): items for items in self.fetched().values()}

    def search(self) -> list[int]:
        return [int(value) for one in self.all("SEARCH") for value in one.values if isinstance(value, str)]

    def esearch(self) -> dict[str, Any]:
        """The one ESEARCH answer: TAG, UID (bool), and its results."""
        values = self.one("ESEARCH").values
        result: dict[str, Any] = {"UID": False}
        if values and isinstance(values[0], list):
            assert values[0][0] == "TAG"
            result["TAG"] = values[0][1].decode()
            values = values[1:]
        if values and values[0] == "UID":
            result["UID"] = True
            values = values[1:]
        result.update(zip(values[::2], values[1::2], strict=True))
        return result

    def boxes(self, kind: str = "LIST") -> dict[str, list[str]]:
        """Mailbox name (as on the wire) -> attributes of LIST or LSUB."""
        names = [text(one.values[2]) for one in self.all(kind)]
        assert len(names) == len(set(names)), f"listed twice: {names}"
        return {text(one.values[2]): one.values[0] for one in self.all(kind)}


def text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8")


def pairs(values: list[Any]) -> dict[str, Any]:
    """FETCH's list as a dictionary; an item twice is a fault."""
    assert len(values) % 2 == 0, values
    names = values[::2]
    assert len(names) == len(set(names)), f"item twice: {names}"
    return dict(zip(names, values[1::2], strict=True))


def quote(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def numbers(text_: str) -> list[int]:
    """A set of the server's as numbers; it may not hold a star."""
    found: list[int] = []
    for part in text_.split(","):
        low, _, high = part.partition(":")
        first, last = sorted((int(low), int(high or low)))
        found.extend(range(first, last + 1))
    return found


class Imap:
    """One connection. login: a demo account's name and password."""

    def __init__(self, port: int, tls: ssl.SSLContext, login: tuple[str, str] | None = None, *,
                 secure: bool = True) -> None:
        self.wire = Wire(port, tls, secure=secure)
        self._tags = itertools.count(1)
        self.tag = ""
        self.greeting = self.read()
        assert isinstance(self.greeting, Untagged)
        if login is not None:
            reply = self.cmd(f"LOGIN {quote(login[0])} {quote(login[1])}")
            assert reply.status == "OK", reply

    # reading

    def _whole(self) -> list[bytes]:
        """One response: pieces of lines and literals in turn."""
        pieces = [self.wire.line()]
        while (match := _LITERAL.search(pieces[-1])) is not None:
            pieces[-1] = pieces[-1][: match.start()]
            pieces.append(self.wire.octets(int(match.group(1))))
            pieces.append(self.wire.line())
        return pieces

    def read(self) -> Untagged | Reply | str:
        """The next response: untagged, tagged (a Reply without the untagged ones) or "+ ..."."""
        pieces = self._whole()
        head = pieces[0]
        if head[:1] == b"+":
            if head[:2] != b"+ ":
                raise Syntax(head)
            return head.decode("utf-8")
        if head.startswith(b"* "):
            return _untagged(pieces)
        tag, _, rest = head.partition(b" ")
        word, _, rest = rest.partition(b" ")
        if word not in (b"OK", b"NO", b"BAD") or not tag or len(pieces) > 1:
            raise Syntax(head)
        self.tag = tag.decode("ascii")
        code, said = _resp_text(rest)
        return Reply(word.decode("ascii"), code, said, [])

    def until(self, tag: str) -> Reply:
        """All untagged responses up to that tagged one."""
        untagged: list[Untagged] = []
        while True:
            answer = self.read()
            if isinstance(answer, Reply):
                assert self.tag == tag, f"tag {self.tag}, not {tag}: {answer}"
                answer.untagged = untagged
                return answer
            if isinstance(answer, str):
                raise Syntax(f"unexpected {answer}")
            untagged.append(answer)

    def told(self, count: int) -> list[Untagged]:
        """The next untagged responses (IDLE)."""
        found: list[Untagged] = []
        while len(found) < count:
            answer = self.read()
            assert isinstance(answer, Untagged), answer
            found.append(answer)
        return found

    # sending

    def next_tag(self) -> str:
        return f"t{next(self._tags)}"

    def start(self, *parts: str | bytes) -> str:
        """Send a command without waiting: str parts are text, bytes parts are non-synchronizing literals."""
        tag = self.next_tag()
        out = tag.encode("ascii") + b" "
        for part in parts:
            if isinstance(part, bytes):
                mark = b"~" if b"\0" in part else b""
                out += mark + b"{%d+}\r\n" % len(part) + part
            else:
                out += part.encode("utf-8")
        self.wire.send(out + b"\r\n")
        return tag

    def cmd(self, *parts: str | bytes) -> Reply:
        return self.until(self.start(*parts))

    def ok(self, *parts: str | bytes) -> Reply:
        reply = self.cmd(*parts)
        assert reply.status == "OK", f"{parts!r}: {reply}"
        return reply

    def no(self, *parts: str | bytes) -> Reply:
        reply = self.cmd(*parts)
        assert reply.status == "NO", f"{parts!r}: {reply}"
        return reply

    def bad(self, *parts: str | bytes) -> Reply:
        reply = self.cmd(*parts)
        assert reply.status == "BAD", f"{parts!r}: {reply}"
        return reply

    def plus(self) -> str:
        answer = self.read()
        assert isinstance(answer, str), answer
        return answer

    def sync(self, *parts: str | bytes) -> Reply:
        """A command whose bytes parts are synchronizing literals: each waits for "+ "."""
        tag = self.next_tag()
        self.wire.send(tag.encode("ascii") + b" ")
        for part in parts:
            if isinstance(part, bytes):
                self.wire.send(b"{%d}\r\n" % len(part))
                self.plus()
                self.wire.send(part)
            else:
                self.wire.send(part.encode("utf-8"))
        self.wire.send(b"\r\n")
        return self.until(tag)

    # often used

    def append(self, box: str, data: bytes, flags: str = "", date: str = "") -> int:
        """APPEND; the uid."""
        head = f"APPEND {quote(box)} " + (f"({flags}) " if flags else "") + (f'"{date}" ' if date else "")
        return int(self.ok(head, data).code_of("APPENDUID").split()[1])

    def select(self, box: str, more: str = "") -> Reply:
        return self.ok(f"SELECT {quote(box)}{more}")

    def uids(self) -> list[int]:
        return self.ok("UID SEARCH ALL").search()

    def flags(self, uid: int) -> set[str]:
        return set(self.ok(f"UID FETCH {uid} FLAGS").by_uid()[uid]["FLAGS"])

    def close(self) -> None:
        self.wire.close()


def _resp_text(rest: bytes) -> tuple[str, str]:
    said = rest.decode("utf-8")
    if not said.startswith("["):
        if not said:
            raise Syntax("a status without a text")
        return "", said
    depth, quoted = 0, False
    for at, char in enumerate(said):
        if char == '"':
            quoted = not quoted
        elif char == "]" and not quoted:
            if said[at + 1 : at + 2] not in (" ", ""):
                raise Syntax(said)
            return said[1:at], said[at + 2 :]
        depth += char == "("
    raise Syntax(said)


def _untagged(pieces: list[bytes]) -> Untagged:
    head = pieces[0][2:]
    word, _, rest = head.partition(b" ")
    if word in (b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"):
        code, said = _resp_text(rest)
        return Untagged(word.decode("ascii"), code=code, text=said)
    number = 0
    if word.isdigit():
        number = int(word)
        word, _, rest = rest.partition(b" ")
    return Untagged(word.decode("ascii"), number, _Values([rest, *pieces[1:]]).all())


class _Values:
    """Reads values separated by single spaces, with parentheses."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._lines = pieces[::2]
        self._literals = pieces[1::2]
        self._index = 0
        self._at = 0

    @property
    def _line(self) -> bytes:
        return self._lines[self._index]

    def _end_of_line(self) -> bool:
        return self._at >= len(self._line)

    def all(self) -> list[Any]:
        values = self._list(top=True)
        if not self._end_of_line() or self._index != len(self._lines) - 1:
            raise Syntax(self._lines)
        return values

    def _list(self, *, top: bool) -> list[Any]:
        values: list[Any] = []
        while True:
            if self._end_of_line() and self._index == len(self._lines) - 1:
                if top:
                    return values
                raise Syntax(("unclosed", self._lines))
            if self._line[self._at : self._at + 1] == b")" and not self._end_of_line():
                if top:
                    raise Syntax(self._lines)
                return values
            if values and self._line[self._at : self._at + 1] == b" ":
                self._at += 1
            elif values and not isinstance(values[-1], list):
                raise Syntax(("no space between values", self._line[max(0, self._at - 20) :]))
            values.append(self._value())

    def _value(self) -> Any:
        if self._end_of_line():
            value = self._literals[self._index]
            self._index += 1
            self._at = 0
            return value
        first = self._line[self._at : self._at + 1]
        if first == b"(":
            self._at += 1
            inner = self._list(top=False)
            self._at += 1
            return inner
        if first == b'"':
            return self._quoted()
        match = _ATOM.match(self._line, self._at)
        if match is None:
            raise Syntax(self._line[self._at :])
        word = match.group()
        stop = match.end()
        section = word.find(b"[")
        if section >= 0 and b"]" not in word:  # BODY[HEADER.FIELDS (A B)]<0>: one word
            stop = self._line.index(b"]", self._at) + 1
            while stop < len(self._line) and self._line[stop : stop + 1] not in (b" ", b")"):
                stop += 1
        elif b")" in word:
            stop = self._at + word.index(b")")
        word = self._line[self._at : stop]
        self._at = stop
        return None if word.upper() == b"NIL" else word.decode("ascii")

    def _quoted(self) -> bytes:
        out = bytearray()
        at = self._at + 1
        while True:
            char = self._line[at : at + 1]
            if char == b'"':
                break
            if char == b"\\":
                at += 1
                char = self._line[at : at + 1]
                if char not in (b"\\", b'"'):
                    raise Syntax(self._line)
            if not char:
                raise Syntax(self._line)
            out += char
            at += 1
        self._at = at + 1
        return bytes(out)
