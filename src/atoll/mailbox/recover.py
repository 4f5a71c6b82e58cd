"""Recoverable items: deleted for the reader, kept in hidden folders, got back or purged.

In     ids (birth numbers inside the hidden folder), ages.
Out    Deleted values; units of work.
Spec   STORE 4 ("Recoverable items"); Exchange: Deletions, Versions, Purges; kept RETENTION_DAYS.
Not    a backup: purged is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import msgspec

from atoll.base.ids import MailboxId
from atoll.directory.client.model import Quota
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import no_folder
from atoll.mailbox.items import expunge, move_slice
from atoll.mailbox.items import purge as purge_items
from atoll.mailbox.memory import MailboxMemory
from atoll.mailbox.model import Deleted, Placed, Want, WellKnown
from atoll.mailbox.place import check_room, read_sort_keys
from atoll.mailbox.reading import SELECT_RANGE
from atoll.mailbox.tx import Tx
from atoll.mailbox.uidset import UidSet

RETENTION_DAYS = 14
DRAIN = 500
"""Items moved out of a deleted folder in one unit of work."""
LISTED = 10_000

_origin: Callable[[bytes], tuple[int, int, str]] = msgspec.msgpack.Decoder(tuple[int, int, str]).decode


def origin(props: bytes | None) -> tuple[int, int, str]:
    """(deleted ms, fno, path) that a soft delete noted."""
    return _origin(props) if props else (0, 0, "")


def listing(database: MailboxDatabase, view: MailboxMemory) -> list[Deleted]:
    """The newest LISTED deletions, newest first."""
    folder = view.wellknown(WellKnown.DELETIONS)
    if folder is None:
        return []
    found = []
    for uid, id_, received, size, preview, sort, props in database.reader.all(
            "SELECT i.uid, i.id, i.received, i.size, m.preview, m.sort, m.props FROM item i CROSS JOIN item_meta m"
            " WHERE m.place = i.fid * 4294967296 + i.uid AND i.fid = ? ORDER BY i.uid DESC LIMIT ?",
            (folder.fid, LISTED)):
        deleted, _, path = origin(props)
        found.append(Deleted(uid, id_, path, deleted, received, size, preview, *read_sort_keys(sort)[:2]))
    return found


def recover(guid: MailboxId, ids: list[int], target_fid: int,
            quota: Quota) -> Callable[[Tx], Generator[None, None, list[Placed]]]:
    """To target_fid, or (0) back to the folder each came from, INBOX when that is gone."""
    def work(tx: Tx) -> Generator[None, None, list[Placed]]:
        mailbox = tx.mailbox(guid)
        source = tx.wellknown(mailbox, WellKnown.DELETIONS)
        done = []
        for id_ in ids:
            row = tx.one("SELECT uid FROM item WHERE mid = ? AND id = ? AND fid = ?", (mailbox.mid, id_, source.fid))
            if row is None:
                continue
            uid = row[0]
            meta = tx.one("SELECT props FROM item_meta WHERE place = ?", (source.fid << 32 | uid,))
            _, fno, _ = origin(meta[0] if meta else None)
            fid = target_fid or next((folder.fid for folder in mailbox.folders.values()
                                      if folder.fno == fno and not folder.gone and not folder.hidden), 0)
            target = mailbox.folders[fid] if fid in mailbox.folders else tx.wellknown(mailbox, WellKnown.INBOX)
            if target.gone or target.hidden:
                raise no_folder()
            found = tx.all(SELECT_RANGE[Want.HOT], (source.fid, uid, uid, 1))
            check_room(mailbox, quota, found[0][7])
            new = move_slice(tx, mailbox, source, target, found)[0][1]
            reborn = tx.one("SELECT id FROM item WHERE fid = ? AND uid = ?", (target.fid, new))
            assert reborn is not None
            done.append(Placed(new, reborn[0]))
            yield
        return done
    return work


async def purge(database: MailboxDatabase, guid: MailboxId, ids: list[int] | None) -> int:
    """For good: all, or those of these ids."""
    view = database.view(guid)
    folder = view.wellknown(WellKnown.DELETIONS)
    if folder is None:
        return 0
    by_id = "SELECT uid FROM item WHERE mid = ? AND id = ? AND fid = ?"
    uids = UidSet.all() if ids is None else UidSet.of(
        uid for id_ in ids for (uid,) in database.reader.all(by_id, (view.mid, id_, folder.fid)))
    return await database.submit(purge_items(guid, folder.fid, uids, database.clock.now_ms()))


async def drain(database: MailboxDatabase, guid: MailboxId, fid: int) -> None:
    """Second step of a folder's deletion: its items become recoverable, DRAIN at a time."""
    deletions = database.view(guid).wellknown(WellKnown.DELETIONS)
    if deletions is None:
        raise no_folder()
    while True:
        found = database.reader.all("SELECT uid FROM item WHERE fid = ? ORDER BY uid LIMIT ?", (fid, DRAIN))
        if not found:
            return
        uids = UidSet.of(uid for (uid,) in found)
        await database.submit(expunge(guid, fid, uids, deletions.fid, database.clock.now_ms(), only_deleted=False))
