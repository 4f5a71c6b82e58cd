"""Processes that deliver until a failpoint kills them, all forked from one that has imported everything.

In     lines of JSON: [folder, number of the first message, what is armed].
Out    a line of JSON for each: [return code (negative: the signal), numbers that were acknowledged].
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from atoll.base.failpoints import FAILPOINTS
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


async def deliver(folder: Path, first: int, acknowledged: int) -> None:
    """acknowledged: the descriptor that numbers are written to."""
    directory = FileDirectory(folder / "epochs.json")
    store = Store(chosen_engine(), directory.mailbox, directory, search_engine=SqliteEngine(), clock=StillClock())
    await store.mount("db1", folder / "db1.sqlite")

    async def one(number: int) -> None:
        (done,) = await store.deliver([delivery(ALICES, key=f"{number}".encode(), message_id=f"<{number}@x>")])
        if not isinstance(done, StoreError):
            os.write(acknowledged, b"%d\n" % number)

    for number in range(first, first + LIMIT, BATCH):
        await asyncio.gather(*(one(at) for at in range(number, number + BATCH)))


def child(folder: Path, first: int, armed: str, acknowledged: int) -> None:
    """Its code is 0 when nothing killed it."""
    code = 1
    try:
        FAILPOINTS.__init__(armed)  # type: ignore[misc] - the one that every module has
        asyncio.run(deliver(folder, first, acknowledged))
        code = 0
    finally:
        os._exit(code)


def main() -> None:
    for line in sys.stdin:
        folder, first, armed = json.loads(line)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            child(Path(folder), first, armed, write)
        os.close(write)
        with open(read, "rb") as acknowledged:
            numbers = [int(number) for number in acknowledged.read().split()]
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps([code, numbers]), flush=True)


if __name__ == "__main__":
    main()
