"""Keeps the index behind the change log, never in front of a delivery.

In     notices of commits; items by id (birth number) from the reader.
Out    documents, in batches; catch_up(guid) before a search.
Spec   ARCHITECTURE "Search": fed in batches from the change log, caught up for the asked mailbox.
Fails  a broken index is thrown away and built again.
Not    urgent: while the writer has work, a batch waits between its slices.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from atoll.base.ids import MailboxId
from atoll.formats.mime import SearchText, decoded, header_lines, search_text
from atoll.mailbox import blobs
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import StoreError, unavailable
from atoll.mailbox.model import Notice
from atoll.mailbox.search.index import Document, SearchIndex, docid, folded
from atoll.sql import SqlError

BATCH = 512
"""Messages of one transaction of the index: with 64 each costs half as much again (more segments to merge)."""
BATCH_OCTETS = 4 << 20
LARGE = 256 << 10
"""Contents above this are read and parsed in a helper thread."""
MAX_TEXT = 2 << 20
"""Characters of one document's body that are indexed."""
SLICE = 0.002
GATHER = 0.25
"""Seconds over which new mail is gathered into one batch of the background."""
POLITE = 0.01
"""Seconds that a background slice waits while the writer has work."""

log = logging.getLogger(__name__)
T = TypeVar("T")


class SearchFeed:
    """One per mounted database."""

    def __init__(self, database: MailboxDatabase, index: SearchIndex) -> None:
        self._database = database
        self.index = index
        self._thread = ThreadPoolExecutor(1, f"search-{database.name}")
        self._behind: dict[MailboxId, None] = {}
        self._locks: dict[MailboxId, asyncio.Lock] = {}
        self._done: dict[MailboxId, int] = {}
        self._wake = asyncio.Event()
        self._stop = database.listen(None, self._noticed)
        for (guid,) in database.reader.all("SELECT guid FROM mailbox ORDER BY mid"):
            self._behind[guid] = None
        self._wake.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"search {database.name}")
        self.indexed = 0

    def _noticed(self, notice: Notice) -> None:
        self._behind[notice.mailbox] = None
        self._wake.set()

    @property
    def behind(self) -> int:
        """Mailboxes that may have something not yet indexed."""
        return len(self._behind)

    async def call(self, what: Callable[[], T]) -> T:
        """Something of the index, in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, what)

    async def _run(self) -> None:
        while True:
            if not self._behind:
                self._wake.clear()
                await self._wake.wait()
            # Few large transactions cost a fraction of many small ones; a search does not wait for this one.
            await asyncio.sleep(GATHER)
            behind, self._behind = self._behind, {}
            for guid in behind:
                try:
                    await self.catch_up(guid, polite=True)
                except (StoreError, SqlError, OSError) as error:
                    log.warning("search index: %s", type(error).__name__,
                                extra={"f": {"database": self._database.name, "error": str(error)}})
                    await self._repair(error)

    async def _repair(self, error: Exception) -> None:
        if isinstance(error, SqlError) and not self._database.closed:
            self._done.clear()
            await self.call(self.index.rebuild)
            for (guid,) in self._database.reader.all("SELECT guid FROM mailbox ORDER BY mid"):
                self._behind[guid] = None
        await asyncio.sleep(1)

    async def catch_up(self, guid: MailboxId, *, polite: bool = False) -> None:
        """Return when everything committed before this call is indexed."""
        lock = self._locks.setdefault(guid, asyncio.Lock())
        async with lock:
            view = self._database.view(guid)
            mid = view.mid
            if guid not in self._done:
                self._done[guid] = await self.call(lambda: self.index.born(mid, guid))
            while True:
                rows = self._database.reader.all("SELECT id, blob, size FROM item WHERE mid = ? AND id > ?"
                                                 " ORDER BY id LIMIT ?", (mid, self._done[guid], BATCH))
                if not rows:
                    break
                await self._batch(guid, mid, rows, polite=polite)
        if not lock.locked():
            self._locks.pop(guid, None)

    async def _batch(self, guid: MailboxId, mid: int, rows: list[tuple[int, int, int]], *, polite: bool) -> None:
        wanted = await self.call(lambda: self.index.missing([docid(mid, blob) for _, blob, _ in rows]))
        todo = set(wanted)
        documents: list[Document] = []
        octets = 0
        started = time.perf_counter()
        born = self._done[guid]
        for id_, blob, size in rows:
            number = docid(mid, blob)
            if number in todo:
                todo.discard(number)
                documents.append(await self._document(number, blob, size))
                octets += size
            born = id_
            if octets > BATCH_OCTETS:
                break
            if time.perf_counter() - started > SLICE:
                if polite and self._database.writer.busy:
                    await asyncio.sleep(POLITE)
                await self._database.turns.take()
                started = time.perf_counter()
        await self.call(lambda: self.index.add(mid, guid, documents, born))
        self._done[guid] = born
        self.indexed += len(documents)

    async def _document(self, number: int, blob: int, size: int) -> Document:
        try:
            if size > LARGE:
                data = await self._read_large(blob, size)
                return await asyncio.get_running_loop().run_in_executor(self._database.helper, document, number, data)
            return document(number, blobs.read(self._database.reader, blob))
        except StoreError as error:  # a damaged content is named by `database check`; the others are to be found
            if self._database.closed:
                raise
            log.warning("not indexed", extra={"f": {"blob": blob, "error": error.detail}})
            return Document(number, None, None, None, None, None, "", "")

    async def _read_large(self, blob: int, size: int) -> bytes:
        out = bytearray()
        while len(out) < size:
            piece = self._database.slices.read(blob, len(out), blobs.CHUNK)
            if not piece:
                raise unavailable(f"blob {blob} ends early")
            out += piece
            await asyncio.sleep(0)
        return bytes(out)

    def forget_blobs(self, blobs: Sequence[int]) -> None:
        """Contents that were swept; soon."""
        self._thread.submit(self.index.forget_blobs, list(blobs))

    async def close(self) -> None:
        """What is not indexed stays for the next mount."""
        self._stop()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.call(self.index.close)
        self._thread.shutdown(wait=True)


def document(number: int, data: bytes) -> Document:
    """The text of a message, for the index."""
    text: SearchText = search_text(data)
    header = "\n".join(decoded(raw) for _, raw in header_lines(data))
    return Document(number, folded(text.subject) or None, folded(text.from_) or None, folded(text.to) or None,
                    folded(text.cc) or None, folded(text.bcc) or None, _clean(header), _clean(text.body[:MAX_TEXT]))


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")
