"""Strings as IMAP writes them.

In     bytes or None.
Out    NIL, a quoted string, or a literal.
Spec   RFC 9051 §4.3, §9 (nstring, QUOTED-CHAR, literal): quoted strings hold 7-bit text without CR, LF and NUL.
Fails  never; NUL, which neither form may hold, becomes "?".
Not    literal8 and UTF-8 quoted strings: what is rendered at delivery must suit every client.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(rb"[\t -!#-\[\]-~]{0,1000}").fullmatch
_QUOTABLE = re.compile(rb"[\t -~]{0,1000}").fullmatch


def string(value: bytes) -> bytes:
    """A quoted string where it is safe, else a literal."""
    if _PLAIN(value):
        return b'"%b"' % value
    if _QUOTABLE(value):
        return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    value = value.replace(b"\0", b"?")
    return b"{%d}\r\n%b" % (len(value), value)


def nstring(value: bytes | None) -> bytes:
    """NIL for nothing, else a string. An empty string is a string."""
    return b"NIL" if value is None else string(value)
