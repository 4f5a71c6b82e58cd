"""A thousand flipped bits in a copy of a database: all found, no wrong mail served, what can be read brought back.

The copy is of 3,000 messages of 30 KB, about one page in thirteen has a flipped bit. A page whose checksum is wrong is
never read from, so each message is either what was sent, to the byte, or an error; every broken page is found; two of
three are mended from their checksums; the rebuilt database has every message whose content stands on whole pages, its
listings and counters made anew; the check names the messages whose content is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

from atoll.admin import ops
from atoll.content.scanner import Scanner
from atoll.mailbox import Delivery, Store, StoreError, UidSet, Want
from atoll.mailbox.integrity import check
from atoll.roles.operate import Operator
from atoll.sql import SqlError
from atoll.sql.sqlite import CHECKED_VFS, SqliteEngine, broken_pages, mend
from tests.mailbox.kit import ALICE, ALICES, Directory, StillClock, content, mounted

COUNT = 3000
FLIPS = 1000
PAGE = 4096


def body(number: int) -> str:
    text = random.Random(number).randbytes(15_000).hex()
    return "\r\n".join(text[at:at + 72] for at in range(0, len(text), 72))


@pytest.fixture(scope="module")
def sent() -> dict[int, bytes]:
    """uid -> what was sent."""
    return {}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, sent: dict[int, bytes]) -> tuple[Path, Directory]:
    folder = tmp_path_factory.mktemp("original")
    directory = Directory()
    asyncio.run(fill(folder, directory, sent))
    return folder / "db1.sqlite", directory


async def fill(folder: Path, directory: Directory, sent: dict[int, bytes]) -> None:
    async with mounted(folder, directory) as store:
        await store.open(ALICES, ALICE)
        for start in range(0, COUNT, 200):
            contents = [content(f"Letter {number}", body(number)) for number in range(start, start + 200)]
            done = await store.deliver([Delivery(ALICES, "INBOX", one, 1, b"") for one in contents])
            for one, delivered in zip(contents, done, strict=True):
                assert not isinstance(delivered, StoreError)
                assert isinstance(one.data, bytes)
                sent[delivered.uid] = one.data


def flip(path: Path, seed: int) -> set[int]:
    """Flip bits anywhere but in the first page; the pages that have one now."""
    chance = random.Random(seed)
    data = bytearray(path.read_bytes())
    pages: set[int] = set()
    spots: set[int] = set()
    while len(spots) < FLIPS:
        spots.add(chance.randrange(PAGE * 8, len(data) * 8))
    for spot in spots:
        data[spot // 8] ^= 1 << spot % 8
        pages.add(spot // 8 // PAGE + 1)
    path.write_bytes(data)
    return pages


async def served(store: Store, sent: dict[int, bytes]) -> set[int]:
    """Uids that are answered; each with what was sent and nothing else."""
    found = set()
    try:
        access = await store.open(ALICES, ALICE)
        inbox = access.folder("INBOX")
    except (StoreError, SqlError):
        return found
    for uid, data in sent.items():
        try:
            rows = access.rows(inbox, uid, uid, Want.HOT)
            if rows and (got := access.row_blob(rows[0])) is not None:
                assert got == data, f"uid {uid} is served with other octets"
                found.add(uid)
        except (StoreError, SqlError):
            continue
    return found


def stands_on(path: Path, table: str) -> list[set[int]]:
    """For each row of a table with a rowid, in its order: its pages, by SQLite's own account of a sound file."""
    connection = apsw.Connection(str(path), vfs=CHECKED_VFS)
    rows: list[set[int]] = []
    places: dict[str, int] = {}
    for where, page, kind, cells in connection.execute(
            "SELECT path, pageno, pagetype, ncell FROM dbstat WHERE name = ? ORDER BY path", (table,)).fetchall():
        if kind == "leaf":
            places[where] = len(rows)
            rows += [{page} for _ in range(cells)]
    for where, page, kind in connection.execute(
            "SELECT path, pageno, pagetype FROM dbstat WHERE name = ?", (table,)).fetchall():
        if kind == "overflow":
            leaf, _, cell = where.partition("+")[0].rpartition("/")
            rows[places[leaf + "/"] + int(cell, 16)].add(page)
    connection.close()
    return rows


def cells_of(path: Path, table: str, pages: set[int]) -> int:
    """Rows that stand on these pages."""
    connection = apsw.Connection(str(path), vfs=CHECKED_VFS)
    found = connection.execute("SELECT pageno, ncell FROM dbstat WHERE name = ?", (table,)).fetchall()
    connection.close()
    return sum(cells for page, cells in found if page in pages)


def pages_of(path: Path, table: str, kind: str) -> list[int]:
    connection = apsw.Connection(str(path), vfs=CHECKED_VFS)
    found = connection.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ?", (table, kind)).fetchall()
    connection.close()
    return [page for (page,) in found]


def schema_pages(path: Path) -> set[int]:
    return {page for kind in ("internal", "leaf") for page in pages_of(path, "sqlite_schema", kind)}


async def repaired(store: Store) -> ops.CheckReport:
    """As `atoll database check --repair` asks for it, on a database that is served or that could not be."""
    operator = Operator(store, SqliteEngine(), cast("Any", None), "mailbox-1", Path(), {}, Scanner())
    return await operator.check(cast("Any", None), ops.DatabaseCheck("db1", True))


async def rebuilt(folder: Path, directory: Directory, sent: dict[int, bytes]) -> set[int]:
    """What is served after a repair; whatever is not is named, and what can be made again has been."""
    store = Store(SqliteEngine(), directory.mailbox, directory, clock=StillClock())
    with contextlib.suppress(SqlError):
        await store.mount("db1", folder / "db1.sqlite")
    try:
        report = await repaired(store)
        after = await served(store, sent)
        named = " ".join(problem.where for problem in report.problems if problem.kind in ("content", "number"))
        access = await store.open(ALICES, ALICE)
        inbox = access.folder("INBOX")
        for row in access.rows_of(inbox, UidSet.of(set(sent) - after), Want.HOT):
            assert f"content {row.blob} " in named or "content is missing" in " ".join(
                problem.text for problem in report.problems)
        left = await check(store.database("db1"))
        assert {problem.kind for problem in left.problems} <= {"content", "number"}
        listed = 0
        for row in access.rows(inbox, 1, 1 << 31, Want.META, limit=COUNT):
            listed += b"Letter" in row.envelope
        assert listed >= len(after)
    finally:
        await store.close()
    return after


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_thousand_flipped_bits(original: tuple[Path, Directory], sent: dict[int, bytes], tmp_path: Path,
                                       seed: int) -> None:
    path, directory = original
    copy = tmp_path / "db1.sqlite"
    shutil.copy(path, copy)
    pages = flip(copy, seed)
    assert set(broken_pages(copy)) == pages
    before: set[int] = set()
    with contextlib.suppress(SqlError):  # a page that every mailbox needs may be among them
        async with mounted(tmp_path, directory) as store:
            before = await served(store, sent)
    mended = tmp_path / "mended.sqlite"
    shutil.copy(copy, mended)
    left = set(mend(mended)[1])
    assert len(left) < len(pages) // 2
    after = await rebuilt(tmp_path, directory, sent)
    assert before <= after
    whole = {uid for uid, stands in zip(sorted(sent), stands_on(path, "blob"), strict=True) if not stands & left}
    assert len(whole) > COUNT * 0.8
    assert len(whole - after) <= cells_of(path, "item", left)
    if not left & schema_pages(path):  # else nobody knows where the indexes are that messages are made again from
        assert len(after & whole) >= len(whole) * 0.97


@pytest.mark.parametrize(("table", "kind"), [("blob", "internal"), ("item", "internal"), ("item", "leaf"),
                                             ("item_meta", "internal"), ("item_meta", "leaf"),
                                             ("folder", "leaf"), ("mailbox", "leaf"), ("counter", "leaf"),
                                             ("sqlite_schema", "internal"), ("sqlite_schema", "leaf")])
async def test_what_the_way_to_the_messages_is_lost_for(original: tuple[Path, Directory], sent: dict[int, bytes],
                                                        tmp_path: Path, table: str, kind: str) -> None:
    """Every page of a kind is beyond mending: whatever stands on others is found without it."""
    path, directory = original
    copy = tmp_path / "db1.sqlite"
    shutil.copy(path, copy)
    data = bytearray(copy.read_bytes())
    pages = pages_of(path, table, kind)
    assert pages
    for page in pages:
        for at in (1001, 2002, 3003):
            data[(page - 1) * PAGE + at] ^= 0x11
    copy.write_bytes(data)
    assert set(pages) <= set(broken_pages(copy))
    assert await rebuilt(tmp_path, directory, sent) == set(sent)


async def test_a_sound_copy_has_no_broken_page(original: tuple[Path, Directory]) -> None:
    assert broken_pages(original[0]) == []
