"""The disk is full, read-only or broken for a while: nothing is acknowledged that is not there, and it heals by itself.

Spec   R04 and R05: refusals while it lasts; a full or read-only disk leaves reading as it was; an fsync that failed
       is never pretended to have worked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from atoll.directory.server.database import Database, open_database
from atoll.mailbox import Access, Flag, Store, StoreError, UidSet, Want
from atoll.mailbox.check import faults
from atoll.mailbox.integrity import check
from atoll.sql import SqlError
from atoll.sql.sqlite import SqliteEngine
from atoll.transport.envelope import Envelope, Recipient
from atoll.transport.queue import Queue, Waiting
from tests.faults.sickdisk import BROKEN, FULL, NAME, READ_ONLY, SickVfs
from tests.mailbox.kit import ALICE, ALICES, Directory, StillClock, delivery, new

KINDS = {"full": FULL, "read-only": READ_ONLY, "broken": BROKEN}
HEAL_SECONDS = 20.0


@pytest.fixture(scope="module")
def whole() -> SickVfs:
    return SickVfs()


@pytest.fixture
def disk(whole: SickVfs) -> Iterator[SickVfs]:
    yield whole
    whole.sick = None


async def delivered(store: Store, numbers: range) -> set[int]:
    """Those that were acknowledged."""
    done = await asyncio.gather(*(store.deliver([delivery(key=b"%d" % number, message_id=f"<{number}@x>", size=3000)])
                                  for number in numbers))
    return {number for number, (one,) in zip(numbers, done, strict=True) if not isinstance(one, StoreError)}


def there(alice: Access) -> list[int]:
    return [int(alice.row_blob(row).partition(b"Message-ID: <")[2].partition(b"@")[0])
            for row in alice.rows(alice.folder("INBOX"), 1, 1 << 31, Want.HOT, 10_000)]


async def healed(store: Store) -> Access:
    """The mailbox, as soon as it can be opened and written to."""
    deadline = asyncio.get_running_loop().time() + HEAL_SECONDS
    while True:
        try:
            alice = await store.open(ALICES, ALICE)
            await alice.append(alice.folder("INBOX"), [new(message_id="<9999@x>")])
            return alice
        except StoreError:
            assert asyncio.get_running_loop().time() < deadline, "it does not heal"
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_mailbox_database(tmp_path: Path, disk: SickVfs, kind: str) -> None:
    directory = Directory()
    store = Store(SqliteEngine(vfs=NAME), directory.mailbox, directory, clock=StillClock())
    await store.mount("db1", tmp_path / "db1.sqlite")
    alice = await store.open(ALICES, ALICE)
    good = await delivered(store, range(20))
    assert len(good) == 20
    disk.sick = KINDS[kind]
    assert await delivered(store, range(20, 40)) == set()
    if kind != "broken":  # reading goes on; what writes is refused, and leaves no trace
        assert set(there(alice)) == good
        with pytest.raises(StoreError):
            await alice.flags(alice.folder("INBOX"), UidSet.of([1]), "+", Flag.SEEN, frozenset(), None)
        assert alice.folder("INBOX").unread == 20
    assert disk.refused
    disk.sick = None
    alice = await healed(store)
    good |= await delivered(store, range(20, 60))
    assert good == set(range(60))
    found = there(alice)
    assert sorted(found) == [*range(60), 9999]
    assert faults(store.database("db1").reader) == []
    assert (await check(store.database("db1"))).problems == []
    await store.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_queue(tmp_path: Path, disk: SickVfs, kind: str) -> None:
    doubts: list[SqlError] = []
    directory = Directory()

    async def opened() -> Queue:
        return await Queue.open(SqliteEngine(vfs=NAME), tmp_path / "queue.sqlite", directory, StillClock(1 << 45),
                                process="test", on_doubt=doubts.append)

    async def put(queue: Queue, number: int) -> None:
        await queue.put(Envelope(number.to_bytes(16, "big"), "a@x", (Recipient("b@y"),), 0), b"x" * 3000,
                        [Waiting("b@y", "y", "later")], None)

    queue = await opened()
    await put(queue, 1)
    disk.sick = KINDS[kind]
    with pytest.raises(SqlError):
        await put(queue, 2)
    disk.sick = None
    if doubts:  # the role ends and begins anew: see roles/transport
        with pytest.raises(SqlError):
            await put(queue, 2)
        await queue.close()
        queue = await opened()
    assert (kind == "broken") == bool(doubts)
    await put(queue, 3)
    assert {int.from_bytes(job.envelope.id, "big") for job in queue.waiting()} - {2} == {1, 3}
    await queue.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_directory(tmp_path: Path, disk: SickVfs, kind: str) -> None:
    doubts: list[SqlError] = []
    database = await open_database(SqliteEngine(vfs=NAME), tmp_path / "directory.sqlite", StillClock(), "test",
                                   doubts.append)
    number = await database.write(lambda tx: tx.change())
    disk.sick = KINDS[kind]
    with pytest.raises(SqlError):
        await database.write(lambda tx: tx.change())
    assert database.last_change() == number  # reading goes on
    disk.sick = None
    assert (kind == "broken") == bool(doubts)
    if not doubts:
        assert await database.write(lambda tx: tx.change()) == number + 1
    await database.close()


@pytest.mark.parametrize("kind", ["full", "read-only"])
async def test_the_directory_starts_without_room_and_owns_its_file_later(tmp_path: Path, disk: SickVfs,
                                                                         kind: str) -> None:
    async def open_it() -> Database:
        return await open_database(SqliteEngine(vfs=NAME), tmp_path / "directory.sqlite", StillClock(), "test",
                                   doubts.append)

    doubts: list[SqlError] = []
    database = await open_it()
    number = await database.write(lambda tx: tx.change())
    (before,) = database.one("SELECT owner_epoch FROM owner") or (0,)
    await database.close()
    disk.sick = KINDS[kind]
    database = await open_it()
    assert not database.owned
    for _ in range(2):
        with pytest.raises(SqlError):
            await database.write(lambda tx: tx.change())
    assert database.last_change() == number
    disk.sick = None
    assert await database.write(lambda tx: tx.change()) == number + 1
    assert database.owned
    assert database.one("SELECT owner_epoch FROM owner") == (before + 1,)
    assert not doubts
    await database.close()
    database = await open_it()
    assert database.owned
    await database.close()


def test_the_disk_is_as_sick_as_it_is_told(tmp_path: Path, disk: SickVfs) -> None:
    connection = apsw.Connection(str(tmp_path / "a"), vfs=NAME)
    connection.execute("CREATE TABLE t (x)")
    for kind in KINDS.values():
        disk.sick = kind
        with pytest.raises(apsw.FullError if kind == FULL else apsw.IOError):
            connection.execute("INSERT INTO t VALUES (1)")
        assert kind == FULL or connection.system_errno == kind
    disk.sick = None
    connection.execute("INSERT INTO t VALUES (2)")
    assert connection.execute("SELECT x FROM t").fetchall() == [(2,)]
    connection.close()
