"""Ready listings say what the rows say, whatever happens to folders, to the file, or to the database beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll.mailbox import Access, Flag, Folder, Row, Store, UidSet, Want, listing, reading
from atoll.mailbox.backup import backup
from atoll.mailbox.listing import KEPT_DAYS, Listings
from atoll.mailbox.store import listing_path
from atoll.sql.sqlite import SqliteEngine
from tests.postgres import files_only

from .kit import ALICE, ALICES, Directory, StillClock, mounted, new


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of eight uids."""
    monkeypatch.setattr(reading, "BLOCK_BITS", 3)
    monkeypatch.setattr(reading, "BLOCK", 8)
    monkeypatch.setattr(reading, "FEWEST", 2)


def listed(alice: Access, folder: Folder, lo: int = 1, hi: int = 1 << 31) -> list[Row]:
    found: list[Row] = []
    while rows := alice.listed(folder, lo, hi):
        found += rows
        lo = rows[-1][0] + 1
    return found


def right(alice: Access, folder: Folder, lo: int = 1, hi: int = 1 << 31) -> None:
    wanted = [(row.uid, row.envelope, row.structure) for row in alice.rows(folder, lo, hi, Want.META, 1 << 30)]
    assert [tuple(row) for row in listed(alice, folder, lo, hi)] == wanted


def got(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each question to the file: did it know?"""
    answers: list[bool] = []
    listings = store.database("db1").listings
    real = listings.get

    def get(*args: object) -> object:
        found = real(*args)  # type: ignore[arg-type]
        answers.append(found is not None)
        return found
    monkeypatch.setattr(listings, "get", get)
    return answers


async def test_the_second_listing_comes_from_blocks(store: Store, alice: Access,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [new(f"s{i}", "x" * 50 * i) for i in range(30)])
    answers = got(store, monkeypatch)
    right(alice, inbox)
    assert answers == [False] * 3  # 1-7, 8-15, 16-23; what may still get arrivals is read from rows
    await store.database("db1").listings.settled()
    answers.clear()
    right(alice, inbox)
    right(alice, inbox, 2, 20)
    assert answers == [True] * 3 + [True, True]


_STEP = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 12)), st.tuples(st.just("list"), st.integers(1, 60)),
    st.tuples(st.just("expunge"), st.integers(1, 60)), st.tuples(st.just("move"), st.integers(1, 60)),
    st.tuples(st.just("copy"), st.integers(1, 60)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEP, min_size=4, max_size=25))
async def test_whatever_happens_to_the_folder(store: Store, steps: list[tuple[str, int]]) -> None:
    alice = await store.open(ALICES, ALICE)
    names = (f"A{len(alice.folders())}", f"B{len(alice.folders())}")
    one, other = [await alice.create(name) for name in names]
    for what, number in steps:
        few = UidSet.of_ranges([(number, number + 3)])
        if what == "append":
            await alice.append(one, [new(f"{names[0]} {i}") for i in range(number)])
        elif what == "list":
            right(alice, one, number // 2, number)
        elif what == "expunge":
            await alice.flags(one, few, "+", Flag.DELETED)
            await alice.expunge(one, None)
        else:
            await (alice.move if what == "move" else alice.copy)(one, few, other)
            one, other = other, one
        right(alice, one)
        right(alice, other)
        await store.database("db1").listings.settled()
        right(alice, one)


@pytest.mark.parametrize("how", ["garbage", "flipped", "version", "empty"])
async def test_a_file_that_is_no_good_is_made_again(tmp_path: Path, how: str) -> None:
    directory, path = Directory(), listing_path(tmp_path / "db1.sqlite")
    async with mounted(tmp_path, directory) as store:
        alice = await store.open(ALICES, ALICE)
        await alice.append(alice.folder("INBOX"), [new(f"s{i}", "x" * 50 * i) for i in range(90)])
        right(alice, alice.folder("INBOX"))
    data = bytearray(path.read_bytes())
    if how == "flipped":
        for at in range(len(data) // 2, len(data), 512):
            data[at] ^= 4
    elif how == "version":
        connection = SqliteEngine().connect(path)
        connection.run("UPDATE about SET version = 99")
        connection.close()
        data = bytearray(path.read_bytes())
    path.write_bytes({"garbage": b"?" * 9000, "empty": b""}.get(how, bytes(data)))
    async with mounted(tmp_path, directory) as store:
        alice = await store.open(ALICES, ALICE)
        listings = store.database("db1").listings
        present = [(8, 8)]
        view = store.database("db1").view(ALICES)
        for _ in range(100):
            right(alice, alice.folder("INBOX"))
            await listings.settled()
            await asyncio.sleep(0.01)
            if listings.get(ALICES, view.folders[alice.folder("INBOX").fid].uidv, 1, present) is not None:
                break
        else:
            pytest.fail("the listing was not made again")
        right(alice, alice.folder("INBOX"))


@files_only
async def test_a_restored_database_beside_a_younger_listing(tmp_path: Path) -> None:
    directory, path, kept = Directory(), tmp_path / "db1.sqlite", tmp_path / "kept.sqlite"
    async with mounted(tmp_path, directory) as store:
        alice = await store.open(ALICES, ALICE)
        await alice.append(alice.folder("INBOX"), [new(f"old {i}") for i in range(20)])
        await backup(store.database("db1"), SqliteEngine(), kept)
        await alice.append(alice.folder("INBOX"), [new(f"lost {i}") for i in range(40)])
        lost = await alice.create("Lost")
        await alice.append(lost, [new(f"lost {i}") for i in range(40)])
        right(alice, alice.folder("INBOX"))
        right(alice, lost)
    kept.replace(path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    async with mounted(tmp_path, directory) as store:
        alice = await store.open(ALICES, ALICE)
        for round_ in range(2):
            await alice.append(alice.folder("INBOX"), [new(f"new {round_} {i}") for i in range(40)])
            folder = await alice.create(f"Lost{round_}")
            await alice.append(folder, [new(f"newer {round_} {i}") for i in range(40)])
            for one in (alice.folder("INBOX"), folder):
                right(alice, one)
                await store.database("db1").listings.settled()
                right(alice, one)


async def test_blocks_are_forgotten(store: Store, alice: Access, clock: StillClock) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [new(f"s{i}") for i in range(20)])
    right(alice, inbox)
    listings = store.database("db1").listings
    uidv, present = store.database("db1").view(ALICES).folders[inbox.fid].uidv, [(8, 8)]
    for days, there in ((0, True), (KEPT_DAYS, True), (1, False)):
        clock.ms += days * listing.DAY_MS
        listings.forget_older(clock.ms)
        await listings.settled()
        assert (listings.get(ALICES, uidv, 1, present) is not None) == there
    right(alice, inbox)
    await listings.settled()
    assert listings.get(ALICES, uidv, 1, present) is not None
    assert listings.get(ALICES, uidv + 1, 1, present) is None
    assert listings.get(ALICES, uidv, 1, [(9, 7)]) is None


async def test_what_comes_too_fast_is_written_another_time(tmp_path: Path) -> None:
    listings = Listings(SqliteEngine(), tmp_path / "a.listing.sqlite")
    rows = [(uid, b"(e)", b"(s)") for uid in range(1, 257)]
    for block in range(3 * listing.WAITING):
        listings.put(ALICES, 1, block, rows, 0)
    assert len(listings._waiting) <= listing.WAITING
    await listings.settled()
    found = listings.get(ALICES, 1, 0, [(1, 256)])
    assert found is not None
    assert list(found) == rows
    listings.close()


async def test_after_a_write_that_fails_more_are_written(tmp_path: Path) -> None:
    path = tmp_path / "a.listing.sqlite"
    listings = Listings(SqliteEngine(), path)
    rows = [(uid, b"(e)", b"(s)") for uid in range(1, 257)]
    listings.put(ALICES, 1, 0, rows, 0)
    await listings.settled()
    connection = SqliteEngine().connect(path)
    connection.run("DROP TABLE block")
    connection.close()
    for block in range(3):
        listings.put(ALICES, 1, block, rows, 0)
    await listings.settled()
    await asyncio.sleep(0.01)
    listings.put(ALICES, 1, 5, rows, 0)
    await listings.settled()
    assert listings.get(ALICES, 1, 5, [(1, 256)]) is not None
    listings.close()
