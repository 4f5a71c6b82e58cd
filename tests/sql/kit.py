"""A counter in a database, written through a GroupWriter."""

from __future__ import annotations

import asyncio
from pathlib import Path

from atoll.sql import Connection, Database, Fence, GroupWriter, Lane, Schema, SqlError, migrate, take_ownership
from atoll.sql.sqlite import SqliteEngine

SCHEMA = Schema(((1, "CREATE TABLE schema_version (one INTEGER PRIMARY KEY, version INTEGER, min_reader INTEGER,"
                     " min_writer INTEGER); INSERT INTO schema_version VALUES (1, 1, 1, 1);"
                     " CREATE TABLE owner (one INTEGER PRIMARY KEY, owner_epoch BIGINT, process TEXT,"
                     " restored INTEGER);"
                     " INSERT INTO owner VALUES (1, 0, '', 0); CREATE TABLE word (word TEXT PRIMARY KEY)"),))


class Epochs:
    def __init__(self) -> None:
        self.last = 0

    async def next_epoch(self, database: str, at_least: int) -> int:
        self.last = max(self.last + 1, at_least)
        return self.last


class Words:
    """The Context: words are buffered, and written once."""

    def __init__(self, connection: Connection, log: list[str]) -> None:
        self.connection = connection
        self.log = log
        self.buffer: list[str] = []
        self.marks = 0

    def add(self, word: str) -> None:
        self.marks += 1
        self.buffer.append(word)

    def mark(self) -> int:
        return self.marks

    def flush(self) -> None:
        self.connection.many("INSERT INTO word (word) VALUES (?)", [(word,) for word in self.buffer])
        self.buffer = []

    def abandon(self) -> None:
        self.buffer = []
        self.log.append("abandoned")

    def committed(self) -> None:
        self.log.append("committed")


class Opened:
    def __init__(self, database: Database, epoch: int) -> None:
        self.database = database
        self.log: list[str] = []
        self.doubts: list[SqlError] = []
        self.commits = Lane("test")
        self.writer = GroupWriter("test", database.writer, Fence(database.writer, epoch),
                                  lambda connection: Words(connection, self.log), self.commits, self.doubts.append)

    def words(self) -> list[str]:
        return [word for (word,) in self.database.reader.all("SELECT word FROM word ORDER BY word")]

    async def close(self) -> None:
        await self.writer.close()
        self.commits.close()
        self.database.close()


async def opened(path: Path, epochs: Epochs, engine: SqliteEngine | None = None) -> Opened:
    engine = engine or SqliteEngine()
    database = migrate(engine, engine.open(path), SCHEMA)
    ownership = await take_ownership(database.writer, epochs, "test", "test")
    return Opened(database, ownership.epoch)


async def outcomes(*futures: asyncio.Future[object]) -> list[object]:
    return list(await asyncio.gather(*futures, return_exceptions=True))
