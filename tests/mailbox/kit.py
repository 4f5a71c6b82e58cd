"""What the store's tests share: a store on files, a directory of three people, messages."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from atoll.base.ids import MailboxId, UserId
from atoll.directory.client.model import MailboxInfo, Quota
from atoll.formats.mime import scan
from atoll.mailbox import Content, Delivery, NewMessage, Store
from atoll.runtime.rpc import RpcError
from atoll.sql.sqlite import SqliteEngine
from tests.postgres import chosen_engine

ALICE, BOB, CAROL = (UserId(bytes([n]) * 16) for n in (1, 2, 3))
ALICES, BOBS = MailboxId(b"A" * 16), MailboxId(b"B" * 16)
T0 = 1_700_000_000_000


@dataclasses.dataclass
class StillClock:
    ms: int = T0

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


class Directory:
    """Answers in memory; epochs survive the store."""

    def __init__(self) -> None:
        self.infos = {ALICES: _info(ALICES, ALICE, "alice@example.test"), BOBS: _info(BOBS, BOB, "bob@example.test")}
        self.epochs: dict[str, int] = {}

    async def mailbox(self, mailbox: MailboxId) -> MailboxInfo:
        if mailbox not in self.infos:
            raise RpcError("not_found", "no such mailbox")
        return self.infos[mailbox]

    async def next_epoch(self, database: str, at_least: int) -> int:
        self.epochs[database] = max(self.epochs.get(database, 0) + 1, at_least)
        return self.epochs[database]

    def change(self, mailbox: MailboxId, **what: object) -> None:
        self.infos[mailbox] = msgspec.structs.replace(self.infos[mailbox], **what)


def _info(mailbox: MailboxId, user: UserId, address: str) -> MailboxInfo:
    return MailboxInfo(mailbox, user, "user", "db1", "mailbox-1", "island", 1, Quota(), "active", address, "")


def message(subject: str = "Hello", body: str = "Good morning", *, message_id: str = "", references: str = "",
            size: int = 0) -> bytes:
    lines = ["From: Alice <alice@example.test>", "To: bob@example.test", f"Subject: {subject}",
             "Date: Tue, 14 Nov 2023 22:13:20 +0000"]
    if message_id:
        lines.append(f"Message-ID: {message_id}")
    if references:
        lines.append(f"References: {references}")
    data = ("\r\n".join(lines) + "\r\n\r\n" + body + "\r\n").encode()
    return data + b"x" * max(0, size - len(data))


def content(*args: object, **kwargs: object) -> Content:
    data = message(*args, **kwargs)  # type: ignore[arg-type]
    return Content(data, scan(data))


def new(*args: object, **kwargs: object) -> NewMessage:
    return NewMessage(content(*args, **kwargs), T0)


def delivery(mailbox: MailboxId = ALICES, path: str = "INBOX", key: bytes = b"", **kwargs: object) -> Delivery:
    return Delivery(mailbox, path, content(**kwargs), T0, key)


@asynccontextmanager
async def mounted(folder: Path, directory: Directory | None = None, clock: StillClock | None = None,
                  **options: object) -> AsyncIterator[Store]:
    directory = directory or Directory()
    store = Store(chosen_engine(**options), directory.mailbox, directory, search_engine=SqliteEngine(),
                  clock=clock or StillClock())
    await store.mount("db1", folder / "db1.sqlite")
    try:
        yield store
    finally:
        await store.close()
