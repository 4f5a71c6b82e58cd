"""Addresses and domains as the directory compares them.

In     text that a client or an administrator typed.
Out    Name(local, domain): local part in NFC and casefolded, domain as lower-case A-labels.
Spec   [RFC 5321 §4.1.2, §4.5.3.1], [RFC 6531], [RFC 5890]; local parts are compared without case.
Fails  BadName.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

MAX_LOCAL = 64
MAX_DOMAIN = 253
MAX_DISPLAY = 256
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class BadName(ValueError):
    """Not an address, a domain or a name; the text says why, for people."""


class Name(NamedTuple):
    """An address ready to compare."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"


def domain_of(text: str) -> str:
    """A domain in the form it is stored in."""
    text = text.strip().rstrip(".").lower()
    if not text or len(text) > MAX_DOMAIN:
        raise BadName("a domain has 1 to 253 characters")
    try:
        name = text if text.isascii() else text.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise BadName("not a domain name") from None
    if len(name) > MAX_DOMAIN or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise BadName("not a domain name")
    return name


def local_of(text: str) -> str:
    """A local part in the form it is compared in."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        # [RFC 5321 §4.1.2] Quoted-string: the quotes are not part of the name
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    if not text or len(text.encode("utf-8", "replace")) > MAX_LOCAL:
        raise BadName("the part before the @ has 1 to 64 octets")  # [RFC 5321 §4.5.3.1.1]
    if any(unicodedata.category(char) in ("Cc", "Cs", "Cf", "Zl", "Zp") for char in text):
        raise BadName("control characters in an address")
    return text


def address_of(text: str) -> Name:
    """An address in the form it is compared in."""
    local, at, domain = text.strip().rpartition("@")
    if not at:
        raise BadName("an address has the form name@domain")
    return Name(local_of(local), domain_of(domain))


def split_detail(local: str, delimiter: str = "+") -> tuple[str, str]:
    """("alice", "lists") of "alice+lists"; detail is "" where there is none. [RFC 5233 §4]"""
    base, _, detail = local.partition(delimiter)
    return (base, detail) if base else (local, "")


def display_of(text: str) -> str:
    """A display name: one line, at most 256 characters."""
    text = unicodedata.normalize("NFC", text).strip()
    if len(text) > MAX_DISPLAY or any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text):
        raise BadName("a display name is one line of at most 256 characters")
    return text


def object_name(text: str) -> str:
    """A name for a database or a setting: a-z, 0-9, dot, dash, underline."""
    if not _NAME.fullmatch(text):
        raise BadName("a name has 1 to 64 of a-z, 0-9, '.', '-', '_', and begins with a letter or digit")
    return text
