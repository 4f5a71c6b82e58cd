"""CREATE [RFC 9051 §6.3.4] with USE [RFC 6154 §3]; the answer names the MAILBOXID [RFC 8474 §4.1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.mailbox import WellKnown
from atoll.protocols.imap import names
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.errors import Bad, No
from atoll.protocols.imap.wire.cursor import Cursor

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session

USES = {use.upper(): known for known, use in names.SPECIAL_USE.items()}


def parse(cur: Cursor) -> tuple[str, tuple[str, ...]]:
    """SP mailbox [SP "(USE (" use-attr ... "))"]"""
    cur.space()
    name = cur.mailbox()
    uses: tuple[str, ...] = ()
    if cur.skip(b" ("):
        if not cur.skip(b"USE "):
            raise Bad("Unknown parameter of CREATE")
        uses = cur.flag_list()
        cur.expect(b")")
    cur.end()
    return name, uses


async def run(session: Session, args: tuple[str, tuple[str, ...]], tag: bytes) -> Ok:
    name, uses = args
    # [RFC 9051 §6.3.4] a name that ends in the delimiter announces that children will follow
    name = name.removesuffix(names.DELIMITER)
    names.check_new(name)
    known = WellKnown.NONE
    if uses:
        if len(uses) > 1 or uses[0].upper() not in USES:
            raise No("USEATTR", "Not a use for a mailbox")  # [RFC 6154 §3]
        known = USES[uses[0].upper()]
    access, path = await names.resolve(session, name)
    if known and any(folder.wellknown == known for folder in access.folders()):
        raise No("USEATTR", "Another mailbox has that use")
    folder = await access.create(path, known)
    return Ok("Created", f"MAILBOXID ({folder.object_id})")
