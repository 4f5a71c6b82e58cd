"""Copies while mail goes on, and getting things back from them.

In     a mounted database; the path of a backup.
Out    a file that can be mounted; a whole database put back; a mailbox, folder or item brought back.
Spec   STORE 1 ("Restore"), ISLANDS 11.2: a copy is marked, so that its first mount begins a new epoch.
Fails  SqlError, StoreError, OSError. A backup that was not finished has another name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from atoll.base.failpoints import FAILPOINTS
from atoll.base.ids import MailboxId
from atoll.mailbox import blobs
from atoll.mailbox.access import Access
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import StoreCode, StoreError, no_folder
from atoll.mailbox.memory import MailboxMemory, load
from atoll.mailbox.model import Content, Flag, Folder, NewMessage
from atoll.mailbox.remade import remake
from atoll.mailbox.store import Store, schema
from atoll.mailbox.switch import switch, sync_folder
from atoll.sql import Connection, Engine, Fragment, Schema, SqlError, Unsupported, migrate
from atoll.sql.migrate import version_of

STEP_PAGES = 256
UNFINISHED_SECONDS = 3600
Progress = Callable[[int, int], None]


async def backup(database: MailboxDatabase, engine: Engine, target: Path,
                 progress: Progress = lambda done, of: None) -> int:
    """The state of one moment into a new file; its size. Deliveries go on meanwhile."""
    need_files(engine)
    partial = target.with_name(target.name + ".partial")
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(database.helper, _forget_unfinished, target, database.name)
    steps = database.database.backup(partial, STEP_PAGES)
    if FAILPOINTS.active:
        FAILPOINTS.hit("mailbox.backup.before")
    while (step := await loop.run_in_executor(database.helper, next, steps, None)) is not None:
        progress(*step)
    if FAILPOINTS.active:
        FAILPOINTS.hit("mailbox.backup.copied")
    size = await loop.run_in_executor(database.helper, _finish, engine, partial, target)
    if FAILPOINTS.active:
        FAILPOINTS.hit("mailbox.backup.after")
    return size


def _forget_unfinished(target: Path, name: str) -> None:
    """What a backup that was cut off has left; one that runs has written lately."""
    _forget(target.with_name(target.name + ".partial"))
    for left in target.parent.glob(f"{name}-*.partial*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > UNFINISHED_SECONDS:
                left.unlink()


def need_files(engine: Engine) -> None:
    """Unsupported where a database is no file: its server's own tools make copies and put them back."""
    if not engine.in_files:
        raise Unsupported(f"databases in {engine.name} are backed up and restored by the server's tools")


def _finish(engine: Engine, partial: Path, target: Path) -> int:
    mark_restored(engine, partial)
    os.replace(partial, target)
    sync_folder(target.parent)
    return target.stat().st_size


def _drop_wrong(engine: Engine, path: Path) -> None:
    """Contents that are not what was stored: of a page with two flipped bits that was mended as if it had one."""
    database = engine.open(path, create=False)
    after, wrong = 0, []
    while rows := database.reader.all("SELECT blob, digest FROM blob WHERE blob > ? ORDER BY blob LIMIT 200", (after,)):
        for blob, digest in rows:
            after = blob
            with contextlib.suppress(StoreError):
                if blobs.digest_of(blobs.read(database.reader, blob)) != digest:
                    wrong.append(blob)
    database.writer.begin()
    for blob in wrong:
        database.writer.run("DELETE FROM blob WHERE blob = ?", (blob,))
        database.writer.run("DELETE FROM blob_chunk WHERE blob = ?", (blob,))
    database.writer.commit()  # failpoint: mailbox.mark.commit.before
    database.close()


def mark_restored(engine: Engine, path: Path) -> None:
    """Whoever mounts this copy begins a new epoch. Leaves one file, without a log beside it."""
    copy = engine.open(path, create=False)
    try:
        copy.writer.begin()
        copy.writer.run("UPDATE owner SET restored = 1 WHERE one = 1")
        if FAILPOINTS.active:
            FAILPOINTS.hit("mailbox.mark.commit.before")
        copy.writer.commit()
        if FAILPOINTS.active:
            FAILPOINTS.hit("mailbox.mark.commit.after")
        copy.checkpoint(restart=True)
    finally:
        copy.close()
    for suffix in ("-wal", "-shm", ".lock"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


async def restore_database(store: Store, engine: Engine, name: str, source: Path) -> Path:
    """Put a whole database back; the live one is kept beside it, where this returns."""
    need_files(engine)
    path = store.path_of(name)
    loop = asyncio.get_running_loop()
    fresh = path.with_name(path.name + ".restoring")
    await loop.run_in_executor(None, _forget, fresh)
    await loop.run_in_executor(None, _copy_file, source, fresh)
    if FAILPOINTS.active:
        FAILPOINTS.hit("mailbox.restore.copied")
    await loop.run_in_executor(None, mark_restored, engine, fresh)
    kept = path.with_name(f"{path.stem}.before-restore-{store.clock.now_ms()}{path.suffix}")
    try:
        async with store.apart(name):
            if FAILPOINTS.active:
                FAILPOINTS.hit("mailbox.restore.before_switch")
            await loop.run_in_executor(None, switch, path, kept, fresh)
            if FAILPOINTS.active:
                FAILPOINTS.hit("mailbox.restore.after_switch")
    finally:
        await store.mount(name, path)
    return kept


async def rebuild_database(store: Store, engine: Engine, name: str) -> Path:
    """A damaged database made anew, mounted or not; the damaged one is kept, where this returns. `check` with repair
    comes next."""
    need_files(engine)
    path = store.path_of(name)
    loop = asyncio.get_running_loop()
    try:
        async with store.apart(name):
            return await loop.run_in_executor(None, rebuild_file, engine, path, store.clock.now_ms())
    finally:
        await store.mount(name, path)


def rebuild_file(engine: Engine, path: Path, now_ms: int) -> Path:
    """A damaged file made anew; nobody has it open. The damaged one is kept, where this returns.

    Single flipped bits are put back from the page checksums, then every row that can be read is copied. As after a
    restore: a new epoch, and clients that had seen what is lost are told.
    """
    fresh, copy = path.with_name(path.name + ".rebuilding"), path.with_name(path.name + ".mending")
    kept = path.with_name(f"{path.stem}.damaged-{now_ms}{path.suffix}")
    _forget(fresh)
    _forget(copy)
    _copy_file(path, copy)
    log = path.with_name(path.name + "-wal")
    if log.exists():
        _copy_file(log, copy.with_name(copy.name + "-wal"))
    if FAILPOINTS.active:
        FAILPOINTS.hit("mailbox.rebuild.copied")
    mended, _ = engine.mend(copy)
    migrate(engine, engine.open(fresh), _schema_of(engine, copy)).close()
    salvaged = engine.salvage(copy, fresh)
    migrate(engine, engine.open(fresh), schema()).close()
    if FAILPOINTS.active:
        FAILPOINTS.hit("mailbox.rebuild.salvaged")
    _forget(copy)
    _whole(engine, fresh, salvaged.fragments)
    if mended:
        _drop_wrong(engine, fresh)
    mark_restored(engine, fresh)
    if FAILPOINTS.active:
        FAILPOINTS.hit("mailbox.rebuild.before_switch")
    switch(path, kept, fresh)
    if FAILPOINTS.active:
        FAILPOINTS.hit("mailbox.rebuild.after_switch")
    return kept


def _schema_of(engine: Engine, damaged: Path) -> Schema:
    """Ours as of the version that a file is of: rows are copied column by column, then they are migrated."""
    ours = schema()
    try:
        database = engine.open(damaged)
    except SqlError:
        return ours
    try:
        version = version_of(database.reader)[0]
    except SqlError:
        return ours
    finally:
        database.close()
    return Schema(tuple(text for text in ours.texts if text[0] <= version), ours.check) if version else ours


def _forget(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", ".lock"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _whole(engine: Engine, path: Path, fragments: Sequence[Fragment]) -> None:
    """Rows that a database cannot be without, if they are among the lost: from the others."""
    database = engine.open(path, create=False)
    writer = database.writer
    writer.begin()
    remake(writer, fragments)
    writer.run("INSERT INTO owner (one, owner_epoch, process, restored) SELECT 1, 0, '', 1"
               " WHERE NOT EXISTS (SELECT 1 FROM owner)")
    for counter, highest in (("mid", "SELECT max(mid) FROM mailbox"), ("fid", "SELECT max(fid) FROM folder"),
                             ("blob", "SELECT max(blob) FROM (SELECT max(blob) AS blob FROM blob UNION ALL"
                                      " SELECT max(blob) FROM item)")):
        writer.run(f"INSERT INTO counter (name, next) VALUES (?, coalesce(({highest}), 0) + 1) ON CONFLICT (name)"
                   " DO UPDATE SET next = max(next, excluded.next)", (counter,))
    writer.commit()
    database.close()


def _copy_file(source: Path, target: Path) -> None:
    made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(made, "wb") as writer, source.open("rb") as reader:
        while piece := reader.read(1 << 20):
            writer.write(piece)
        writer.flush()
        os.fsync(writer.fileno())


class Archive:
    """A backup opened beside the live database, for reading."""

    def __init__(self, engine: Engine, path: Path) -> None:
        need_files(engine)
        self._path = path
        self._database = engine.open(path, create=False)
        self.reader: Connection = self._database.reader

    def mailbox(self, guid: MailboxId) -> MailboxMemory:
        """A mailbox as it was; NO_FOLDER."""
        memory = load(self.reader, guid)
        if memory is None:
            raise no_folder()
        return memory

    def messages(self, fid: int, item: int = 0) -> Iterator[tuple[bytes, int, int, bytes | None]]:
        """(content, received, flags, keywords) of a folder, or of one item by its id."""
        first = 0
        while True:
            rows = self.reader.all("SELECT uid, id, flags, received, kw, blob FROM item WHERE fid = ? AND uid > ?"
                                   " ORDER BY uid LIMIT 50", (fid, first))
            for uid, id_, flags, received, kw, blob in rows:
                first = uid
                if item in (0, id_):
                    yield blobs.read(self.reader, blob), received, flags, kw
            if not rows:
                return

    def close(self) -> None:
        self._database.close()
        for suffix in ("-wal", "-shm", ".lock"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


async def bring_back(access: Access, archive: Archive, scan: Callable[[bytes], Awaitable[Content]], into: str, *,
                     folder: str = "", item: int = 0) -> int:
    """A mailbox, one of its folders (with those below) or one item, into the folder `into` of the live mailbox."""
    old = archive.mailbox(access.mailbox)
    wanted = {path: fid for path, fid in old.paths().items()
              if (not folder or path == folder or path.startswith(folder + "/")) and not old.folders[fid].hidden}
    if folder and folder not in wanted:
        raise no_folder()
    total = 0
    for path, fid in sorted(wanted.items()):
        target = None
        for data, received, flags, kw in archive.messages(fid, item):
            if target is None:
                target = await _folder(access, f"{into}/{path}")
            await access.append(target, [NewMessage(await scan(data), received, Flag(flags & ~Flag.DELETED),
                                                    frozenset(old.names_of(kw)))])
            total += 1
    if item and not total:
        raise StoreError(StoreCode.GONE, "The backup has no such item")
    return total


async def _folder(access: Access, path: str) -> Folder:
    try:
        return access.folder(path)
    except StoreError:
        return await access.create(path)
