"""CLOSE [RFC 9051 §6.4.1] expunges silently; UNSELECT [RFC 9051 §6.4.2] does not expunge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.mailbox import Right
from atoll.protocols.imap.command import Ok

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session


async def run(session: Session, _: None, tag: bytes) -> Ok:
    selected = session.box
    if not selected.read_only and selected.folder.rights & Right.EXPUNGE:
        await selected.access.expunge(selected.folder, None)
    code = ""
    if session.enabled.qresync:
        # Without news this number is true only if nothing is left untold; what was held back stays below it.
        code = f"HIGHESTMODSEQ {selected.cn}"
    session.deselect()
    return Ok("Closed", code)


async def run_unselect(session: Session, _: None, tag: bytes) -> Ok:
    session.deselect()
    return Ok("Closed")
