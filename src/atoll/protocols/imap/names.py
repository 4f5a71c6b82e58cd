"""protocols.imap.names -- from a mailbox name of the wire to a folder of a mailbox, and back.

In     names: "INBOX", "Archive/2025", "Other Users/bob@example.test/INBOX". Out  (Access, path).
Spec   [RFC 2342] NAMESPACE; [RFC 9051 §5.1, §6.3.4]. Whether a person may look is Access's to say.
Fails  No: NONEXISTENT, CANNOT for a name that must not be made. Elsewhere: another process of the island has it.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from atoll.base.ids import MailboxId, UserId
from atoll.mailbox import Access, Folder, StoreError, WellKnown
from atoll.protocols.imap.errors import No
from atoll.protocols.imap.remote import OTHER_USERS, Elsewhere

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session

DELIMITER = "/"
MAX_LEVEL = 255
MAX_NAME = 1000
MAX_OTHERS = 32

SPECIAL_USE: dict[WellKnown, str] = {
    WellKnown.DRAFTS: "\\Drafts", WellKnown.SENT: "\\Sent", WellKnown.TRASH: "\\Trash", WellKnown.JUNK: "\\Junk",
    WellKnown.ARCHIVE: "\\Archive",
}
"""[RFC 6154 §2]"""


async def resolve(session: Session, name: str) -> tuple[Access, str]:
    """Whose mailbox, and which path in it. No("NONEXISTENT") for a person who is not there or shares nothing."""
    if not name.startswith(OTHER_USERS + DELIMITER):
        if session.is_delegate:  # RENAME between this mailbox and the person's own, which is in another process
            raise No("CANNOT", "A folder stays in its mailbox")
        return session.mine, name
    address, _, path = name.removeprefix(OTHER_USERS + DELIMITER).partition(DELIMITER)
    return await other_user(session, address), path


async def other_user(session: Session, address: str) -> Access:
    """Access to somebody else's mailbox; kept for the session."""
    key = address.casefold()
    access = session.others.get(key)
    if access is not None and access.is_open:
        return access
    assert session.claims is not None
    info = await session.server.people.mailbox_of(address)
    if info is None:
        raise No("NONEXISTENT", "No such folder")
    if info.backend != session.server.backend:
        raise Elsewhere(info)
    try:
        access = await session.server.store.open(MailboxId(info.mailbox), UserId(session.claims.sub))
    except StoreError as error:
        if error.temporary:
            raise
        raise No("NONEXISTENT", "No such folder") from None  # reads like a person who is not there
    if len(session.others) >= MAX_OTHERS:
        session.others.pop(next(iter(session.others)))
    session.others[key] = access
    return access


async def open_folder(session: Session, name: str) -> tuple[Access, Folder]:
    """The folder of a name; StoreError or No when there is none."""
    access, path = await resolve(session, name)
    return access, access.folder(path)


def check_new(name: str) -> None:
    """May a mailbox be given this name? No("CANNOT") otherwise [RFC 9051 §5.1]."""
    levels = name.split(DELIMITER)
    wrong = (
        len(name) > MAX_NAME
        or any(not level or level in (".", "..") or len(level) > MAX_LEVEL or level != level.strip()
               for level in levels)
        or any(char in "%*\\" or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name)
        # Two spellings of one name would be two mailboxes that look alike [RFC 9051 §5.1: Net-Unicode, RFC 5198].
        or unicodedata.normalize("NFC", name) != name
        or (levels[0] == OTHER_USERS and len(levels) < 3)
    )
    if wrong:
        raise No("CANNOT", "Not a name for a mailbox")


__all__ = ["DELIMITER", "OTHER_USERS", "SPECIAL_USE", "check_new", "open_folder", "other_user", "resolve"]
