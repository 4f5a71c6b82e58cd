"""edge.message -- a message as signatures see it: its fields as they came, where its body begins, its author.

In     the octets of a message, CRLF line ends.
Out    Message; author(): the one mailbox of From, or why there is none.
Spec   [RFC 5322 §2.2, §3.6.2, §4.5]; [RFC 6376 §5.4.2] fields are counted from the bottom.
Fails  never: what is no field has no name.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from atoll.edge.names import domain
from atoll.formats.mime.addresses import MISSING_DOMAIN, MISSING_MAILBOX, parse_addresses
from atoll.formats.mime.fields import header_end, header_lines

MAX_FIELDS = 2000
"""A header with more is not looked into: no mail has it."""
MAX_HEADER = 1 << 20
_NAME = re.compile(rb"[!-9;-~]+")


class Field(NamedTuple):
    """name: lower case, b"" for what is no field; raw: with its line ends."""

    name: bytes
    raw: bytes

    @property
    def value(self) -> bytes:
        """What follows the colon, unfolded."""
        return self.raw.partition(b":")[2].replace(b"\r\n", b"").replace(b"\n", b"").strip(b" \t")


class Author(NamedTuple):
    """Whom a message says it is from. fault: why nobody can be held to it, "" if one can.

    forged: written so that mail programs may show different authors; honest mail never is.
    """

    domain: str
    fault: str = ""
    forged: bool = False
    address: str = ""


class Message:
    """Parsed once for all agents. too_long: its header was not looked into, it has no fields."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.body = header_end(content)
        self.fields: list[Field] = []
        self.too_long = self.body > MAX_HEADER
        if not self.too_long:
            for name, raw in header_lines(content, 0, self.body):
                if len(self.fields) >= MAX_FIELDS:
                    self.too_long, self.fields = True, []
                    break
                self.fields.append(Field(name.lower() if _NAME.fullmatch(name) else b"", raw))

    def named(self, name: bytes) -> list[Field]:
        """From the top."""
        return [field for field in self.fields if field.name == name]

    def author(self) -> Author:
        """[RFC 9989 §5.3.1]: exactly one From with exactly one mailbox, read as mail programs read it."""
        if self.too_long:
            return Author("", "the header is too long")
        fields = self.named(b"from")
        if any(_LOOKS.match(field.raw) for field in self.fields):
            return Author("", "a From field that is not written as one", forged=True)
        if len(fields) != 1:
            return Author("", f"{len(fields)} From fields" if fields else "no From field", forged=bool(fields))
        return _author(fields[0].value)


_LOOKS = re.compile(rb"(?:[\s\0]+from[\s\0]*|from[\s\0]+):", re.I)
"""What some programs take for a From field, and others not."""


def _author(value: bytes) -> Author:
    found = [one for one in parse_addresses(value, 50) if one.host is not None]
    if len(found) != 1:
        return Author("", "no address in From" if not found else f"{len(found)} addresses in From")
    one = found[0]
    host, mailbox = one.host or b"", one.mailbox or b""
    if host == MISSING_DOMAIN or mailbox == MISSING_MAILBOX:
        return Author("", "no address in From")
    if value.count(b"<") > 1 or one.route:
        return Author("", "an ambiguous address in From", forged=True)
    name = domain(host.decode("utf-8", "replace"))
    local = mailbox.decode("utf-8", "replace")
    return Author("", "no domain in From") if name is None else Author(name, address=f"{local}@{name}")
