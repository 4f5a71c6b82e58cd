"""A process that delivers and appends until a failpoint kills it; each acknowledged key is a line of its output.

python -m tests.mailbox.killed FOLDER FIRST
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from atoll.mailbox import Store, StoreError
from atoll.sql.sqlite import SqliteEngine
from tests.postgres import chosen_engine

from .kit import ALICES, Directory, StillClock, delivery

BATCH = 5
LIMIT = 400


class FileDirectory(Directory):
    """The high-water mark of epochs outlives the process, as the directory's does."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        if path.exists():
            self.epochs = json.loads(path.read_text())

    async def next_epoch(self, database: str, at_least: int) -> int:
        epoch = await super().next_epoch(database, at_least)
        self._path.write_text(json.dumps(self.epochs))
        return epoch


async def main(folder: Path, first: int) -> None:
    directory = FileDirectory(folder / "epochs.json")
    store = Store(chosen_engine(), directory.mailbox, directory, search_engine=SqliteEngine(), clock=StillClock())
    await store.mount("db1", folder / "db1.sqlite")

    async def one(number: int) -> None:
        (done,) = await store.deliver([delivery(ALICES, key=f"{number}".encode(), message_id=f"<{number}@x>")])
        if not isinstance(done, StoreError):
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()

    for number in range(first, first + LIMIT, BATCH):
        await asyncio.gather(*(one(at) for at in range(number, number + BATCH)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
