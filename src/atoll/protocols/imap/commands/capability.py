"""CAPABILITY [RFC 9051 §6.1.1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.protocols.imap.command import Ok

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session

CAPABILITIES = (
    "IMAP4rev1 IMAP4rev2 ACL RIGHTS=kxte APPENDLIMIT={append} BINARY CHILDREN CONDSTORE CREATE-SPECIAL-USE ENABLE "
    "ESEARCH ESORT ID IDLE LIST-EXTENDED LIST-STATUS LITERAL+ MOVE MULTIAPPEND NAMESPACE OBJECTID QRESYNC QUOTA "
    "QUOTA=RES-STORAGE QUOTA=RES-MESSAGE SASL-IR SEARCHRES SORT SPECIAL-USE STATUS=SIZE THREAD=ORDEREDSUBJECT "
    "THREAD=REFERENCES UIDPLUS UNSELECT"
)


def text(session: Session) -> str:
    """What a signed-in client may use."""
    return CAPABILITIES.format(append=session.server.limits.append)


async def run(session: Session, _: None, tag: bytes) -> Ok:
    words = text(session) if session.access is not None else "IMAP4rev1 AUTH=ATOLL SASL-IR"
    session.write(f"* CAPABILITY {words}\r\n".encode("ascii"))
    return Ok("Capabilities listed")
