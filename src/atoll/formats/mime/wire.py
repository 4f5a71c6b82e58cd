"""Strings as IMAP writes them.

In     bytes or None.
Out    NIL, a quoted string, or a literal.
Spec   RFC 9051 §4.3, §9 (nstring, QUOTED-CHAR, literal): quoted strings hold 7-bit text without CR, LF and NUL.
Fails  never; NUL, which neither form may hold, becomes "?".
Not    literal8 and UTF-8 quoted strings: what is rendered at delivery must suit every client.
"""

from __future__ import annotations

MAX_QUOTED = 1000
_QUOTABLE = b"\t" + bytes(range(32, 127))
_PLAIN = _QUOTABLE.replace(b'"', b"").replace(b"\\", b"")


def string(value: bytes) -> bytes:
    """A quoted string where it is safe, else a literal."""
    # Deleting the harmless octets is the fastest way to see whether there are others.
    if not value.translate(None, _PLAIN) and len(value) <= MAX_QUOTED:
        return b'"%b"' % value
    if not value.translate(None, _QUOTABLE) and len(value) <= MAX_QUOTED:
        return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    value = value.replace(b"\0", b"?")
    return b"{%d}\r\n%b" % (len(value), value)


def nstring(value: bytes | None) -> bytes:
    """NIL for nothing, else a string. An empty string is a string."""
    return b"NIL" if value is None else string(value)
