"""NAMESPACE [RFC 2342], [RFC 9051 §6.3.10]: one's own at the root, other people's below "Other Users/"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.names import DELIMITER, OTHER_USERS

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session


async def run(session: Session, _: None, tag: bytes) -> Ok:
    line = f'* NAMESPACE (("" "{DELIMITER}")) (("{OTHER_USERS}{DELIMITER}" "{DELIMITER}")) NIL\r\n'
    session.write(line.encode("ascii"))
    return Ok("Namespaces listed")
