"""RENAME [RFC 9051 §6.3.6]: children follow; INBOX itself stays and its messages move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.protocols.imap import names
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.errors import No
from atoll.protocols.imap.wire.cursor import Cursor

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session


def parse(cur: Cursor) -> tuple[str, str]:
    """SP mailbox SP mailbox"""
    cur.space()
    old = cur.mailbox()
    cur.space()
    new = cur.mailbox()
    cur.end()
    return old, new


async def run(session: Session, args: tuple[str, str], tag: bytes) -> Ok:
    old, new = args[0], args[1].removesuffix(names.DELIMITER)
    names.check_new(new)
    source, old_path = await names.resolve(session, old)
    target, new_path = await names.resolve(session, new)
    if source.mailbox != target.mailbox:
        raise No("CANNOT", "A folder stays in its mailbox")
    await source.rename(old_path, new_path)
    return Ok("Renamed")
