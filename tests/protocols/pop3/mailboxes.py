"""A real store with alice's database, and what other clients of her mailbox do meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from atoll.base.ids import MailboxId, UserId
from atoll.directory.client.backend import Backend
from atoll.formats.mime import scan
from atoll.mailbox import Content, Flag, NewMessage, Store, UidSet, Want
from atoll.sql.sqlite import SqliteEngine

T0 = 1_700_000_000_000


class Mailboxes:
    """The store of mailbox-1."""

    def __init__(self, folder: Path, backend: Backend) -> None:
        self._folder = folder
        self.store = Store(SqliteEngine(), backend.mailbox, backend)

    async def start(self) -> None:
        await self.store.mount("db1", self._folder / "db1.sqlite")

    async def close(self) -> None:
        await self.store.close()

    async def put(self, mailbox: bytes, user: bytes, messages: Iterable[bytes]) -> list[int]:
        """Into the INBOX; their uids."""
        access = await self.store.open(MailboxId(mailbox), UserId(user))
        fresh = [NewMessage(Content(data, scan(data)), T0) for data in messages]
        return [placed.uid for placed in await access.append(access.folder("INBOX"), fresh)]

    async def inbox(self, mailbox: bytes, user: bytes) -> list[tuple[int, int]]:
        """(uid, flags) of what is there."""
        access = await self.store.open(MailboxId(mailbox), UserId(user))
        folder = access.folder("INBOX")
        return [(row.uid, row.flags) for row in access.rows(folder, 1, folder.uidnext, Want.HOT, 10_000)]

    async def expunge(self, mailbox: bytes, user: bytes, uids: Iterable[int]) -> None:
        """As an IMAP client does it."""
        access = await self.store.open(MailboxId(mailbox), UserId(user))
        folder, chosen = access.folder("INBOX"), UidSet.of(uids)
        await access.flags(folder, chosen, "+", Flag.DELETED)
        await access.expunge(folder, chosen)
