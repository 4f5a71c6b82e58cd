"""LOGOUT [RFC 9051 §6.1.3]: BYE, then OK, then the end. \\Deleted messages stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.errors import Bye

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session


async def run(session: Session, _: None, tag: bytes) -> Ok:
    session.deselect()
    raise Bye("", "Bye")
