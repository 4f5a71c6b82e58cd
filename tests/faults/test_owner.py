"""A database has one owner: a second process is kept out, and a second owner puts the first one out."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import apsw
import pytest

from atoll.mailbox import Delivered, Store, StoreError, Want
from atoll.sql import sqlite
from atoll.sql.errors import Locked
from atoll.sql.sqlite import SqliteEngine
from tests.mailbox.kit import ALICE, ALICES, Directory, StillClock, delivery, mounted


async def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    async with mounted(tmp_path):
        with pytest.raises(Locked, match="another process"):
            SqliteEngine().open(tmp_path / "db1.sqlite")


async def test_a_second_owner_fences_the_first(tmp_path: Path) -> None:
    """As on a disk that two machines reach: no lock, the epoch alone keeps them apart."""
    directory = Directory()
    stores = [Store(SqliteEngine(lock=False), directory.mailbox, directory, clock=StillClock()) for _ in range(2)]
    acknowledged = 0
    for store in stores:
        await store.mount("db1", tmp_path / "db1.sqlite")
        (done,) = await store.deliver([delivery()])
        acknowledged += isinstance(done, Delivered)
    assert acknowledged == 2
    found = await asyncio.gather(*(stores[0].deliver([delivery(key=b"%d" % number)]) for number in range(10)))
    assert all(isinstance(one, StoreError) for (one,) in found)
    assert stores[0].mounted() == []
    (done,) = await stores[1].deliver([delivery()])
    assert isinstance(done, Delivered)
    alice = await stores[1].open(ALICES, ALICE)
    assert len(alice.rows(alice.folder("INBOX"), 1, 1 << 31, Want.HOT, 100)) == 3
    for store in stores:
        await store.close()


async def test_somebody_holds_the_write_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's sqlite3 in a transaction: refused when it lasts, done when it ends in time."""
    monkeypatch.setattr(sqlite, "LOOP_BUSY_MS", 300)
    async with mounted(tmp_path) as store:
        await store.open(ALICES, ALICE)
        other = apsw.Connection(str(tmp_path / "db1.sqlite"), vfs=sqlite.CHECKED_VFS)
        other.execute("BEGIN IMMEDIATE")
        (refused,) = await store.deliver([delivery(key=b"1")])
        assert isinstance(refused, StoreError)
        timer = threading.Timer(0.1, lambda: other.execute("ROLLBACK"))
        timer.start()
        (done,) = await store.deliver([delivery(key=b"1")])
        timer.join()
        assert isinstance(done, Delivered), done.detail
        assert not done.duplicate
        other.close()
