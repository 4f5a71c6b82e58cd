"""DELETE [RFC 9051 §6.3.5]: the folder's messages go to recoverable items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.protocols.imap import names
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.errors import No
from atoll.protocols.imap.wire.cursor import Cursor

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session


def parse(cur: Cursor) -> str:
    """SP mailbox"""
    cur.space()
    name = cur.mailbox()
    cur.end()
    return name


async def run(session: Session, name: str, tag: bytes) -> Ok:
    if name == "INBOX":
        raise No("CANNOT", "INBOX cannot be deleted")
    access, path = await names.resolve(session, name)
    folder = access.folder(path)
    selected = session.selected
    if selected is not None and selected.folder.fid == folder.fid and selected.access.mailbox == access.mailbox:
        session.deselect()
    await access.delete(path)
    return Ok("Deleted")
