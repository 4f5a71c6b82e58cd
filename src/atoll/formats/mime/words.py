"""Text of headers and bodies: character sets and encoded words.

In     bytes, the name of a character set as the sender wrote it.
Out    str.
Spec   RFC 2047; RFC 2231 §5 (language tag in encoded words); RFC 6532 (raw UTF-8).
Fails  never: unknown or dishonest character sets fall back to UTF-8, then Windows-1252.
Not    UTF-7 and the codecs of Python that are no character sets: they turn plain text into markup or burn CPU.
"""

from __future__ import annotations

import binascii
import codecs
import re
from functools import lru_cache

_WORD = re.compile(rb"=\?([^?\s*]{1,60})(?:\*[^?\s]{0,30})?\?([bBqQ])\?([^?]*)\?=")
_QESCAPE = re.compile(rb"=([0-9A-Fa-f]{2})")
_REFUSED = frozenset(
    {
        *("utf_7", "unicode_escape", "raw_unicode_escape", "idna", "punycode", "undefined", "mbcs", "oem", "palmos"),
        *("charmap", "base64", "bz2", "hex", "quopri", "rot_13", "uu", "zlib"),
    }
)
_ALIASES = {
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "iso8859-1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "iso-8859-8-i": "iso8859-8",
    "x-sjis": "cp932",
    "shift_jis": "cp932",
    "windows-874": "cp874",
    "tis-620": "cp874",
    "x-mac-roman": "mac_roman",
}


@lru_cache(maxsize=256)
def _codec(charset: bytes) -> str | None:
    """Python's name for a character set, None when it has none that is safe to use."""
    name = charset[:60].decode("ascii", "replace").strip(" \t\"'").lower()
    name = _ALIASES.get(name, name)
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    plain = info.name.replace("-", "_")
    return None if plain in _REFUSED or not getattr(info, "_is_text_encoding", True) else info.name


def to_text(raw: bytes, charset: bytes = b"") -> str:
    """The text of raw octets in `charset`; never raises, U+FFFD for what does not decode."""
    if raw.isascii() and (not charset or charset.lower() in (b"utf-8", b"us-ascii", b"iso-8859-1")):
        return raw.decode("ascii")
    codec = _codec(charset) if charset else None
    if codec is not None and codec != "ascii":
        try:
            return raw.decode(codec)
        except UnicodeError:
            if codec == "utf-8":
                return raw.decode("utf-8", "replace")
        except Exception:  # noqa: S110 - a codec that fails in its own way must not lose the message
            pass
        else:
            return ""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace") if codec in (None, "ascii") else raw.decode(codec, "replace")


def _word_bytes(encoding: bytes, payload: bytes) -> bytes:
    if encoding in b"qQ":
        return _QESCAPE.sub(lambda m: bytes.fromhex(m.group(1).decode("ascii")), payload.replace(b"_", b" "))
    return base64_bytes(payload)


def base64_bytes(payload: bytes) -> bytes:
    """Base64 as far as it goes: foreign octets skipped, missing padding added, an odd digit at the end dropped."""
    try:
        return binascii.a2b_base64(payload)
    except binascii.Error:
        digits = re.sub(rb"[^A-Za-z0-9+/]", b"", payload)
        digits = digits[: len(digits) - 1] if len(digits) % 4 == 1 else digits
        return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def decoded(raw: bytes) -> str:
    """A header value for people: encoded words decoded, raw 8-bit text guessed. Never raises."""
    if b"=?" not in raw:
        return to_text(raw)
    out: list[str] = []
    pending: list[bytes] = []  # neighbours in one character set may share a character: joined before decoding
    charset = b""
    pos = 0
    for match in _WORD.finditer(raw):
        between = raw[pos : match.start()]
        word_charset = match.group(1).lower()
        # [RFC 2047 §6.2] white space between two encoded words is not shown.
        if pending and (between.strip(b" \t\r\n") or word_charset != charset):
            out.append(to_text(b"".join(pending), charset))
            pending = []
            if between.strip(b" \t\r\n"):
                out.append(to_text(between))
        elif not pending and between:
            out.append(to_text(between))
        charset = word_charset
        pending.append(_word_bytes(match.group(2), match.group(3)))
        pos = match.end()
    if pending:
        out.append(to_text(b"".join(pending), charset))
    out.append(to_text(raw[pos:]))
    return "".join(out)
