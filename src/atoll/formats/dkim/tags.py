"""tag=value lists: signatures, key records, policies.

In     the unfolded value of a field, or a TXT record.
Out    tags in their order, values without outer white space.
Spec   [RFC 6376 §3.2]; white space around names and values is no part of them.
Fails  ValueError: no tag list, a tag twice, too many.
"""

from __future__ import annotations

import base64
import binascii
import re

MAX_TAGS = 64
MAX_VALUE = 1 << 16
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SPACE = re.compile(r"[ \t\r\n]+")


def tag_list(text: bytes) -> dict[str, str]:
    """The tags. ValueError."""
    if len(text) > MAX_VALUE:
        raise ValueError("a tag list is too long")
    found: dict[str, str] = {}
    parts = text.decode("utf-8").split(";", MAX_TAGS + 1)
    if parts[-1].strip(" \t\r\n") == "":
        parts.pop()
    if len(parts) > MAX_TAGS:
        raise ValueError("too many tags")
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.strip(" \t\r\n")
        if not equals or not _NAME.fullmatch(name):
            raise ValueError("not a tag list")
        if name in found:
            raise ValueError(f"tag {name} twice")
        found[name] = value.strip(" \t\r\n")
    return found


def words(value: str) -> list[str]:
    """A list with colons, in lower case."""
    return [word.strip(" \t\r\n").lower() for word in value.split(":")]


def octets(value: str) -> bytes:
    """Base64 with white space in it. ValueError."""
    try:
        return base64.b64decode(_SPACE.sub("", value).encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("not base64") from None


def number(value: str, digits: int = 12) -> int:
    """Digits only. ValueError."""
    if not (value.isascii() and value.isdigit() and len(value) <= digits):
        raise ValueError("not a number")
    return int(value)
