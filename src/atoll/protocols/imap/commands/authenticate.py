"""AUTHENTICATE ATOLL token: how a frontend hands a signed-in client over (PROCESSES 4). The only mechanism here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.base.ids import MailboxId, UserId
from atoll.mailbox import StoreError
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.commands import capability
from atoll.protocols.imap.errors import No
from atoll.protocols.imap.wire.cursor import Cursor

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session


def parse(cur: Cursor) -> bytes:
    """SP "ATOLL" SP token"""
    cur.space()
    if cur.word() != "ATOLL":
        raise No("CANNOT", "Mechanism is not supported")
    cur.space()
    token = cur.astring()
    cur.end()
    return token


async def run(session: Session, token: bytes, tag: bytes) -> Ok:
    claims = session.sign_in(token)
    try:
        access = await session.server.store.open(MailboxId(claims.mbx), UserId(claims.sub), scope=claims.scp)
    except StoreError as error:
        if error.temporary:
            raise
        raise No("AUTHORIZATIONFAILED", "This mailbox may not be opened") from None  # the authzid's
    session.access = access
    session.claims = claims
    return Ok("Signed in", "CAPABILITY " + capability.text(session))
