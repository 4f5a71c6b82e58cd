"""Address lists.

In     the unfolded value of From, To, Cc ...
Out    Address tuples in order; a group is a start marker (mailbox = its name), its members, an end marker.
Spec   RFC 5322 §3.4, §4.4 (obs-route, obs-phrase, empty members); RFC 9051 §7.5.2 (ENVELOPE's address).
Fails  never: what cannot be an address yields the best guess, with MISSING_DOMAIN or MISSING_MAILBOX.
Not    decoding of encoded words: names stay as they came.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MISSING_DOMAIN = b"MISSING_DOMAIN"
MISSING_MAILBOX = b"MISSING_MAILBOX"


class Address(NamedTuple):
    """One address of an ENVELOPE. host None: a group marker, with mailbox its name (start) or None (end)."""

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


# The forms nearly all mail uses: a@b, Name <a@b>, "Name" <a@b>; anything else takes the tokenizer below.
_WORD = rb'[^\s"(),:;<>@\[\]\\]+'
_COMMON = re.compile(
    rb"[ \t]*(?:"
    rb'(?:"([^"\\\r\n\0]*)"|([^\s"(),:;<>@\[\]\\][^"(),:;<>@\[\]\\\t\r\n\0]*?))?[ ]*<(%b)@(%b)>'
    rb"|(%b)@(%b)"
    rb")[ \t]*(?:,|$)" % (_WORD, _WORD, _WORD, _WORD)
).match

_TOKEN = re.compile(
    rb"""[ \t\r\n]+|"([^"\\]*(?:\\.[^"\\]*)*)(?:"|\\?$)|(\[[^\]\\]*(?:\\.[^\]\\]*)*(?:\]|\\?$))|([()<>,;:@])"""
    rb"""|((?:[^\s"()<>,;:@\[\]\\]|\\.)+)|(.)""",
    re.DOTALL,
).match
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT_STEP = re.compile(rb"[^()\\]*(?:\\.[^()\\]*)*", re.DOTALL).match


def parse_addresses(value: bytes, limit: int = 10_000) -> list[Address]:
    """The addresses of a header value, at most `limit`."""
    found: list[Address] = []
    pos, size = 0, len(value)
    while pos < size and len(found) < limit:
        common = _COMMON(value, pos)
        if common is None:
            return _Parser(value[pos:], found, limit).run()
        quoted, plain, mailbox, host, bare, bare_host = common.groups()
        if bare is not None:
            found.append(Address(None, None, bare, bare_host))
        else:
            name = quoted if quoted is not None else plain
            found.append(Address(name or None, None, mailbox, host))
        pos = common.end()
    return found


def comment_end(value: bytes, pos: int) -> int:
    """Offset after the comment that opens at `pos` (RFC 5322 §3.2.2, nested); the end when it never closes."""
    depth, size = 0, len(value)
    while pos < size:
        byte = value[pos]
        if byte == 0x28:
            depth += 1
        elif byte == 0x29:
            depth -= 1
            if depth == 0:
                return pos + 1
        pos += 1
        step = _COMMENT_STEP(value, pos)
        pos = step.end() if step else pos
        if pos < size and value[pos] == 0x5C:  # a backslash as the last octet
            return size
    return size


def without_comments(value: bytes) -> bytes:
    """The value with each comment outside quoted strings replaced by a space."""
    if b"(" not in value:
        return value
    out: list[bytes] = []
    pos, size = 0, len(value)
    while pos < size:
        token = _TOKEN(value, pos)
        if token is None:
            break
        if token.group(3) == b"(":
            out.append(b" ")
            pos = comment_end(value, pos)
        else:
            out.append(token.group())
            pos = token.end()
    return b"".join(out)


class _Parser:
    """One pass over the tokens of an address list."""

    def __init__(self, value: bytes, found: list[Address], limit: int) -> None:
        self._value = value
        self._found = found
        self._limit = limit
        self._in_group = False
        self._clear()

    def _clear(self) -> None:
        self._words: list[bytes] = []  # phrase, or the local part of a bare address
        self._gaps: list[bool] = []  # was there white space before the word?
        self._local: list[bytes] | None = None  # what stood before the @
        self._angle: Address | None = None
        self._comment: bytes | None = None
        self._space = False
        self._seen = False

    def run(self) -> list[Address]:
        value, pos, size = self._value, 0, len(self._value)
        while pos < size and len(self._found) < self._limit:
            token = _TOKEN(value, pos)
            if token is None:
                break
            quoted, literal, special, atom, other = token.groups()
            if special == b"(":
                end = comment_end(value, pos)
                self._comment = self._comment or _ESCAPED.sub(rb"\1", value[pos + 1 : end - 1]).strip()
                pos, self._space = end, True
                continue
            if special == b"<":
                pos = self._route_addr(token.end())
                continue
            pos = token.end()
            if special is not None:
                self._special(special)
            elif quoted is not None:
                self._word(_ESCAPED.sub(rb"\1", quoted))
            elif literal is not None or atom is not None or other is not None:
                self._word(literal or atom or other or b"")
            else:
                self._space = True
        if len(self._found) < self._limit:
            self._flush()
        if self._in_group:
            self._found.append(Address(None, None, None, None))
        return self._found

    def _word(self, text: bytes) -> None:
        self._words.append(text)
        self._gaps.append(self._space)
        self._space = False
        self._seen = True

    def _special(self, special: bytes) -> None:
        if special == b",":
            self._flush()
        elif special == b":" and not self._in_group and self._local is None:
            self._found.append(Address(None, None, self._phrase() or b"", None))
            self._in_group = True
            self._clear()
        elif special == b";":
            self._flush()
            if self._in_group:
                self._found.append(Address(None, None, None, None))
                self._in_group = False
        elif special == b"@" and self._local is None and self._angle is None:
            self._local, self._words, self._gaps = self._words, [], []
            self._seen = True
        else:
            self._word(special)

    def _phrase(self) -> bytes | None:
        words = [
            b" " + word if gap and at else word
            for at, (word, gap) in enumerate(zip(self._words, self._gaps, strict=True))
        ]
        return b"".join(words).strip() or None

    def _flush(self) -> None:
        if self._angle is not None:
            self._found.append(self._angle)
        elif self._local is not None:
            local, host = b"".join(self._local), b"".join(self._words)
            self._found.append(Address(self._comment, None, local or MISSING_MAILBOX, host or MISSING_DOMAIN))
        elif self._seen:
            self._found.append(Address(self._comment, None, self._phrase() or MISSING_MAILBOX, MISSING_DOMAIN))
        self._clear()

    def _route_addr(self, pos: int) -> int:
        """After "<": [@a,@b:] local @ domain ">"; returns the offset after ">"."""
        value, size = self._value, len(self._value)
        route: list[bytes] = []
        local: list[bytes] | None = None
        words: list[bytes] = []
        while pos < size:
            token = _TOKEN(value, pos)
            if token is None:
                break
            quoted, literal, special, atom, other = token.groups()
            pos = token.end()
            if special == b">":
                break
            if special == b"(":
                pos = comment_end(value, pos - 1)
            elif special == b"@" and local is None:
                local, words = words, []
            elif special in (b",", b":") and local is not None and not b"".join(local):
                # [RFC 5322 §4.4] obs-route: a list of @domain that a colon ends.
                route.append(b"@" + b"".join(words))
                local, words = None, []
            elif special == b",":
                continue
            elif quoted is not None:
                words.append(_ESCAPED.sub(rb"\1", quoted))
            else:
                words.append(literal or atom or other or special or b"")
        mailbox = b"".join(words if local is None else local) or MISSING_MAILBOX
        host = (b"".join(words) if local is not None else b"") or MISSING_DOMAIN
        phrase = self._phrase()
        if self._local is not None:  # name@home <a@b>: the part before was a name after all
            phrase = b"".join(self._local) + b"@" + (phrase or b"")
        self._angle = Address(phrase or self._comment, b",".join(route) or None, mailbox, host)
        self._local, self._words, self._gaps = None, [], []
        return pos
