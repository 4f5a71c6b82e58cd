"""The three steps: who is warned, what the directory is told, and that those within their limits cost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll.base.ids import MailboxId
from atoll.directory.client.model import FULL, NO_SENDING, WARNED, WITHIN, Changed, Quota, QuotaStep
from atoll.mailbox import Access, Flag, Store, StoreCode, StoreError, UidSet, Want
from atoll.mailbox.quota import QuotaWatch
from atoll.mailbox.quota_message import quota_message
from atoll.runtime.rpc import RpcError
from atoll.sql import Broken

from .kit import ALICE, ALICES, BOBS, Directory, StillClock, delivery, mounted

DAY = 86_400_000


class Told(Directory):
    """What the directory hears; it can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, dict[bytes, int], bool]] = []
        self.asked = 0
        self.away = False
        self.changed: list[Callable[[Changed], None]] = []
        self.connected: list[Callable[[], None]] = []

    async def quotas(self, database: str) -> list[tuple[bytes, Quota]]:
        self._ask()
        return [(info.mailbox, info.quota) for info in self.infos.values() if info.quota != Quota()]

    async def quota_steps(self, database: str, steps: list[QuotaStep], *, whole: bool = False) -> None:
        self._ask()
        self.told.append((database, {one.mailbox: one.step for one in steps}, whole))

    def _ask(self) -> None:
        self.asked += 1
        if self.away:
            raise RpcError("temporary", "away")

    def on_changed(self, callback: Callable[[Changed], None]) -> None:
        self.changed.append(callback)

    def on_connected(self, callback: Callable[[], None]) -> None:
        self.connected.append(callback)

    def limit(self, mailbox: MailboxId, *steps: int) -> None:
        self.change(mailbox, quota=Quota(*steps))
        for callback in self.changed:
            callback(Changed(1, "mailbox", mailbox))


class House:
    def __init__(self, store: Store, directory: Told, clock: StillClock) -> None:
        self.store, self.directory, self.clock = store, directory, clock
        self.watch = QuotaWatch(store, directory, every=0.05)

    async def take(self, size: int = 0, mailbox: MailboxId = ALICES) -> StoreCode | None:
        (done,) = await self.store.deliver([delivery(mailbox, size=size)])
        await self.settle()
        return done.code if isinstance(done, StoreError) else None

    async def settle(self) -> None:
        await asyncio.sleep(0.12)

    async def subjects(self) -> list[str]:
        alice = await self.store.open(ALICES, ALICE)
        rows = alice.rows(alice.folder("INBOX"), 1, 2**31, Want.HOT)
        bodies = [alice.row_blob(row) for row in rows]
        return [body.split(b"Subject: ")[1].split(b"\r\n")[0].decode() for body in bodies
                if b"\r\nFrom: Mail system" in body]


@pytest.fixture
async def house(tmp_path: Path, clock: StillClock) -> object:
    directory = Told()
    async with mounted(tmp_path, directory, clock) as store:
        await store.dismount("db1")
        house = House(store, directory, clock)
        await store.mount("db1", tmp_path / "db1.sqlite")
        await house.settle()
        yield house
        await house.watch.close()


async def test_each_step_is_told_once_and_the_owner_once_a_day(house: House) -> None:
    house.directory.limit(ALICES, 5_000, 10_000, 20_000)
    assert await house.take(1_000) is None
    assert not [told for told in house.directory.told if told[1]]
    for size in (5_000, 1_000):
        await house.take(size)
    assert [told[1] for told in house.directory.told if told[1]] == [{ALICES: WARNED}]
    assert await house.subjects() == ["Your mailbox is almost full"]
    await house.take(6_000)
    assert [told[1] for told in house.directory.told if told[1]] == [{ALICES: WARNED}, {ALICES: NO_SENDING}]
    assert await house.subjects() == ["Your mailbox is almost full"]  # one a day, whatever the step
    house.clock.ms += DAY - 1
    await house.settle()
    assert len(await house.subjects()) == 1
    house.clock.ms += 2
    await house.settle()
    await house.settle()
    assert await house.subjects() == ["Your mailbox is almost full", "Your mailbox is full: you can no longer send"]


async def test_a_full_mailbox_takes_nothing_but_its_own_warning(house: House) -> None:
    house.directory.limit(ALICES, 0, 0, 4_000)
    assert await house.take(3_000) is None
    assert await house.take(2_000) is StoreCode.OVER_QUOTA
    house.directory.limit(ALICES, 0, 0, 3_000)
    await house.settle()
    assert house.directory.told[-1][1] == {ALICES: FULL}
    assert await house.subjects() == ["Your mailbox is full: you can no longer send or receive"]
    assert await house.take(10) is StoreCode.OVER_QUOTA


async def test_deleting_lifts_the_step(house: House, clock: StillClock) -> None:
    house.directory.limit(ALICES, 0, 4_000, 0)
    await house.take(5_000)
    assert house.directory.told[-1][1] == {ALICES: NO_SENDING}
    alice: Access = await house.store.open(ALICES, ALICE)
    inbox = alice.folder("INBOX")
    await alice.flags(inbox, UidSet.of([1]), "+", Flag.DELETED, frozenset(), None)
    await alice.expunge(inbox, None)
    await house.settle()
    assert house.directory.told[-1][1] == {ALICES: WITHIN}


async def test_who_is_within_his_limits_costs_no_question(house: House) -> None:
    house.directory.limit(ALICES, 1 << 30, 1 << 30, 1 << 30)
    await house.take()
    asked = house.directory.asked
    for _ in range(5):
        await house.take()
        await house.take(mailbox=BOBS)
    assert house.directory.asked == asked


async def test_a_directory_that_was_away_is_told_everything(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.mailbox.watch.AGAIN", 0.02)
    house.directory.limit(ALICES, 0, 4_000, 0)
    await house.take(5_000)
    house.directory.away = True
    await house.take(5_000, BOBS)
    house.directory.told.clear()
    for callback in house.directory.connected:
        callback()
    await house.settle()
    house.directory.away = False
    await house.settle()
    assert ("db1", {ALICES: NO_SENDING}, True) in house.directory.told


async def test_after_a_restart_nobody_is_warned_twice(tmp_path: Path, clock: StillClock) -> None:
    directory = Told()
    directory.change(ALICES, quota=Quota(1_000, 0, 0))
    for _ in range(2):
        async with mounted(tmp_path, directory, clock) as store:
            await store.dismount("db1")
            house = House(store, directory, clock)
            await store.mount("db1", tmp_path / "db1.sqlite")
            await house.take(2_000)
            assert directory.told[-1][1] == {ALICES: WARNED}
            assert await house.subjects() == ["Your mailbox is almost full"]
            await house.watch.close()


def test_the_message_says_where_the_owner_is() -> None:
    text = quota_message("alice@example.test", NO_SENDING, 95 << 20, Quota(90 << 20, 94 << 20, 1 << 30), 0).decode()
    assert "holds 95.0 MB" in text
    assert "at 94.0 MB you can no longer send, which is where you are now" in text
    assert "at 1.0 GB you can no longer send or receive\r\n" in text
    assert "Auto-Submitted: auto-generated\r\n" in text
    assert text.isascii()


def test_steps_of_a_quota() -> None:
    quota = Quota(10, 20, 30)
    assert [quota.step(octets) for octets in (0, 9, 10, 20, 29, 30, 99)] == [0, 0, 1, 2, 2, 3, 3]
    assert Quota().step(1 << 60) == WITHIN
    assert Quota(0, 5, 0).step(9) == NO_SENDING




async def test_a_page_that_cannot_be_read_ends_no_watch(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.mailbox.watch.AGAIN", 0.02)
    real, failed = house.directory.quotas, []

    async def once(database: str) -> list[tuple[bytes, Quota]]:
        if not failed:
            failed.append(database)
            raise Broken("a page is damaged")
        return await real(database)

    monkeypatch.setattr(house.directory, "quotas", once)
    house.directory.told.clear()
    for callback in house.directory.connected:
        callback()
    await house.settle()
    assert failed
    assert [(told[0], told[2]) for told in house.directory.told] == [("db1", True)]
