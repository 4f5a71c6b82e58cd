"""edge.names -- what the agents of the perimeter ask of the DNS, and domain names as they come in mail.

In     names that strangers wrote.
Out    `Names`, which runtime.questions.Questions provides; domain() gives the one spelling that names are compared in.
Spec   [RFC 1035 §2.3.4] lengths; [RFC 5890] U-labels; [RFC 8616 §3] in signatures.
Fails  runtime.egress.Away from every question: nobody answers, ask again later. No such name is an empty answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


class Names(Protocol):
    """Questions; an empty answer: there is no such record, or no such name. Away: it is not known just now."""

    async def text(self, name: str) -> Sequence[bytes]:
        """TXT: the strings of each record joined."""

    async def addresses(self, name: str, kind: str) -> Sequence[str]:
        """kind: A or AAAA."""

    async def hosts(self, name: str, kind: str) -> Sequence[str]:
        """kind: MX or PTR; without the last dot."""

    def forget(self, name: str, kind: str) -> None:
        """Whatever is known of it: ask anew."""


def domain(text: str) -> str | None:
    """The name as it is asked for and compared: lower case, A-labels, no last dot. None: no domain name."""
    text = text.removesuffix(".").lower()
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    return text if len(text) <= 253 and _NAME.fullmatch(text) else None


def within(name: str, parent: str) -> bool:
    """Is this the parent or below it?"""
    return name == parent or name.endswith("." + parent)
