"""STATUS [RFC 9051 §6.3.11]: counters of the folder row; only DELETED-STORAGE is counted when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from atoll.mailbox import Access, Flag, Folder, Right, UidSet, query
from atoll.protocols.imap import names
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.errors import Bad, No
from atoll.protocols.imap.wire import response
from atoll.protocols.imap.wire.cursor import Cursor

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session

ITEMS = frozenset({"MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "DELETED", "SIZE", "RECENT", "HIGHESTMODSEQ",
                   "MAILBOXID", "APPENDLIMIT", "DELETED-STORAGE"})


def parse_items(cur: Cursor) -> tuple[str, ...]:
    """ "(" item *(SP item) ")" """
    cur.expect(b"(")
    items: list[str] = []
    while not cur.skip(b")"):
        if items:
            cur.space()
        item = cur.word()
        if item not in ITEMS or len(items) > len(ITEMS):
            raise Bad("Unknown STATUS item")
        items.append(item)
    if not items:
        raise Bad("Expected a STATUS item")
    return tuple(items)


def parse(cur: Cursor) -> tuple[str, tuple[str, ...]]:
    """SP mailbox SP items"""
    cur.space()
    name = cur.mailbox()
    cur.space()
    items = parse_items(cur)
    cur.end()
    return name, items


async def run(session: Session, args: tuple[str, tuple[str, ...]], tag: bytes) -> Ok:
    name, items = args
    access, folder = await names.open_folder(session, name)
    if not folder.rights & Right.READ:
        raise No("NOPERM", "Permission denied")  # [RFC 4314 §4] to look a mailbox up is not to count what is in it
    if "HIGHESTMODSEQ" in items:
        session.use_condstore()
    space = await reclaimable(access, folder) if "DELETED-STORAGE" in items else 0
    session.write(line(session, name, folder, items, space))
    return Ok("Status told")


async def reclaimable(access: Access, folder: Folder) -> int:
    """Bytes that EXPUNGE would give back [RFC 9208 §4.1.4]. There is no counter: the messages are looked at."""
    if not folder.deleted:
        return 0
    uids = await access.search(folder, query.HasFlag(Flag.DELETED))
    return sum([row.size async for rows in access.sort_rows(folder, UidSet.of(uids)) for row in rows])


def line(session: Session, name: str, folder: Folder, items: Iterable[str], reclaimable: int) -> bytes:
    """An untagged STATUS."""
    values = {
        "MESSAGES": folder.total, "UIDNEXT": folder.uidnext, "UIDVALIDITY": folder.uidv, "UNSEEN": folder.unread,
        "DELETED": folder.deleted, "SIZE": folder.bytes, "HIGHESTMODSEQ": folder.cn_high,
        "RECENT": min(max(folder.uidnext - folder.recent_uid, 0), folder.total),
        "MAILBOXID": f"({folder.object_id})", "APPENDLIMIT": session.server.limits.append,
        "DELETED-STORAGE": reclaimable,
    }
    words = " ".join(f"{item} {values[item]}" for item in dict.fromkeys(items))
    return b"* STATUS " + response.mailbox(name, utf8=session.enabled.rev2) + f" ({words})\r\n".encode("ascii")
