"""A removed mailbox in its process: closed at once, kept, restored, purged without a trace; others are not harmed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from atoll.base.ids import MailboxId
from atoll.directory.client.model import Changed, Fate
from atoll.mailbox import Flag, NewMessage, Notice, Store, StoreCode, StoreError, UidSet
from atoll.mailbox.check import faults
from atoll.mailbox.model import MailboxState
from atoll.mailbox.removal import RemovalWatch
from atoll.mailbox.upkeep import GRACE_MS
from atoll.runtime.rpc import RpcError

from .kit import ALICE, ALICES, BOB, BOBS, CAROL, T0, Directory, StillClock, content, delivery, mounted

DAY = 86_400_000
TABLES = ("item", "item_meta", "tomb", "conversation", "thread_key", "delivery_key", "uidl", "keyword", "seen",
          "folder_user", "folder", "mailbox_epoch", "log_day", "mailbox", "subscription")


class Fates(Directory):
    """A directory that removes, restores and purges."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: dict[bytes, Fate] = {}
        self.kept = dict(self.infos)
        self.away = False
        self.changed: list[Callable[[Changed], None]] = []

    async def fates(self, database: str) -> list[Fate]:
        if self.away:
            raise RpcError("temporary", "away")
        return list(self.gone.values())

    async def purge(self, database: str, mailbox: bytes) -> None:
        if mailbox not in self.gone:
            raise RpcError("not_found", "restored")
        self.gone[mailbox] = Fate(mailbox, True, self.gone[mailbox].removed)

    def on_changed(self, callback: Callable[[Changed], None]) -> None:
        self.changed.append(callback)

    def on_connected(self, callback: Callable[[], None]) -> None: ...

    def remove(self, mailbox: MailboxId, at: int = T0, *, purged: bool = False) -> None:
        self.infos.pop(mailbox, None)
        self.gone[mailbox] = Fate(mailbox, purged, at)
        self._tell(mailbox)

    def restore(self, mailbox: MailboxId) -> None:
        self.infos[mailbox] = self.kept[mailbox]
        del self.gone[mailbox]
        self._tell(mailbox)

    def _tell(self, mailbox: MailboxId) -> None:
        for callback in self.changed:
            callback(Changed(1, "mailbox", mailbox))


class House:
    def __init__(self, store: Store, directory: Fates, clock: StillClock) -> None:
        self.store, self.directory, self.clock = store, directory, clock
        self.watch = RemovalWatch(store, directory, 30, every=0.05)

    async def settle(self) -> None:
        await asyncio.sleep(0.15)

    async def purged(self) -> None:
        """One mailbox is left."""
        for _ in range(500):
            if self.rows("mailbox") == 1:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("not purged")

    def rows(self, table: str) -> int:
        found = self.store.database("db1").reader.one(f"SELECT count(*) FROM {table}")
        return int(found[0]) if found else -1


@pytest.fixture
async def house(tmp_path: Path, clock: StillClock) -> AsyncIterator[House]:
    directory = Fates()
    async with mounted(tmp_path, directory, clock) as store:
        house = House(store, directory, clock)
        await fill(store)
        yield house
        await house.watch.close()


async def fill(store: Store) -> None:
    """Something in every table, of alice; a message that bob has too."""
    shared = content("both")
    alice = await store.open(ALICES, ALICE)
    inbox = alice.folder("INBOX")
    for name, references in (("<1@x>", ""), ("<2@x>", "<1@x>"), ("<3@x>", "<2@x>")):
        await store.deliver([delivery(key=name.encode(), message_id=name, references=references)])
    await alice.append(inbox, [NewMessage(shared, T0, Flag.SEEN, frozenset({"$Work"}), uidl="old")])
    await alice.set_acl("INBOX", CAROL, "carol@example.test", alice.my_rights("INBOX"))
    await alice.flags(inbox, UidSet.of([1]), "+", Flag.DELETED, frozenset(), None)
    await alice.expunge(inbox, None)
    await store.deliver([delivery(BOBS, key=b"k")])
    bob = await store.open(BOBS, BOB)
    await bob.append(bob.folder("INBOX"), [NewMessage(shared, T0)])


async def test_closed_at_once_kept_and_restored(house: House) -> None:
    alice = await house.store.open(ALICES, ALICE)
    heard: list[Notice] = []
    alice.subscribe_changes(heard.append)
    house.directory.remove(ALICES)
    await house.settle()
    assert heard[-1].gone
    (refused,) = await house.store.deliver([delivery()])
    assert isinstance(refused, StoreError)
    assert refused.code is StoreCode.NO_FOLDER
    with pytest.raises(StoreError):
        await house.store.open(ALICES, ALICE)
    with pytest.raises(StoreError):  # who had it open writes nothing more either
        await alice.flags(alice.folder("INBOX"), UidSet.of([2]), "+", Flag.SEEN, frozenset(), None)
    house.directory.restore(ALICES)
    await house.settle()
    alice = await house.store.open(ALICES, ALICE)
    assert alice.folder("INBOX").total == 3
    assert len(alice.recoverable()) == 1
    assert not isinstance((await house.store.deliver([delivery()]))[0], StoreError)


async def test_purged_after_its_days_and_others_are_whole(house: House) -> None:
    house.directory.remove(ALICES, T0)
    await house.settle()
    house.clock.ms = T0 + 30 * DAY - 1
    await house.settle()
    assert house.rows("mailbox") == 2
    house.clock.ms = T0 + 30 * DAY
    await house.purged()
    database = house.store.database("db1")
    (mid,) = database.reader.one("SELECT mid FROM mailbox") or (0,)
    for table in TABLES:
        where = f"mid <> {mid}"
        if table in ("seen", "folder_user"):
            where = "fid NOT IN (SELECT fid FROM folder)"
        elif table == "item_meta":
            where = "NOT EXISTS (SELECT 1 FROM item i WHERE i.fid * 4294967296 + i.uid = item_meta.place)"
        assert database.reader.one(f"SELECT count(*) FROM {table} WHERE {where}") == (0,), table
    assert house.rows("item_meta") == house.rows("item") == 2
    assert faults(database.reader) == []
    house.clock.ms += GRACE_MS + 1
    await house.store._upkeep["db1"].round()
    bob = await house.store.open(BOBS, BOB)
    bodies = [bob.row_blob(row) for row in bob.rows(bob.folder("INBOX"), 1, 99, 0)]  # type: ignore[arg-type]
    assert sum(b"both" in body for body in bodies) == 1  # the content that both had
    assert house.rows("blob") == 2


async def test_a_purge_that_was_cut_off_goes_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cut(Exception):
        pass

    async def cut(*_: object) -> None:
        raise StoreError(StoreCode.UNAVAILABLE, "cut")

    real = __import__("atoll.mailbox.removal", fromlist=["purge"]).purge
    monkeypatch.setattr("atoll.mailbox.watch.AGAIN", 0.01)
    monkeypatch.setattr("atoll.mailbox.removal.purge", cut)
    house.directory.remove(ALICES, purged=True)
    await house.settle()
    assert house.rows("mailbox") == 2
    monkeypatch.setattr("atoll.mailbox.removal.purge", real)
    await house.purged()


async def test_what_the_directory_does_not_say_is_not_purged(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is away, or that was restored from before the mailbox was made, or does not know since when."""
    monkeypatch.setattr("atoll.mailbox.watch.AGAIN", 0.01)
    house.directory.away = True
    del house.directory.infos[ALICES]
    house.clock.ms += 400 * DAY
    await house.settle()
    house.directory.away = False
    await house.settle()
    assert house.rows("mailbox") == 2
    house.directory.remove(ALICES, 0)
    await house.settle()
    assert house.rows("mailbox") == 2
    house.directory.remove(ALICES, purged=True)  # it follows, now as before
    await house.purged()


async def test_one_database_that_fails_is_no_matter_of_the_others(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.store.mount("db0", tmp_path / "db0.sqlite")
    real = house.directory.fates

    async def fates(database: str) -> list[Fate]:
        if database == "db0":
            raise RpcError("temporary", "away for this one")
        return await real(database)

    monkeypatch.setattr(house.directory, "fates", fates)
    house.directory.remove(ALICES)
    await house.settle()
    alice = house.store.database("db1").reader.one("SELECT state FROM mailbox WHERE guid = ?", (ALICES,))
    assert alice == (int(MailboxState.SOFT_DELETED),)
