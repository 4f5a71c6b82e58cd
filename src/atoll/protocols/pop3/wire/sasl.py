"""protocols.pop3.wire.sasl -- the client's words of AUTH PLAIN, AUTH LOGIN and USER.

In     base64 of the wire. Out  names and passwords. Spec  [RFC 5034], [RFC 4616]; LOGIN is a de-facto mechanism.
Fails  NotSasl. Not  who that is (the directory).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field


class NotSasl(Exception):
    """The words are out of form; the text may be shown."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client signs in with. The password is never shown by repr."""

    login: str
    password: bytes = field(repr=False)
    authzid: str = ""


def unbase64(line: bytes) -> bytes:
    """The octets of a SASL line; "=" alone is an empty one [RFC 5034 §4]."""
    if line == b"=":
        return b""
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error:
        raise NotSasl("Not base64") from None


def plain(response: bytes) -> Credentials:
    """authzid NUL authcid NUL password"""
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1]:
        raise NotSasl("Not a PLAIN response")
    return Credentials(name(parts[1]), parts[2], name(parts[0]))


def name(raw: bytes) -> str:
    """A login name: UTF-8 without control characters. What is no name cannot be anybody's: "" then."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return "" if any(char < " " or char == "\x7f" for char in text) or len(text) > 320 else text
