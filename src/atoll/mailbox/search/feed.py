"""Keeps the index behind the change log, never in front of a delivery.

In     notices of commits; items by id (birth number) from the reader.
Out    documents, in rounds over all mailboxes that are behind; catch_up(guid) before a search.
Spec   ARCHITECTURE "Search": fed in batches from the change log, caught up for the asked mailbox.
Fails  a broken index is thrown away and built again.
Not    urgent: while the writer has work, a round waits between its slices, unless a search waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from atoll.base.ids import MailboxId
from atoll.content import Scanner
from atoll.formats.mime import SearchText, decoded, header_end, header_lines, search_text
from atoll.mailbox import blobs
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import StoreError, unavailable
from atoll.mailbox.model import Notice
from atoll.mailbox.opaque import TEXT, marked
from atoll.mailbox.search.index import Document, SearchIndex, blob_of, docid, folded
from atoll.sql import SqlError

BATCH = 512
"""Messages of one transaction of the index, whosever they are: one by one they cost four times as much each, in
batches of 64 half as much again (more segments to merge)."""
BATCH_OCTETS = 4 << 20
LARGE = 256 << 10
"""Contents above this are read in pieces, and parsed by the content role."""
MAX_TEXT = 2 << 20
"""Characters of one document's body that are indexed."""
AGAIN = 1.0
"""Seconds before a round that failed is tried again."""
SLICE = 0.002
GATHER = 1.0
"""Seconds over which new mail is gathered into one batch of the background."""
POLITE = 0.01
"""Seconds that a background slice waits while the writer has work."""

log = logging.getLogger(__name__)
T = TypeVar("T")
_Share = tuple[MailboxId, int, list[tuple[int, int, int]]]
"""What one mailbox has in a batch: (mailbox, mid, [(id, docid, size)])."""


class SearchFeed:
    """One per mounted database."""

    def __init__(self, database: MailboxDatabase, index: SearchIndex, scanner: Scanner) -> None:
        """scanner: where large contents are read."""
        self._database = database
        self._scanner = scanner
        self.index = index
        self._thread = ThreadPoolExecutor(1, f"search-{database.name}")
        self._behind: dict[MailboxId, None] = {}
        self._lock = asyncio.Lock()
        self._searches = 0
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
            try:
                while behind:
                    behind = await self._round(behind)
            except (StoreError, SqlError, OSError) as error:
                log.warning("search index: %s", type(error).__name__,
                            extra={"f": {"database": self._database.name, "error": str(error)}})
                self._behind = behind | self._behind
                await self._repair(error)
                await asyncio.sleep(AGAIN)

    async def _repair(self, error: Exception) -> None:
        if not isinstance(error, SqlError) or self._database.closed:
            return
        try:
            self._done.clear()
            await self.call(self.index.rebuild)
            for (guid,) in self._database.reader.all("SELECT guid FROM mailbox ORDER BY mid"):
                self._behind[guid] = None
        except (SqlError, OSError) as worse:  # a full disk: the next round finds it as it is, and comes here again
            log.warning("search index: not made anew",
                        extra={"f": {"database": self._database.name, "error": str(worse)}})

    async def catch_up(self, guid: MailboxId) -> None:
        """Return when everything committed before this call is indexed."""
        mid = self._database.view(guid).mid
        last = self._database.reader.one("SELECT max(id) FROM item WHERE mid = ?", (mid,))
        newest = (last[0] if last is not None else None) or 0
        self._searches += 1
        try:
            while self._done.get(guid, -1) < newest and await self._round({guid: None}):
                pass
        finally:
            self._searches -= 1

    async def _round(self, behind: dict[MailboxId, None]) -> dict[MailboxId, None]:
        """One batch out of these mailboxes; those that have more, the ones not looked at first."""
        async with self._lock:
            batch, untouched = await self._gather(behind)
            if not batch:
                return {}
            wanted = await self.call(lambda: self.index.missing([number for _, _, items in batch
                                                                 for _, number, _ in items]))
            documents, marks, more = await self._documents(batch, set(wanted))
            await self.call(lambda: self.index.add(documents, [(mid, guid, born) for guid, mid, born in marks]))
            self._done.update((guid, born) for guid, _, born in marks)
            self.indexed += len(documents)
        return untouched | more

    async def _gather(self, behind: dict[MailboxId, None]) -> tuple[list[_Share], dict[MailboxId, None]]:
        """What is next of each mailbox, together at most BATCH items; mailboxes for which there was no room."""
        await self._learn([guid for guid in behind if guid not in self._done])
        batch: list[_Share] = []
        untouched = dict(behind)
        room = BATCH
        started = time.perf_counter()
        for guid in behind:
            del untouched[guid]
            if guid not in self._done:  # no longer there
                continue
            mid = self._database.view(guid).mid
            rows = self._database.reader.all("SELECT id, blob, size FROM item WHERE mid = ? AND id > ?"
                                             " ORDER BY id LIMIT ?", (mid, self._done[guid], room))
            if rows:
                batch.append((guid, mid, [(id_, docid(mid, blob), size) for id_, blob, size in rows]))
                room -= len(rows)
            if not room:
                break
            started = await self._breathe(started)
        return batch, untouched

    async def _learn(self, guids: list[MailboxId]) -> None:
        """How far these are indexed."""
        mids = {}
        for guid in guids:
            try:
                mids[guid] = self._database.view(guid).mid
            except StoreError as error:
                if self._database.closed:
                    raise
                log.warning("not indexed", extra={"f": {"mailbox": guid.hex(), "error": error.detail}})
        if mids:
            self._done.update(await self.call(lambda: {guid: self.index.born(mid, guid)
                                                       for guid, mid in mids.items()}))

    async def _documents(self, batch: list[_Share], todo: set[int]) -> tuple[
            list[Document], list[tuple[MailboxId, int, int]], dict[MailboxId, None]]:
        """Documents, (mailbox, mid, how far it is indexed with them), mailboxes that may have more."""
        documents: list[Document] = []
        marks: list[tuple[MailboxId, int, int]] = []
        octets = 0
        started = time.perf_counter()
        for guid, mid, items in batch:
            if octets > BATCH_OCTETS:
                break
            for id_, number, size in items:
                if number in todo:
                    todo.discard(number)
                    documents.append(await self._document(number, size))
                    octets += size
                born = id_
                started = await self._breathe(started)
                if octets > BATCH_OCTETS:
                    break
            marks.append((guid, mid, born))
        full = sum(len(items) for _, _, items in batch) >= BATCH
        done = {guid: born for guid, _, born in marks}
        more = {guid: None for guid, _, items in batch if done.get(guid) != items[-1][0]}
        if full:
            more[batch[-1][0]] = None
        return documents, marks, more

    async def _breathe(self, started: float) -> float:
        """After a slice: the others' turn."""
        if time.perf_counter() - started < SLICE:
            return started
        if self._database.writer.busy and not self._searches:
            await asyncio.sleep(POLITE)
        await self._database.turns.take()
        return time.perf_counter()

    async def _document(self, number: int, size: int) -> Document:
        blob = blob_of(number)
        try:
            if size > LARGE:
                data = await self.read(blob, size)
                text = await self._scanner.text(data)
                if text.opaque:
                    await self._database.submit(marked(blob, TEXT))
                return await asyncio.get_running_loop().run_in_executor(self._database.helper, document, number, data,
                                                                        text)
            kept = self._database.recent.take(blob)
            return document(number, blobs.read(self._database.reader, blob) if kept is None else kept)
        except StoreError as error:  # a damaged content is named by `database check`; the others are to be found
            if self._database.closed:
                raise
            log.warning("not indexed", extra={"f": {"blob": blob, "error": error.detail}})
            return Document(number, None, None, None, None, None, "", "")

    async def replace(self, blob: int, data: bytes, text: SearchText) -> None:
        """Another document for a content, in every mailbox that has it."""
        numbers = [docid(mid, blob) for (mid,) in self._database.reader.all(
            "SELECT DISTINCT mid FROM item WHERE blob = ? ORDER BY mid", (blob,))]
        async with self._lock:  # a round that is under way may be about to write the one of before
            await self.call(lambda: self.index.replace([document(number, data, text) for number in numbers], blob))

    async def read(self, blob: int, size: int) -> bytes:
        """A large content, a piece at a time. UNAVAILABLE."""
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


def document(number: int, data: bytes, known: SearchText | None = None) -> Document:
    """The text of a message, for the index. known: its text, if that is known already."""
    text = search_text(data) if known is None else known
    header = data[:header_end(data)]
    if b"=?" in header or not header.isascii():
        shown = "\n".join(decoded(raw) for _, raw in header_lines(data))
    else:
        shown = header.decode("ascii")
    return Document(number, folded(text.subject) or None, folded(text.from_) or None, folded(text.to) or None,
                    folded(text.cc) or None, folded(text.bcc) or None, _clean(shown), _clean(text.body[:MAX_TEXT]))


def _clean(text: str) -> str:
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text.replace("\0", " ")
