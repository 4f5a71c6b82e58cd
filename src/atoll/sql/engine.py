"""The door: what the rest of Atoll may ask of a database engine.

In     common SQL (STORE 4, "Dialect door") with ? for values; tuples.
Out    tuples, lists of them; SqlError for every failure of the engine.
Not    an ORM. Nothing outside sql/ names an engine; roles/ choose one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Value = int | float | str | bytes | None
Record = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """Rows of a table with keys above `after` and up to `before` (None: to the end) cannot be read."""

    table: str
    after: tuple[Any, ...]
    before: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class Fragment:
    """A row of `table` whose own page is lost: the columns that indexes know, its key among them."""

    table: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Salvaged:
    """lost: where reading stopped, though what lies there may have been found another way."""

    lost: list[Lost]
    fragments: list[Fragment]


class Reads(Protocol):
    """What can be asked with SELECT."""

    def all(self, text: str, values: Sequence[Value] = ()) -> list[Record]:
        """Every row."""

    def one(self, text: str, values: Sequence[Value] = ()) -> Record | None:
        """The first row."""


class Connection(Protocol):
    """One connection; used by one thread at a time."""

    def all(self, text: str, values: Sequence[Value] = ()) -> list[Record]:
        """Every row."""

    def one(self, text: str, values: Sequence[Value] = ()) -> Record | None:
        """The first row."""

    def each(self, text: str, values: Sequence[Value] = ()) -> Iterator[Record]:
        """Rows one after another; exhaust or drop it before the transaction ends."""

    def run(self, text: str, values: Sequence[Value] = ()) -> int:
        """Rows changed."""

    def many(self, text: str, rows: Iterable[Sequence[Value]]) -> None:
        """The statement once for each row, as cheaply as the engine can."""

    def script(self, text: str) -> None:
        """Several statements; for schemas."""

    def has_table(self, name: str) -> bool: ...

    def begin(self) -> None:
        """A write transaction; waits for the write lock (Locked)."""

    def begin_owned(self) -> int | None:
        """A write transaction that keeps every later owner waiting until it ends; the owner row's epoch."""

    def begin_read(self) -> None:
        """A snapshot; end it within a second."""

    def commit(self) -> None:
        """Durable when it returns; InDoubt otherwise."""

    def rollback(self) -> None:
        """Undo; harmless outside a transaction."""

    def savepoint(self, name: str) -> None: ...

    def release(self, name: str) -> None: ...

    def rollback_to(self, name: str) -> None: ...

    def close(self) -> None: ...


class Database(Protocol):
    """One open database."""

    path: Path
    writer: Connection
    reader: Connection
    """Both are the event loop's."""

    @property
    def helper(self) -> Connection:
        """A third connection, for one helper thread: checks and other long reads."""

    def log_size(self) -> int:
        """Octets of write-ahead log since it was last begun anew."""

    def checkpoint(self, *, restart: bool) -> None:
        """Fold the log back; restart: also begin it anew (only between groups). From a helper thread."""

    def backup(self, target: Path, pages: int = 256) -> Iterator[tuple[int, int]]:
        """Copy into a new file step by step: (done, of) pages. From a helper thread; writing goes on meanwhile."""

    def structure_errors(self) -> list[str]:
        """What the engine's own check finds; from a helper thread."""

    def broken_pages(self) -> list[int]:
        """Numbers of the pages whose checksum is wrong; from a helper thread."""

    def unreadable(self) -> list[Lost]:
        """Rows that those pages hide; from a helper thread."""

    def size(self) -> int:
        """Octets on disk, log included."""

    def close(self) -> None: ...


class Engine(Protocol):
    """Opens databases."""

    name: str
    in_files: bool
    """Is a database a file that can be copied? Else backup, restore and mending are the server's (Unsupported)."""

    def open(self, path: Path, *, create: bool = True) -> Database:
        """Takes the lock file; Broken, Locked."""

    def schema(self, text: str) -> str:
        """The engine's words for a schema written in ours."""

    def copy_for_migration(self, database: Database) -> Database | None:
        """A copy to migrate on, or None when this engine changes in place (PostgreSQL)."""

    def mend(self, path: Path) -> tuple[list[int], list[int]]:
        """Put back single flipped bits in a database that nobody has open: (pages mended, pages still broken)."""

    def salvage(self, source: Path, target: Path) -> Salvaged:
        """Copy every row that can still be read into a file with the schema; what cannot. From a helper thread."""

    def switch_in(self, old: Database, new: Database) -> Database:
        """The migrated copy takes the old one's place; what is open now."""
