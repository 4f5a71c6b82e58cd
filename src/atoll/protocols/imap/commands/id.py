"""ID [RFC 2971]: the client's words are checked for their form and not acted upon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.base.version import PRODUCT, __version__
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.types import ClientId

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session


async def run(session: Session, client: ClientId, tag: bytes) -> Ok:
    session.write(f'* ID ("name" "{PRODUCT}" "version" "{__version__}")\r\n'.encode("ascii"))
    return Ok("Noted")
