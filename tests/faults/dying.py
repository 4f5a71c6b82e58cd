"""A process that does one thing to a database until a failpoint kills it; a line of its output for each thing done.

python -m tests.faults.dying FOLDER (deliver | backup | restore NAME | rebuild | queue | directory | migrate)
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from atoll.directory.server import database as directory_database
from atoll.mailbox import Store, StoreError
from atoll.mailbox import database as mailbox_database
from atoll.mailbox.backup import backup, rebuild_database, restore_database
from atoll.sql import Schema, migrate
from atoll.sql.sqlite import SqliteEngine
from atoll.transport import queue as transport_queue
from atoll.transport.envelope import Envelope, Recipient
from tests.mailbox.killed import FileDirectory
from tests.mailbox.kit import StillClock, delivery

COUNT = 60
SMALL_LOG = 64 << 10
ENGINE = SqliteEngine()
WORDS = ((1, "CREATE TABLE schema_version (one INTEGER PRIMARY KEY, version INTEGER, min_reader INTEGER,"
             " min_writer INTEGER); INSERT INTO schema_version VALUES (1, 1, 1, 1); CREATE TABLE word (word TEXT);"
             " INSERT INTO word VALUES ('kept')"),
         (2, "ALTER TABLE word ADD COLUMN language TEXT"),
         (3, "UPDATE word SET language = 'en'"))


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def opened(folder: Path) -> Store:
    """The store of a folder, with its one database mounted."""
    directory = FileDirectory(folder / "epochs.json")
    store = Store(ENGINE, directory.mailbox, directory, clock=StillClock())
    await store.mount("db1", folder / "db1.sqlite")
    return store


async def fill(store: Store, numbers: range) -> None:
    """One message after another; each acknowledged number is said."""
    for number in numbers:
        (done,) = await store.deliver([delivery(key=b"%d" % number, message_id=f"<{number}@x>", size=3000)])
        if not isinstance(done, StoreError):
            say(number)


async def deliver(folder: Path) -> None:
    mailbox_database.CHECKPOINT_AT = SMALL_LOG
    await fill(await opened(folder), range(COUNT))


async def make_backup(folder: Path) -> None:
    store = await opened(folder)
    await backup(store.database("db1"), ENGINE, folder / "db1-new.sqlite")
    say("backup")


async def restore(folder: Path) -> None:
    await restore_database(await opened(folder), ENGINE, "db1", folder / sys.argv[3])
    say("restored")


async def rebuild(folder: Path) -> None:
    await rebuild_database(await opened(folder), ENGINE, "db1")
    say("rebuilt")


async def queue(folder: Path) -> None:
    transport_queue.CHECKPOINT_BYTES = SMALL_LOG
    kept = await transport_queue.Queue.open(ENGINE, folder / "queue.sqlite", FileDirectory(folder / "epochs.json"),
                                            StillClock(), process="test", on_doubt=say)
    for number in range(COUNT):
        await kept.put(Envelope(number.to_bytes(16, "big"), "a@x", (Recipient("b@y"),), 0), b"x" * 5000,
                       [transport_queue.Waiting("b@y", "y", "later")], None)
        say(number)


async def directory(folder: Path) -> None:
    directory_database.LOG_BYTES = SMALL_LOG
    file = await directory_database.open_database(ENGINE, folder / "directory.sqlite", StillClock(), "test", say)
    for _ in range(COUNT):
        say(await file.write(lambda tx: tx.change()))


async def migration(folder: Path) -> None:
    database = migrate(ENGINE, ENGINE.open(folder / "words.sqlite"), Schema(WORDS))
    say(database.reader.all("SELECT word, language FROM word"))


DEEDS: dict[str, Callable[[Path], Awaitable[None]]] = {
    "deliver": deliver, "backup": make_backup, "restore": restore, "rebuild": rebuild, "queue": queue,
    "directory": directory, "migrate": migration}


async def main() -> None:
    await DEEDS[sys.argv[2]](Path(sys.argv[1]))


if __name__ == "__main__":
    asyncio.run(main())
