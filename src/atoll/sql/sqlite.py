"""SQLite by apsw: WAL, synchronous=FULL, 4 KiB pages, each with a checksum.

In     paths and common SQL.
Out    Connection, Database, Engine of engine.py.
Spec   STORE 5 ("SQLite" column), ARCHITECTURE "One thread of Python".
Fails  SqlError; the mapping is MAPPED.
Not    shared: a lock file keeps a second process out.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import apsw.sqlite_extra

from atoll.sql.engine import Connection, Database, Lost, Record, Salvaged, Value
from atoll.sql.errors import Broken, Full, InDoubt, Locked, ReadOnly, SqlError
from atoll.sql.mend import CHECKSUM_BYTES, mended
from atoll.sql.salvage import salvage, unreadable

PAGE_SIZE = 4096
"""A group of one to five messages writes some 16 pages to the log: with 4 KiB pages that takes 40 % less system time
than with 8 KiB ones, and large groups cost the same (measured; STORE 7 had shown the latter)."""
CACHE_KIB = 16384
STATEMENTS = 256
BUSY_MS = 5000
LOOP_BUSY_MS = 100
"""How long the event loop waits for a lock that another process holds (an operator's sqlite3): everybody waits with it.
Who is refused then, comes again: transport by its schedule, a client by its person."""
LOG_LIMIT = 64 << 20
"""What is left of the log's file after a restart."""

CHECKED_VFS = "cksmvfs"
"""SQLite's cksumvfs, a checksum at the end of each page: a flipped bit is an error when the page is read, never wrong
mail."""


def _install_checksums() -> None:
    """Once in a process; the extension comes with apsw's wheel."""
    loader = apsw.Connection(":memory:")
    apsw.sqlite_extra.load(loader, "cksumvfs")
    loader.close()


_install_checksums()

MAPPED: tuple[tuple[type[apsw.Error], type[SqlError]], ...] = (
    (apsw.FullError, Full),
    (apsw.BusyError, Locked),
    (apsw.LockedError, Locked),
)


def _mapped(error: apsw.Error) -> SqlError:
    for source, target in MAPPED:
        if isinstance(error, source):
            return target(str(error))
    return Broken(f"{type(error).__name__}: {error}")


def _takes_no_writes(connection: apsw.Connection, error: apsw.Error) -> bool:
    """Did a write fail because the file system has become read-only? An fsync that fails leaves doubt, whatever for."""
    return getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_WRITE and connection.system_errno == errno.EROFS


class SqliteConnection:
    """One apsw connection."""

    def __init__(self, path: Path, *, page_size: int = PAGE_SIZE, cache_kib: int = CACHE_KIB,
                 synchronous: str = "FULL", vfs: str = CHECKED_VFS) -> None:
        try:
            raw = apsw.Connection(str(path), statementcachesize=STATEMENTS, vfs=vfs)
            raw.set_busy_timeout(BUSY_MS)
            raw.execute(f"PRAGMA page_size={page_size}")
            if vfs == CHECKED_VFS:
                raw.reserve_bytes(reserve=CHECKSUM_BYTES)  # of a new file; an old one keeps what it has
            raw.execute("PRAGMA journal_mode=WAL").fetchall()
            raw.execute(f"PRAGMA synchronous={synchronous}")
            raw.execute(f"PRAGMA cache_size=-{cache_kib}")
            raw.execute("PRAGMA temp_store=MEMORY")
            raw.execute(f"PRAGMA journal_size_limit={LOG_LIMIT}").fetchall()
            raw.execute("PRAGMA trusted_schema=OFF")
            raw.wal_autocheckpoint(0)
        except apsw.Error as error:
            raise _mapped(error) from error
        self.raw = raw

    def all(self, text: str, values: Sequence[Value] = ()) -> list[Record]:
        try:
            return self.raw.execute(text, values).fetchall()
        except apsw.Error as error:
            raise _mapped(error) from error

    def one(self, text: str, values: Sequence[Value] = ()) -> Record | None:
        try:
            cursor = self.raw.execute(text, values)
            row: Record | None = cursor.fetchone()
            if row is not None:
                cursor.close(True)
        except apsw.Error as error:
            raise _mapped(error) from error
        return row

    def each(self, text: str, values: Sequence[Value] = ()) -> Iterator[Record]:
        try:
            yield from self.raw.execute(text, values)
        except apsw.Error as error:
            raise _mapped(error) from error

    def run(self, text: str, values: Sequence[Value] = ()) -> int:
        try:
            self.raw.execute(text, values).fetchall()
            return self.raw.changes()
        except apsw.Error as error:
            raise _mapped(error) from error

    def many(self, text: str, rows: Iterable[Sequence[Value]]) -> None:
        try:
            self.raw.executemany(text, rows)
        except apsw.Error as error:
            raise _mapped(error) from error

    def script(self, text: str) -> None:
        try:
            self.raw.execute(text).fetchall()
        except apsw.Error as error:
            raise _mapped(error) from error

    def has_table(self, name: str) -> bool:
        return self.one("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)) is not None

    def begin(self) -> None:
        self.script("BEGIN IMMEDIATE")

    def begin_owned(self) -> int | None:
        self.begin()
        row = self.one("SELECT owner_epoch FROM owner WHERE one = 1")
        return int(row[0]) if row is not None else None

    def begin_read(self) -> None:
        self.script("BEGIN")

    def commit(self) -> None:
        try:
            self.raw.execute("COMMIT").fetchall()  # failpoint: none, whoever calls this has them
        except apsw.Error as error:
            # A frame of the log could not be written: the commit frame is the last one, so it is known not to be there.
            if isinstance(error, apsw.FullError):
                raise Full(str(error)) from error
            if _takes_no_writes(self.raw, error):
                raise ReadOnly(str(error)) from error
            raise InDoubt(f"{type(error).__name__}: {error}") from error

    def rollback(self) -> None:
        try:
            if self.raw.in_transaction:
                self.raw.execute("ROLLBACK").fetchall()
        except apsw.Error as error:
            raise _mapped(error) from error

    def savepoint(self, name: str) -> None:
        self.script(f"SAVEPOINT {name}")

    def release(self, name: str) -> None:
        self.script(f"RELEASE {name}")

    def rollback_to(self, name: str) -> None:
        self.script(f"ROLLBACK TO {name}")
        self.release(name)

    def close(self) -> None:
        self.raw.close(True)


class LockFile:
    """Keeps a second process off the same database."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise Locked(f"{path.name} is held by another process") from None

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:  # twice would close whatever has its number by then
            os.close(fd)


class SqliteDatabase:
    """A file, its lock and three connections: writer, reader, helper (made on first use, for a helper thread)."""

    def __init__(self, engine: SqliteEngine, path: Path, lock: LockFile | None) -> None:
        self.path = path
        self._engine = engine
        self._lock = lock
        self.writer: Connection = engine.connect(path)
        self.reader: Connection = engine.connect(path)
        self._helper: SqliteConnection | None = None
        self._log_pages = 0
        assert isinstance(self.writer, SqliteConnection)
        assert isinstance(self.reader, SqliteConnection)
        for connection in (self.writer, self.reader):
            connection.raw.set_busy_timeout(LOOP_BUSY_MS)
        self.writer.raw.set_wal_hook(self._committed)
        row = self.writer.one("PRAGMA page_size")
        self._page_size = int(row[0]) if row is not None else PAGE_SIZE

    def _committed(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._log_pages = pages
        return int(apsw.SQLITE_OK)

    @property
    def helper(self) -> Connection:
        return self._raw_helper()

    def _raw_helper(self) -> SqliteConnection:
        if self._helper is None:
            self._helper = self._engine.connect(self.path)
        return self._helper

    def log_size(self) -> int:
        return self._log_pages * self._page_size

    def checkpoint(self, *, restart: bool) -> None:
        mode = apsw.SQLITE_CHECKPOINT_RESTART if restart else apsw.SQLITE_CHECKPOINT_PASSIVE
        try:
            self._raw_helper().raw.wal_checkpoint(mode=mode)
            if restart:
                self._log_pages = 0
        except apsw.BusyError:
            return
        except apsw.Error as error:
            raise _mapped(error) from error

    def backup(self, target: Path, pages: int = 256) -> Iterator[tuple[int, int]]:
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            source = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY, vfs=self._engine.vfs)
            copy = apsw.Connection(str(target), vfs=self._engine.vfs)
            source.set_busy_timeout(BUSY_MS)
            if source.reserve_bytes() == CHECKSUM_BYTES:
                # The first page is made first: until it is written nobody knows that this file has checksums, and a
                # page out of the log still has that of its last checkpoint.
                (size,) = source.execute("PRAGMA page_size").fetchall()[0]
                copy.execute(f"PRAGMA page_size={size}")
                copy.reserve_bytes(reserve=CHECKSUM_BYTES)
                copy.execute("PRAGMA user_version=1")
            # a read transaction pins one snapshot: writers go on in the log and the copy never has to start again
            source.execute("BEGIN; SELECT count(*) FROM sqlite_master").fetchall()
            with copy.backup("main", source, "main") as run:
                while not run.done:
                    run.step(pages)
                    yield run.page_count - run.remaining, run.page_count
            source.close()
            copy.execute("PRAGMA journal_mode=WAL").fetchall()
            # failpoint: mailbox.backup.copied
            copy.execute("PRAGMA synchronous=FULL; BEGIN IMMEDIATE; COMMIT").fetchall()
            copy.close()
        except apsw.Error as error:
            raise _mapped(error) from error
        _sync(target)
        _sync(target.parent)

    def structure_errors(self) -> list[str]:
        try:
            found = self._raw_helper().raw.execute("PRAGMA integrity_check(1000)").fetchall()
        except apsw.Error as error:
            return [f"{type(error).__name__}: {error}"]
        return [str(text) for (text,) in found if text != "ok"]

    def broken_pages(self) -> list[int]:
        self._raw_helper().raw.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        return broken_pages(self.path)

    def unreadable(self) -> list[Lost]:
        return unreadable(self.path, self._engine.vfs)

    def size(self) -> int:
        log = Path(f"{self.path}-wal")
        return self.path.stat().st_size + (log.stat().st_size if log.exists() else 0)

    def close(self) -> None:
        for connection in (self.writer, self.reader, self._helper):
            if connection is not None:
                connection.close()
        if self._lock is not None:
            self._lock.release()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_BROKEN = ("WITH RECURSIVE page (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM page WHERE (n + 2) * ?2 <= length(?1))"
           " SELECT n FROM page WHERE verify_checksum(substr(?1, n * ?2 + 1, ?2)) = 0")
_STRETCH = 256


def broken_pages(path: Path) -> list[int]:
    """Numbers (from 1) of the pages of a file whose checksum is wrong; [] when it was made without checksums.

    A page that is being written meanwhile is looked at a second time. The work of a stretch is one step of the engine.
    """
    judge = apsw.Connection(":memory:", vfs=CHECKED_VFS)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = os.pread(fd, 100, 0)
        if len(head) < 100 or head[20] != CHECKSUM_BYTES:
            return [] if head.startswith(b"SQLite format 3\0") or not head else [1]
        page = int.from_bytes(head[16:18], "big") if head[16:18] != b"\0\1" else 65536
        if page < 512 or page & (page - 1):
            return [1]
        found: list[int] = []
        at = 0
        while data := os.pread(fd, page * _STRETCH, at * page):
            for row in judge.execute(_BROKEN, (data, page)).fetchall():
                number = at + int(row[0] or 0)
                again = os.pread(fd, page, number * page)
                if judge.execute("SELECT verify_checksum(?) = 0", (again,)).fetchall() == [(1,)]:
                    found.append(number + 1)
            at += _STRETCH
        return found
    finally:
        os.close(fd)
        judge.close()


def mend(path: Path) -> tuple[list[int], list[int]]:
    """Put back single flipped bits in a file that nobody has open: (pages mended, pages still broken)."""
    done, left = [], []
    broken = broken_pages(path)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        page = int.from_bytes(os.pread(fd, 2, 16), "big")
        for number in broken:
            whole = mended(os.pread(fd, page, (number - 1) * page)) if page >= 512 else None
            if whole is None:
                left.append(number)
            else:
                os.pwrite(fd, whole, (number - 1) * page)
                done.append(number)
        os.fsync(fd)  # failpoint: mailbox.rebuild.copied, mailbox.rebuild.salvaged
    finally:
        os.close(fd)
    return done, left


class SqliteEngine:
    """Opens files. `synchronous` and `vfs` are for the tests that cut the power."""

    name = "sqlite"
    in_files = True

    def __init__(self, *, page_size: int = PAGE_SIZE, cache_kib: int = CACHE_KIB, synchronous: str = "FULL",
                 vfs: str = CHECKED_VFS, lock: bool = True) -> None:
        self._options: dict[str, Any] = {"page_size": page_size, "cache_kib": cache_kib, "synchronous": synchronous}
        self.vfs = vfs
        self._use_lock = lock

    def connect(self, path: Path) -> SqliteConnection:
        return SqliteConnection(path, vfs=self.vfs, **self._options)

    def open(self, path: Path, *, create: bool = True) -> Database:
        if not path.exists():
            if not create:
                raise Broken(f"{path.name} does not exist")
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # -wal and -shm take its mode
        lock = LockFile(path.with_name(path.name + ".lock")) if self._use_lock else None
        try:
            return SqliteDatabase(self, path, lock)
        except SqlError:
            if lock is not None:
                lock.release()
            raise

    def schema(self, text: str) -> str:
        return text

    def mend(self, path: Path) -> tuple[list[int], list[int]]:
        return mend(path)

    def salvage(self, source: Path, target: Path) -> Salvaged:
        return salvage(source, target, self.vfs, broken_pages)

    def copy_for_migration(self, database: Database) -> Database | None:
        path = database.path.with_name(database.path.name + ".migrating")
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        for _ in database.backup(path, pages=4096):  # failpoint: schema.commit.before
            pass
        return SqliteDatabase(self, path, None)

    def switch_in(self, old: Database, new: Database) -> Database:  # failpoint: schema.switch.before
        assert isinstance(old, SqliteDatabase)
        assert isinstance(new, SqliteDatabase)
        new.checkpoint(restart=True)
        new.close()
        lock, old._lock = old._lock, None
        path = old.path
        old.checkpoint(restart=True)
        old.close()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        _sync(new.path)
        os.replace(new.path, path)
        _sync(path.parent)
        return SqliteDatabase(self, path, lock)
