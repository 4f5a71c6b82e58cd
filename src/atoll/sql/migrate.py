"""Numbered, forward-only schema changes.

In     a Schema: numbered texts (0001_start.sql, ...), the versions we can read and write.
Out    an open database at our version.
Spec   ISLANDS 8 ("Rolling upgrades"), 11.16: schema row (version, min_reader, min_writer).
Fails  SchemaError: too new for us, or the migrated copy did not pass its checks (the old file is untouched).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable

from atoll.base.failpoints import FAILPOINTS
from atoll.sql.engine import Connection, Database, Engine
from atoll.sql.errors import SchemaError


def _no_errors(_connection: Connection) -> list[str]:
    return []


@dataclass(frozen=True, slots=True)
class Schema:
    """texts: [(number, SQL)] ascending from 1; check: faults found in a migrated copy."""

    texts: tuple[tuple[int, str], ...]
    check: Callable[[Connection], list[str]] = field(default=_no_errors)

    @classmethod
    def of(cls, folder: Traversable, check: Callable[[Connection], list[str]] = _no_errors) -> Schema:
        """From the files NNNN_name.sql of a package's folder."""
        files = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
        return cls(tuple((int(name[:4]), folder.joinpath(name).read_text()) for name in files), check)

    @property
    def version(self) -> int:
        return self.texts[-1][0]


def version_of(connection: Connection) -> tuple[int, int, int]:
    """(version, min_reader, min_writer); zeros for an empty database."""
    if not connection.has_table("schema_version"):
        return 0, 0, 0
    row = connection.one("SELECT version, min_reader, min_writer FROM schema_version WHERE one = 1")
    return (row[0], row[1], row[2]) if row is not None else (0, 0, 0)


def migrate(engine: Engine, database: Database, schema: Schema) -> Database:
    """The database at our version: made, left alone, or migrated on a copy that is switched in when its checks pass."""
    version, min_reader, min_writer = version_of(database.writer)
    if min_writer > schema.version or min_reader > schema.version:
        raise SchemaError(f"a newer version has written this database: it is at schema {version}, this version knows "
                          f"{schema.version} and it takes one that knows {max(min_reader, min_writer)}; "
                          "start the newer version again, or restore a backup of before")
    if version >= schema.version:
        return database
    if version == 0:
        _apply(engine, database.writer, schema, 0)
        return database
    copy = engine.copy_for_migration(database)
    target = copy or database
    _apply(engine, target.writer, schema, version)
    faults = target.structure_errors() + schema.check(target.reader)
    if faults:
        if copy is not None:
            copy.close()
        raise SchemaError("migrated copy failed its checks: " + "; ".join(faults[:5]))
    if copy is None:
        return database
    if FAILPOINTS.active:
        FAILPOINTS.hit("schema.switch.before")
    switched = engine.switch_in(database, copy)
    if FAILPOINTS.active:
        FAILPOINTS.hit("schema.switch.after")
    return switched


def _apply(engine: Engine, connection: Connection, schema: Schema, version: int) -> None:
    for number, text in schema.texts:
        if number > version:
            connection.begin()
            connection.script(engine.schema(text))
            connection.run("UPDATE schema_version SET version = ? WHERE one = 1", (number,))
            if FAILPOINTS.active:
                FAILPOINTS.hit("schema.commit.before")
            connection.commit()
            if FAILPOINTS.active:
                FAILPOINTS.hit("schema.commit.after")
