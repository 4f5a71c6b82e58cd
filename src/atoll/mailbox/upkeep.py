"""What a mounted database does by itself: sweeping contents, ending what is recoverable, trimming the log.

In     a mounted database, settings, the clock.
Out    small units of work, now and then; each is harmless to repeat.
Spec   STORE 0.7 (sweep), 1 ("Trimmed log": 400 days and at least 10 times the live items), 9.6 (deleted folders).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Sequence

from atoll.base.ids import MailboxId
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.deliver import KEY_AGE_MS
from atoll.mailbox.errors import StoreError
from atoll.mailbox.items import purge
from atoll.mailbox.model import WellKnown
from atoll.mailbox.place import in_list
from atoll.mailbox.recover import drain, origin
from atoll.mailbox.tx import Tx
from atoll.mailbox.uidset import MAX_UID, UidSet
from atoll.sql import SqlError

DAY_MS = 86_400_000
EVERY = 60.0
"""Seconds between rounds."""
GRACE_MS = 3_600_000
"""How long a content that nobody names stays: readers may be in the middle of it."""
SWEPT = 200
PURGED = 200
LOG_DAYS = 400
LOG_TIMES = 10

log = logging.getLogger(__name__)


class Upkeep:
    """One per mounted database."""

    def __init__(self, database: MailboxDatabase, recoverable_days: int,
                 forget_blobs: Callable[[Sequence[int]], None], rescan: Callable[[], Awaitable[object]]) -> None:
        """forget_blobs: tells the search index. rescan: a few contents that an older version could not read."""
        self._database = database
        self._days = recoverable_days
        self._forget_blobs = forget_blobs
        self._rescan = rescan
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"upkeep {database.name}")

    async def _run(self) -> None:
        await asyncio.sleep(1)
        while True:
            try:
                await self.round()
            except (StoreError, SqlError) as error:
                log.warning("upkeep", extra={"f": {"database": self._database.name, "error": str(error)}})
                await self._look()
            await asyncio.sleep(EVERY)

    async def _look(self) -> None:
        """Begin and end a transaction: if it was the engine that went, the store mounts again."""
        try:
            await self._database.submit(lambda tx: None)
        except StoreError:
            pass

    async def round(self) -> None:
        """Everything that is due now."""
        database, now = self._database, self._database.clock.now_ms()
        for guid, fid in database.reader.all("SELECT m.guid, f.fid FROM folder f JOIN mailbox m ON m.mid = f.mid"
                                             " WHERE f.gone = 1 AND f.total > 0 ORDER BY f.fid"):
            await drain(database, guid, fid)
        await self._end_recoverable(now)
        looked_at = SWEPT
        while looked_at == SWEPT:
            looked_at = await database.submit(sweep(database, now - GRACE_MS, self._forget_blobs))
        await self._daily(now)
        database.listings.forget_older(now)
        await self._rescan()

    async def _end_recoverable(self, now: int) -> None:
        for guid, fid in self._database.reader.all(
                "SELECT m.guid, f.fid FROM folder f JOIN mailbox m ON m.mid = f.mid WHERE f.wellknown = ?"
                " AND f.total > 0 ORDER BY f.fid", (int(WellKnown.DELETIONS),)):
            while True:
                rows = self._database.reader.all("SELECT place, props FROM item_meta WHERE place BETWEEN ? AND ?"
                                                 " ORDER BY place LIMIT ?", (fid << 32, fid << 32 | MAX_UID, PURGED))
                due = [place & MAX_UID for place, props in rows if origin(props)[0] <= now - self._days * DAY_MS]
                if due:
                    await self._database.submit(purge(guid, fid, UidSet.of(due), now))
                if len(due) < PURGED:  # uids ascend with the time of deletion
                    break

    async def _daily(self, now: int) -> None:
        day = now // DAY_MS
        for guid, mid, cn in self._database.reader.all("SELECT guid, mid, cn FROM mailbox ORDER BY mid"):
            last = self._database.reader.one("SELECT day, cn FROM log_day WHERE mid = ? ORDER BY day DESC LIMIT 1",
                                             (mid,))
            if last is None or (last[0] < day and last[1] < cn):
                await self._database.submit(new_day(guid, day, now))

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def sweep(database: MailboxDatabase, before: int, forget_blobs: Callable[[Sequence[int]], None]) -> Callable[[Tx], int]:
    """Contents that were candidates since `before` and that nobody names; how many candidates were looked at."""
    def work(tx: Tx) -> int:
        candidates = [blob for (blob,) in tx.all("SELECT blob FROM blob_sweep WHERE since <= ? ORDER BY blob LIMIT ?",
                                                 (before, SWEPT))]
        if not candidates:
            return 0
        marks, values = in_list(candidates)
        named = {blob for (blob,) in tx.all(f"SELECT DISTINCT blob FROM item WHERE blob IN ({marks})",
                                            values)}  # type: ignore[arg-type]
        dead = [blob for blob in candidates if blob not in named]
        database.recent.forget(set(dead))
        tx.many("DELETE FROM blob_sweep WHERE blob = ?", [(blob,) for blob in candidates])
        tx.many("DELETE FROM blob_chunk WHERE blob = ?", [(blob,) for blob in dead])
        tx.many("DELETE FROM blob WHERE blob = ?", [(blob,) for blob in dead])
        tx.many("DELETE FROM opaque WHERE blob = ?", [(blob,) for blob in dead])
        if dead:
            tx.after_commit(lambda: forget_blobs(dead))
        return len(candidates)
    return work


def new_day(guid: MailboxId, day: int, now: int) -> Callable[[Tx], Generator[None, None, None]]:
    """Note the number of the day; trim what is older than LOG_DAYS; drop old delivery keys."""
    def work(tx: Tx) -> Generator[None, None, None]:
        mailbox = tx.mailbox(guid, any_state=True)
        tx.run("INSERT INTO log_day (mid, day, cn) VALUES (?, ?, ?) ON CONFLICT (mid, day) DO NOTHING",
               (mailbox.mid, day, mailbox.cn))
        tx.run("DELETE FROM delivery_key WHERE mid = ? AND at < ?", (mailbox.mid, now - KEY_AGE_MS))
        old = tx.one("SELECT day, cn FROM log_day WHERE mid = ? AND day <= ? ORDER BY day DESC LIMIT 1",
                     (mailbox.mid, day - LOG_DAYS))
        yield
        if old is None:
            return
        tx.run("DELETE FROM log_day WHERE mid = ? AND day < ?", (mailbox.mid, old[0]))
        for folder in mailbox.folders.values():
            kept = tx.one("SELECT cn FROM tomb WHERE fid = ? ORDER BY cn DESC LIMIT 1 OFFSET ?",
                          (folder.fid, LOG_TIMES * folder.total))
            if kept is not None:
                trim_folder(tx, guid, folder.fid, min(old[1], kept[0]))
            yield
    return work


def trim_folder(tx: Tx, guid: MailboxId, fid: int, cn: int) -> None:
    """Forget removals up to cn: clients that stand before it start again (IMAP loses nothing)."""
    mailbox = tx.mailbox(guid, any_state=True)
    folder = mailbox.folders[fid]
    if cn > folder.trim_cn and tx.run("DELETE FROM tomb WHERE fid = ? AND cn <= ?", (fid, cn)):
        folder.trim_cn = cn
        tx.touch(mailbox, folder)
