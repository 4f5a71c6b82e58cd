"""Ready listings of large folders: DB.listing.sqlite, ENVELOPE and BODYSTRUCTURE of up to 256 messages in one row.

In     rows of whole stretches of uids, as they were read for somebody; which uids a stretch holds now.
Out    the same rows as one text, unpacked at once: an eighth of the octets from disk, lying together, no row by row.
Spec   RFC 9051 §2.3.1.1: what (mailbox, UIDVALIDITY, uid) names never changes, so a block is right for ever if it holds
       exactly the uids that are there now; PERFORMANCE 3 ("stream with few large writes").
Fails  never: a file that cannot be used is thrown away, and rows are read as if there were none.
Not    the truth, nor needed: it is made of what is listed, is in no backup, and forgets a block after KEPT_DAYS, so
       that nothing stays here longer than in the recoverable items.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from atoll.base.ids import MailboxId
from atoll.mailbox.block import Block, Codec, Kept
from atoll.sql import Broken, Database, Engine, SqlError
from atoll.sql.engine import Record

VERSION = 2
BLOCK_BITS = 8
BLOCK = 1 << BLOCK_BITS
"""Uids of one block."""
FEWEST = 64
"""Messages below which a stretch is not worth a block."""
WAITING = 64
"""Blocks that wait to be written: 10 MiB of ordinary mail. What comes then is written when it is listed again."""
KEPT_DAYS = 14
DAY_MS = 86_400_000
LOG = 8 << 20

_SCHEMA = """
CREATE TABLE about (one INTEGER PRIMARY KEY, version INTEGER NOT NULL);
CREATE TABLE folder (no INTEGER PRIMARY KEY, guid BLOB NOT NULL, uidv INTEGER NOT NULL, UNIQUE (guid, uidv));
CREATE TABLE block (place INTEGER PRIMARY KEY, day INTEGER NOT NULL, runs BLOB NOT NULL, sizes BLOB NOT NULL,
                    data BLOB NOT NULL);
"""
_FOLDER = "SELECT no FROM folder WHERE guid = ? AND uidv = ?"
_BLOCK = "SELECT runs, sizes, data FROM block WHERE place = ?"

log = logging.getLogger(__name__)


class Listings:
    """Of one mounted database. It is read on the loop and written in a thread of its own, which begins with use."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine = engine
        self.path = path
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, f"listing-{path.name}")
        self._database: Database | None = None
        self._usable = False
        self._folders: dict[tuple[MailboxId, int], int] = {}
        self._waiting: deque[tuple[MailboxId, int, int, list[Record], int]] = deque()
        self._reading, self._writing = Codec(), Codec()
        if path.exists():
            self._thread.submit(self._open)

    # -- on the loop ------------------------------------------------------------------------------------------------
    def get(self, guid: MailboxId, uidv: int, block: int, present: list[tuple[int, int]]) -> Block | None:
        """The block of the runs (first uid, count) `present`, all that the stretch holds; None: not here."""
        database = self._database
        if database is None or not self._usable:
            return None
        try:
            number = self._number(database, guid, uidv)
            if not number:
                return None
            row = database.reader.one(_BLOCK, (number << 32 | block,))
            if row is None:
                return None
            found = self._reading.unpack(Kept(*row))
        except (SqlError, ValueError) as error:
            self._discard(error)
            return None
        return found if found.runs == present else None

    def put(self, guid: MailboxId, uidv: int, block: int, rows: list[Record], now: int) -> None:
        """Keep a whole stretch, some time soon. now: ms."""
        if len(self._waiting) < WAITING:
            self._waiting.append((guid, uidv, block, rows, now // DAY_MS))
            if len(self._waiting) == 1:  # else the thread has not looked for the last time
                self._thread.submit(self._write)

    def forget_older(self, now: int) -> None:
        """Blocks that were made more than KEPT_DAYS ago; soon."""
        if self._database is not None:
            self._thread.submit(self._expire, now // DAY_MS - KEPT_DAYS)

    async def settled(self) -> None:
        """Return when what was put before is written."""
        await self._loop.run_in_executor(self._thread, lambda: None)

    def _number(self, database: Database, guid: MailboxId, uidv: int) -> int:
        number = self._folders.get((guid, uidv), 0)
        if not number:
            row = database.reader.one(_FOLDER, (guid, uidv))
            if row is not None:
                number = self._folders[guid, uidv] = int(row[0])
        return number

    def _discard(self, error: Exception) -> None:
        """From now on as if it were not there. Closed on the loop when the thread has nothing more to do with it."""
        if self._usable:
            self._usable = False
            log.warning("listings are thrown away", extra={"f": {"file": self.path.name, "error": str(error)}})
            self._thread.submit(self._loop.call_soon_threadsafe, self._drop)

    def _drop(self) -> None:
        database, self._database = self._database, None
        self._folders.clear()
        if database is not None:
            try:
                database.close()
            except SqlError as error:
                log.warning("listings", extra={"f": {"file": self.path.name, "error": str(error)}})
        self._unlink()

    # -- in the thread ----------------------------------------------------------------------------------------------
    def _open(self) -> None:
        try:
            self._database = self._made()
            self._usable = True
        except (SqlError, OSError) as error:
            log.warning("no listings", extra={"f": {"file": self.path.name, "error": str(error)}})
            self._unlink()

    def _made(self) -> Database:
        database = self._engine.open(self.path)
        try:
            for connection in (database.writer, database.reader):
                connection.script("PRAGMA synchronous=NORMAL")
                connection.script("PRAGMA cache_size=-1024")
            if not database.writer.has_table("about"):
                database.writer.begin()
                database.writer.script(_SCHEMA)
                database.writer.run("INSERT INTO about VALUES (1, ?)", (VERSION,))
                database.writer.commit()  # failpoint: none, it is made again from what it is of
            elif database.writer.one("SELECT version FROM about") != (VERSION,):
                raise Broken("made by another version")
        except BaseException:
            database.close()
            raise
        return database

    def _unlink(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _write(self) -> None:
        """Everything that waits, in one transaction."""
        if self._database is None:
            self._open()
        database = self._database
        if database is None or not self._usable:
            self._waiting.clear()
            return
        writer = database.writer
        try:
            writer.begin()
            while self._waiting:
                guid, uidv, block, rows, day = self._waiting.popleft()
                row = writer.one(_FOLDER, (guid, uidv))
                if row is None:
                    writer.run("INSERT INTO folder (guid, uidv) VALUES (?, ?)", (guid, uidv))
                    row = writer.one(_FOLDER, (guid, uidv))
                assert row is not None
                writer.run("INSERT OR REPLACE INTO block (place, day, runs, sizes, data) VALUES (?, ?, ?, ?, ?)",
                           (row[0] << 32 | block, day, *self._writing.pack(rows)))
            writer.commit()  # failpoint: none, it is made again from what it is of
            if database.log_size() > LOG:
                database.checkpoint(restart=True)  # failpoint: none, it is made again from what it is of
        except SqlError as error:
            self._waiting.clear()  # with some left, put() would take this thread for one that will look again
            self._discard(error)

    def _expire(self, before: int) -> None:
        if self._database is not None:
            try:
                # a folder's number stays its own for ever: no block is ever found under that of another
                self._database.writer.run("DELETE FROM block WHERE day < ?", (before,))
            except SqlError as error:
                self._discard(error)

    def close(self) -> None:
        """What waits is written before."""
        self._thread.shutdown(wait=True)
        if self._database is not None:
            self._database.close()
            self._database = None
