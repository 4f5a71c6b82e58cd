"""protocols.imap.wire.response -- print what a server says, and the words both sides share.

In     values. Out  bytes for the wire, ready to be joined.
Spec   [RFC 9051 §7, §9]: quoted strings hold printable ASCII (UTF-8 too where both sides agreed), else a literal.
Fails  never. Not  FETCH of bodies (commands/fetch.py).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable

from atoll.protocols.imap.types import STAR, SequenceSet
from atoll.protocols.imap.wire import utf7

_ATOM = re.compile(rb"[^\x00-\x20(){%*\"\\\]\x7f-\xff]+\Z")
_QUOTABLE = re.compile(rb"[\x20-\x7e]*\Z")
_QUOTABLE_UTF8 = re.compile(rb"[\x20-\x7e\x80-\xff]*\Z")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIRST, _LAST = -62_000_000_000_000, 253_000_000_000_000  # within years 1 to 9999: what the form can say
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


def quoted(value: bytes, *, utf8: bool = False) -> bytes:
    """A string: quoted where it may be, else a literal."""
    if (_QUOTABLE_UTF8 if utf8 else _QUOTABLE).match(value) and len(value) <= 1000:
        if b"\\" in value or b'"' in value:
            value = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        return b'"' + value + b'"'
    return literal(value)


def literal(value: bytes) -> bytes:
    return b"{%d}\r\n%b" % (len(value), value)


def nstring(value: bytes | None) -> bytes:
    return b"NIL" if value is None else quoted(value)


def astring(value: bytes) -> bytes:
    """An atom where it may be, else a string. NIL is quoted: it would be read as nothing."""
    return value if _ATOM.match(value) and value.upper() != b"NIL" else quoted(value)


def mailbox(name: str, *, utf8: bool) -> bytes:
    """A mailbox name: UTF-8 after ENABLE IMAP4rev2, else modified UTF-7."""
    return quoted(name.encode("utf-8"), utf8=True) if utf8 else astring(utf7.encode(name))


def ranges(pairs: Iterable[tuple[int, int]]) -> bytes:
    """1:3,5"""
    return b",".join(b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in pairs)


def sequence_set(numbers: SequenceSet) -> bytes:
    """A set as a client writes it."""
    if numbers.saved:
        return b"$"
    return b",".join(_star(low) if low == high else _star(low) + b":" + _star(high) for low, high in numbers.ranges)


def _star(number: int) -> bytes:
    return b"*" if number == STAR else b"%d" % number


def flags(names: Iterable[str]) -> bytes:
    """(\\Seen keyword)"""
    return b"(" + " ".join(names).encode("ascii") + b")"


def internal_date(at: int) -> bytes:
    """Milliseconds since 1970 as " 5-Nov-2026 09:01:02 +0000", quoted; always UTC."""
    moment = _EPOCH + dt.timedelta(milliseconds=min(max(at, _FIRST), _LAST))
    return b'"%2d-%b-%04d %02d:%02d:%02d +0000"' % (moment.day, _MONTHS[moment.month - 1], moment.year, moment.hour,
                                                    moment.minute, moment.second)


def status(tag: bytes, word: str, text: str, code: str = "") -> bytes:
    """`tag OK [CODE] text`. Control characters in the text become "?": a text never adds a line."""
    line = f"{word} [{code}] {text}" if code else f"{word} {text}"
    return tag + b" " + "".join(char if " " <= char <= "~" else "?" for char in line).encode("ascii") + b"\r\n"
