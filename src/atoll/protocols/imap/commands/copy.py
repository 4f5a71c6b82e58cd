"""COPY, UID COPY [RFC 9051 §6.4.7] and MOVE, UID MOVE [RFC 9051 §6.4.8], with COPYUID [RFC 4315].

Messages that another session expunged meanwhile are not copied; the rest is, all or none.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from atoll.mailbox import Folder, StoreError, UidSet
from atoll.protocols.imap import across, names
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.errors import No, to_no
from atoll.protocols.imap.remote import Elsewhere
from atoll.protocols.imap.selected import Selected
from atoll.protocols.imap.types import SequenceSet
from atoll.protocols.imap.wire import response
from atoll.protocols.imap.wire.cursor import Cursor

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session

def parse(cur: Cursor) -> tuple[SequenceSet, str]:
    """SP sequence-set SP mailbox"""
    cur.space()
    messages = cur.sequence_set()
    cur.space()
    mailbox = cur.mailbox()
    cur.end()
    return messages, mailbox


async def run(session: Session, args: tuple[SequenceSet, str], tag: bytes, *, uid: bool, move: bool) -> Ok:
    messages, mailbox = args
    selected = session.box
    if move and selected.read_only:
        raise No("READ-ONLY", "The mailbox is open read-only")
    ranges = selected.asked(messages, uid=uid)
    known = UidSet.of_ranges((start, start + count - 1) for low, high in ranges
                             for start, count in selected.uids.within(low, high))
    target = await _target(session, selected, mailbox)
    if not known:
        return Ok("Nothing to do")
    if not isinstance(target, Folder):
        return await (across.move if move else across.copy)(session, selected, known, target)
    work = selected.access.move if move else selected.access.copy
    placed = await work(selected.folder, known, target)
    if not placed and not uid:
        raise No("EXPUNGEISSUED", "The messages are gone")  # [RFC 2180 §4.4] they were there when the client named them
    code = across.copyuid(target.uidv, placed)
    if not move:
        return Ok("Copied", code)
    if code:
        session.write(f"* OK [{code}] Moved\r\n".encode("ascii"))  # [RFC 6851 §4.3] before the EXPUNGEs
    return session.moved_on("Moved")


async def _target(session: Session, selected: Selected, mailbox: str) -> Folder | across.Target:
    """A folder of the same mailbox, or what takes messages elsewhere."""
    try:
        access, target = await names.open_folder(session, mailbox)
    except StoreError as error:
        raise to_no(error, target=True) from None
    except Elsewhere as elsewhere:
        link = await session.link_to(elsewhere.info, carrying=True)
        return across.Far(link, response.mailbox(mailbox, utf8=session.enabled.rev2))
    if access.mailbox != selected.access.mailbox:
        return across.Here(selected.access, access, target)
    return target


run_copy = partial(run, uid=False, move=False)
run_uid_copy = partial(run, uid=True, move=False)
run_move = partial(run, uid=False, move=True)
run_uid_move = partial(run, uid=True, move=True)
