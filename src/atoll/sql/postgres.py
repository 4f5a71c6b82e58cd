"""PostgreSQL 15 by psycopg 3: one schema for each database, one writer connection.

In     a connection string, common SQL with ? for values.
Out    Connection, Database, Engine of engine.py.
Spec   STORE 4 (traps) and 5 ("PostgreSQL" column); ISLANDS 4 (FOR SHARE, a notice at COMMIT, no cancel), 11.6.
Fails  SqlError; the mapping is _mapped. A lost connection is Broken for good: the owner mounts again, because
       what a server shows after its own restart may not be what was acknowledged (ISLANDS 4.4).
Not    files: no backup, no restore, no mending; those are the server's tools' (Unsupported). No cancel, ever: COMMIT is
       called from a thread that gets no signal.

Integers are sent as int8 and kept as BIGINT: one text is one prepared statement, and SQLite's INTEGER has 64 bits too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors, pq
from psycopg.adapt import AdaptersMap
from psycopg.types.numeric import Int8BinaryDumper, NumericBinaryLoader

from atoll.sql.engine import Connection, Database, Lost, Record, Salvaged, Value
from atoll.sql.errors import Broken, Full, InDoubt, Locked, SqlError, Unsupported

LOCK_MS = 7000
"""Longer than IDLE_MS, so that a stalled owner is ended while the next one waits for its row."""
IDLE_MS = 5000
"""The server ends a session that does nothing inside a transaction for so long."""
STATEMENTS = 512
COPY_FROM = 6
"""Rows of a plain INSERT from which COPY costs less."""
OLDEST_SERVER = 150000
SETTINGS = {
    # the planner's defaults choose bitmap scans, sorts and parallel workers for what is a short range of an index
    "random_page_cost": "1.1", "jit": "off", "max_parallel_workers_per_gather": "0", "enable_bitmapscan": "off",
    "synchronous_commit": "on", "statement_timeout": "0", "lock_timeout": str(LOCK_MS),
    "idle_in_transaction_session_timeout": str(IDLE_MS), "default_transaction_isolation": r"read\ committed",
}
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_INSERT = re.compile(r"INSERT INTO (\w+) \(([\w, ]+)\) VALUES \(((?:\?|NULL)(?:, (?:\?|NULL))*)\)")
_TYPES = re.compile(r"\b(INTEGER|BLOB|TEXT)\b")
_WORDS = {"INTEGER": "BIGINT", "BLOB": "BYTEA", "TEXT": 'TEXT COLLATE "C"'}
_OURS_ONLY = re.compile(r"^--postgresql: ", re.M)
_CLUSTERED = re.compile(r"\)\s+WITHOUT ROWID")


class _Whole(NumericBinaryLoader):
    """sum() of bigint is numeric; for us a number of items or octets."""

    def load(self, data: Any) -> Any:
        value = super().load(data)
        return int(value) if value == value.to_integral_value() else float(value)


def _adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_dumper(int, Int8BinaryDumper)
    adapters.register_dumper(bool, Int8BinaryDumper)
    adapters.register_loader("numeric", _Whole)
    return adapters


ADAPTERS = _adapters()


def _mapped(error: psycopg.Error) -> SqlError:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, errors.DiskFull):
        return Full(text)
    if isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected):
        return Locked(text)
    return Broken(text)


@lru_cache(4096)
def numbered(text: str) -> str:
    """? as $1, $2, ..."""
    first, *others = text.split("?")
    return first + "".join(f"${number}{other}" for number, other in enumerate(others, 1))


@lru_cache(256)
def copy_of(text: str) -> str | None:
    """The COPY that does what this INSERT of values does; None when there is none."""
    found = _INSERT.fullmatch(text)
    if found is None:
        return None
    columns = [column for column, value in zip(found[2].split(", "), found[3].split(", "), strict=True)
               if value == "?"]
    return f"COPY {found[1]} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"


@dataclass(slots=True)
class Link:
    """What the connections of a database know of each other. lost: one of them has ended, so that the owner must mount
    again before it writes."""

    lost: bool = False


class PostgresConnection:
    """One psycopg connection, in autocommit: transactions are begun and ended in words."""

    def __init__(self, conninfo: str, schema: str, name: str, link: Link | None = None) -> None:
        options = " ".join(f"-c {key}={value}" for key, value in {**SETTINGS, "search_path": schema}.items())
        try:
            raw = psycopg.connect(conninfo, autocommit=True, application_name=name, options=options,
                                  client_encoding="utf8", context=ADAPTERS, cursor_factory=psycopg.RawCursor)
        except psycopg.Error as error:
            raise _mapped(error) from error
        raw.prepared_max = STATEMENTS
        raw.add_notice_handler(self._noticed)
        self.raw = raw
        self._link = link or Link()
        self._cursor = raw.cursor(binary=True)
        self._words = raw.cursor()
        self._notices: list[str] = []

    def _noticed(self, notice: errors.Diagnostic) -> None:
        self._notices.append(f"{notice.severity}: {notice.message_primary}")

    def _failed(self, error: psycopg.Error) -> SqlError:
        if self.raw.closed:
            self._link.lost = True
        return _mapped(error)

    def all(self, text: str, values: Sequence[Value] = ()) -> list[Record]:
        try:
            return self._cursor.execute(numbered(text), values, prepare=True).fetchall()
        except psycopg.Error as error:
            raise self._failed(error) from error

    def one(self, text: str, values: Sequence[Value] = ()) -> Record | None:
        try:
            return self._cursor.execute(numbered(text), values, prepare=True).fetchone()
        except psycopg.Error as error:
            raise self._failed(error) from error

    def each(self, text: str, values: Sequence[Value] = ()) -> Iterator[Record]:
        try:
            yield from self.raw.cursor().stream(numbered(text), values, binary=True)
        except psycopg.Error as error:
            raise self._failed(error) from error

    def run(self, text: str, values: Sequence[Value] = ()) -> int:
        try:
            return self._cursor.execute(numbered(text), values, prepare=True).rowcount
        except psycopg.Error as error:
            raise self._failed(error) from error

    def many(self, text: str, rows: Iterable[Sequence[Value]]) -> None:
        rows = rows if isinstance(rows, list) else list(rows)
        if not rows:
            return
        try:
            if len(rows) == 1:
                self._cursor.execute(numbered(text), rows[0], prepare=True)
            elif len(rows) >= COPY_FROM and (copying := copy_of(text)) is not None:
                with self._cursor.copy(copying) as copy:
                    for row in rows:
                        copy.write_row(row)
            else:
                self._cursor.executemany(numbered(text), rows)
        except psycopg.Error as error:
            raise self._failed(error) from error

    def script(self, text: str) -> None:
        try:
            self._words.execute(text)
        except psycopg.Error as error:
            raise self._failed(error) from error

    def has_table(self, name: str) -> bool:
        return self.one("SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = ?",
                        (name,)) is not None

    def begin(self) -> None:
        self.script("BEGIN")

    def begin_owned(self) -> int | None:
        if self._link.lost:
            raise InDoubt("the server was lost")
        # FOR SHARE: a later owner's UPDATE waits for us; with a plain SELECT both would commit (ISLANDS 4)
        try:
            self._words.execute("BEGIN; SELECT owner_epoch FROM owner WHERE one = 1 FOR SHARE")
            self._words.nextset()
            row = self._words.fetchone()
        except psycopg.Error as error:
            raise self._failed(error) from error
        return int(row[0]) if row is not None else None

    def begin_read(self) -> None:
        self.script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def commit(self) -> None:
        self._notices.clear()
        try:
            self._words.execute("COMMIT")  # failpoint: none, whoever calls this has them
        except psycopg.Error as error:
            raise InDoubt(f"{type(error).__name__}: {error}") from error
        if self._words.statusmessage != "COMMIT":  # it had failed before: the server says ROLLBACK, without an error
            raise Broken(f"COMMIT was answered by {self._words.statusmessage}")
        if self._notices:  # "canceling wait for synchronous replication" comes with success
            raise InDoubt("; ".join(self._notices))

    def rollback(self) -> None:
        if self.raw.info.transaction_status != pq.TransactionStatus.IDLE:
            self.script("ROLLBACK")

    def savepoint(self, name: str) -> None:
        self.script(f"SAVEPOINT {name}")

    def release(self, name: str) -> None:
        self.script(f"RELEASE {name}")

    def rollback_to(self, name: str) -> None:
        self.script(f"ROLLBACK TO {name}; RELEASE {name}")

    def close(self) -> None:
        self.raw.close()


class PostgresDatabase:
    """A schema and three connections: writer, reader, helper (made on first use, for a helper thread)."""

    def __init__(self, engine: PostgresEngine, path: Path) -> None:
        self.path = path
        self._engine = engine
        self.schema = engine.place(path)
        self._link = Link()
        self.writer: Connection = engine.connect(path, "atoll-owner", self._link)
        self.reader: Connection = engine.connect(path, "atoll-reader", self._link)
        self._helper: Connection | None = None

    @property
    def helper(self) -> Connection:
        if self._helper is None:
            self._helper = self._engine.connect(self.path, "atoll-helper", self._link)
        return self._helper

    def log_size(self) -> int:
        return 0

    def checkpoint(self, *, restart: bool) -> None:
        """The server's own doing."""

    def backup(self, target: Path, pages: int = 256) -> Iterator[tuple[int, int]]:
        raise Unsupported("a database in PostgreSQL is backed up by the server's tools")

    def structure_errors(self) -> list[str]:
        """By the server's extension amcheck, if the database has it: every index against its table."""
        helper = self.helper
        try:
            if helper.one("SELECT 1 FROM pg_extension WHERE extname = 'amcheck'") is None:
                return []
            indexes = [oid for (oid,) in helper.all(
                "SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = ? AND c.relkind = 'i' ORDER BY c.oid", (self.schema,))]
        except SqlError as error:
            return [str(error)]
        return [found for index in indexes for found in self._index_errors(helper, index)]

    def _index_errors(self, helper: Connection, index: int) -> list[str]:
        try:
            helper.one("SELECT bt_index_check(?::oid::regclass, true)", (index,))
        except SqlError as error:
            return [str(error)]
        return []

    def broken_pages(self) -> list[int]:
        """None known: the server checks its pages itself when it reads them (initdb --data-checksums)."""
        return []

    def unreadable(self) -> list[Lost]:
        return []

    def size(self) -> int:
        row = self.reader.one("SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c"
                              " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ? AND c.relkind = 'r'",
                              (self.schema,))
        return int(row[0]) if row is not None else 0

    def close(self) -> None:
        for connection in (self.writer, self.reader, self._helper):
            if connection is not None:
                connection.close()


class PostgresEngine:
    """Opens schemas of one PostgreSQL database."""

    name = "postgresql"
    in_files = False

    def __init__(self, conninfo: str, place: Callable[[Path], str] = lambda path: path.stem) -> None:
        """conninfo: libpq's, user and password included as it wants. place: the schema's name for a path."""
        self._conninfo = conninfo
        self._place = place

    def place(self, path: Path) -> str:
        """The schema of a database; Broken when it cannot be a name."""
        name = self._place(path)
        if not NAME.fullmatch(name):
            raise Broken(f"{name!r} is no name for a schema")
        return name

    def connect(self, path: Path, name: str, link: Link | None = None) -> PostgresConnection:
        return PostgresConnection(self._conninfo, self.place(path), name, link)

    def open(self, path: Path, *, create: bool = True) -> Database:
        database = PostgresDatabase(self, path)
        try:
            self._look(database, create)
        except SqlError:
            database.close()
            raise
        return database

    @staticmethod
    def _look(database: PostgresDatabase, create: bool) -> None:
        writer = database.writer
        server = writer.one("SELECT current_setting('server_version_num')::bigint, current_setting('server_encoding')")
        if server is None or server[0] < OLDEST_SERVER or server[1] != "UTF8":
            raise Broken(f"PostgreSQL 15 or newer with UTF8 is needed, not {server}")
        if writer.one("SELECT 1 FROM pg_namespace WHERE nspname = ?", (database.schema,)) is None:
            if not create:
                raise Broken(f"schema {database.schema} does not exist")
            writer.script(f"CREATE SCHEMA {database.schema}")

    def schema(self, text: str) -> str:
        """Types, clustering, and the lines that only this engine has ("--postgresql: ")."""
        lines = _CLUSTERED.sub(")", _OURS_ONLY.sub("", text))
        return _TYPES.sub(lambda found: _WORDS[found[1]], lines)

    def copy_for_migration(self, database: Database) -> Database | None:
        return None

    def mend(self, path: Path) -> tuple[list[int], list[int]]:
        raise Unsupported("pages of PostgreSQL are not ours to mend")

    def salvage(self, source: Path, target: Path) -> Salvaged:
        raise Unsupported("a damaged PostgreSQL is restored by the server's tools")

    def switch_in(self, old: Database, new: Database) -> Database:
        return new
