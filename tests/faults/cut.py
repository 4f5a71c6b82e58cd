"""A process that works on one kind of database while every write to the disk is noted (powerloss.py).

python -m tests.faults.cut KIND FOLDER SYNCHRONOUS SEED: KIND is mailbox, queue or directory. FOLDER/story is what
happened (Story); the database is FOLDER/live/.
"""

from __future__ import annotations

import asyncio
import pickle
import random
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    from tests.faults.powerloss import PowerLossVfs

    DISK = PowerLossVfs()  # before anything of SQLite is set up above it

from atoll.base.ids import MailboxId
from atoll.directory.server.database import open_database
from atoll.mailbox import Access, Store, StoreError, UidSet
from atoll.mailbox import database as mailbox_database
from atoll.mailbox.model import Flag
from atoll.sql.sqlite import SqliteEngine
from atoll.transport import queue as transport_queue
from atoll.transport.envelope import Envelope, Recipient
from tests.faults.powerloss import Journal
from tests.mailbox.killed import FileDirectory
from tests.mailbox.kit import ALICE, ALICES, StillClock, delivery, new

MESSAGES = 120
LOG_BYTES = 200_000
"""Checkpoints often: they are where a log is begun anew."""


@dataclass
class Story:
    """promises: (point in the journal, what, number): it was acknowledged then, and holds from there on."""

    journal: Journal
    tried: set[int] = field(default_factory=set)
    promises: list[tuple[int, str, int]] = field(default_factory=list)

    def promise(self, what: str, number: int) -> None:
        self.promises.append((len(self.journal), what, number))

    def promised(self, what: str, cut: int) -> set[int]:
        """Numbers acknowledged before operation `cut` was done."""
        return {number for point, kind, number in self.promises if kind == what and point <= cut}

    def tried_by(self, what: str) -> set[int]:
        return {number for _, kind, number in self.promises if kind == what}


Work = Callable[[Path, SqliteEngine, Story, random.Random], Coroutine[None, None, None]]


async def mailbox(folder: Path, engine: SqliteEngine, story: Story, chance: random.Random) -> None:
    """Deliver, append, flag and expunge from several sides at once; number n is the message with Message-ID <n@x>."""
    mailbox_database.CHECKPOINT_AT = LOG_BYTES
    directory = FileDirectory(folder.parent / "epochs.json")
    store = Store(engine, directory.mailbox, directory, clock=StillClock())
    await store.mount("db1", folder / "db1.sqlite")
    alice = await store.open(ALICES, ALICE)

    async def one(number: int) -> None:
        story.tried.add(number)
        body = "morning " + chance.randbytes(chance.choice((20, 20, 2000, 60_000))).hex()
        if number % 3:
            (done,) = await store.deliver([delivery(key=b"%d" % number, message_id=f"<{number}@x>", body=body)])
            assert not isinstance(done, StoreError)
            uid = done.uid
        else:
            (placed,) = await alice.append(alice.folder("INBOX"), [new(message_id=f"<{number}@x>", body=body)])
            uid = placed.uid
        story.promise("stored", number)
        await _change(alice, story, number, uid)

    for first in range(0, MESSAGES, 6):
        await asyncio.gather(*(one(number) for number in range(first, first + 6)))
    await asyncio.sleep(0.4)  # the search index goes on by itself
    await store.close()


async def _change(alice: Access, story: Story, number: int, uid: int) -> None:
    inbox = alice.folder("INBOX")
    if number % 5 == 1:
        await alice.flags(inbox, UidSet.of([uid]), "+", Flag.SEEN, frozenset(), None)
        story.promise("seen", number)
    elif number % 5 == 2:
        await alice.flags(inbox, UidSet.of([uid]), "+", Flag.DELETED, frozenset(), None)
        story.promises.append((sys.maxsize, "expunging", number))
        await alice.expunge(inbox, UidSet.of([uid]))
        story.promise("gone", number)


async def queue(folder: Path, engine: SqliteEngine, story: Story, chance: random.Random) -> None:
    """Keep messages, settle some of them; number n is the message with that id."""
    transport_queue.CHECKPOINT_BYTES = LOG_BYTES
    directory = FileDirectory(folder.parent / "epochs.json")
    kept = await transport_queue.Queue.open(engine, folder / "queue.sqlite", directory, StillClock(), process="test",
                                            on_doubt=_unexpected)

    async def one(number: int) -> None:
        story.tried.add(number)
        envelope = Envelope(number.to_bytes(16, "big"), "a@x.example", (Recipient("b@y.example"),), 0)
        content = b"%d " % number + bytes(chance.choice((100, 4000, 60_000)))
        await kept.put(envelope, content, [transport_queue.Waiting("b@y.example", "y.example", "later")], None)
        story.promise("stored", number)
        if number % 3 == 1:
            story.promises.append((sys.maxsize, "expunging", number))
            await kept.settle(envelope.id, ["b@y.example"], [])
            story.promise("gone", number)

    for first in range(0, MESSAGES, 6):
        await asyncio.gather(*(one(number) for number in range(first, first + 6)))
    await kept.close()


async def directory(folder: Path, engine: SqliteEngine, story: Story, chance: random.Random) -> None:
    """Change rows in groups; number n is the organization with that id."""
    from atoll.directory.server import database as module

    module.LOG_BYTES = LOG_BYTES
    kept = await open_database(engine, folder / "directory.sqlite", StillClock(), "test", _unexpected)

    async def one(number: int) -> None:
        story.tried.add(number)
        name = f"{number} " + "x" * chance.choice((10, 500, 3000))
        await kept.write(lambda tx: tx.run("INSERT INTO organization (id, name, change) VALUES (?, ?, ?)",
                                           (MailboxId(number.to_bytes(16, "big")), name, tx.change())))
        story.promise("stored", number)

    for first in range(0, MESSAGES, 6):
        await asyncio.gather(*(one(number) for number in range(first, first + 6)))
    await kept.close()


def _unexpected(error: Exception) -> None:
    raise error


KINDS: dict[str, Work] = {"mailbox": mailbox, "queue": queue, "directory": directory}


def main(kind: str, folder: Path, synchronous: str, seed: int) -> None:
    story = Story(DISK.journal)
    live = folder / "live"
    live.mkdir(parents=True)
    asyncio.run(KINDS[kind](live, SqliteEngine(synchronous=synchronous), story, random.Random(seed)))
    with (folder / "story").open("wb") as file:
        pickle.dump((story.journal.ops, story.tried, story.promises), file)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
