"""IDLE [RFC 9051 §6.3.13]: from here on the session is one object that waits; the mailbox layer's notices wake it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.protocols.imap.command import Ok

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session


async def run(session: Session, _: None, tag: bytes) -> Ok:
    session.begin_idle(tag)
    return Ok()
