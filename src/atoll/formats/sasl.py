"""SASL PLAIN and LOGIN as IMAP, POP3 and SMTP carry them: a client's line to names and passwords, pure.

In     base64 lines. Out  Credentials.
Spec   [RFC 4616] PLAIN; [RFC 4954 §4, RFC 5034 §4] "=" alone is an empty line; LOGIN is a de-facto mechanism.
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
    """The octets of a line."""
    if line == b"=":
        return b""
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error:
        raise NotSasl("Not base64") from None


def plain(response: bytes) -> Credentials:
    """[authzid] NUL authcid NUL password"""
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise NotSasl("Not a PLAIN response")
    authzid = name(parts[0])
    if parts[0] and not authzid:  # to act as somebody who cannot be is not to act as oneself
        raise NotSasl("Not a PLAIN response")
    return Credentials(name(parts[1]), parts[2], authzid)


def name(raw: bytes) -> str:
    """A login name: UTF-8 without control characters. What is no name cannot be anybody's: "" then."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return "" if any(char < " " or char == "\x7f" for char in text) or len(text) > 320 else text
