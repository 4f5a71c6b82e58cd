"""NOOP [RFC 9051 §6.1.2] and CHECK [RFC 3501 §6.4.1]: what is stored is durable already, so both only tell news."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.protocols.imap.command import Ok

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session


async def run(session: Session, _: None, tag: bytes) -> Ok:
    return Ok("Nothing done")
