"""EXPUNGE [RFC 9051 §6.4.3] and UID EXPUNGE [RFC 9051 §6.4.9]: what is \\Deleted goes to recoverable items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.mailbox import UidSet
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.errors import No
from atoll.protocols.imap.types import SequenceSet
from atoll.protocols.imap.wire.cursor import Cursor

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session


def parse_uid(cur: Cursor) -> SequenceSet:
    """SP sequence-set"""
    cur.space()
    messages = cur.sequence_set()
    cur.end()
    return messages


async def run(session: Session, messages: SequenceSet | None, tag: bytes) -> Ok:
    selected = session.box
    if selected.read_only:
        raise No("READ-ONLY", "The mailbox is open read-only")
    uids = None
    if messages is not None:
        uids = UidSet(tuple(selected.asked(messages, uid=True)))
        if not uids:
            return Ok("Nothing to do")
    await selected.access.expunge(selected.folder, uids)
    return session.moved_on("Expunged")
