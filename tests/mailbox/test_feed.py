"""The feed of the search index: contents that wait in memory, rounds over many mailboxes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll.base.ids import MailboxId
from atoll.mailbox import Store, blobs
from atoll.mailbox.blobs import RecentDigests
from atoll.mailbox.query import Text
from atoll.mailbox.search import feed
from atoll.mailbox.search.index import Document, SearchIndex, docid
from atoll.sql import Full
from atoll.sql.sqlite import SqliteEngine

from .kit import ALICE, ALICES, BOB, BOBS, Directory, StillClock, delivery


def test_contents_wait_for_the_index_within_their_room() -> None:
    recent = RecentDigests(octets=10)
    for blob in (1, 2, 3):
        recent.keep(blob, b"12345")
    assert recent.take(1) is None  # the newer ones needed its room
    assert recent.take(3) == b"12345"
    assert recent.take(3) is None
    recent.keep(4, b"12345")
    assert recent.take(2) == b"12345"  # room that was given back is used again
    recent.clear()
    assert recent.take(4) is None


async def test_what_waits_in_memory_is_not_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.deliver([delivery(ALICES, body=f"pear {number}") for number in range(5)])
    read: list[int] = []
    real = blobs.read
    monkeypatch.setattr(blobs, "read", lambda connection, blob: read.append(blob) or real(connection, blob))
    alice = await store.open(ALICES, ALICE)
    assert await alice.search(alice.folder("INBOX"), Text("pear")) == [1, 2, 3, 4, 5]
    assert read == []


@pytest.mark.parametrize(("batch", "expected"), [(512, 1), (3, 4)])
async def test_a_round_takes_all_mailboxes_that_are_behind(
        store: Store, monkeypatch: pytest.MonkeyPatch, batch: int, expected: int) -> None:
    monkeypatch.setattr(feed, "BATCH", batch)
    await store.deliver([delivery(mailbox, body=f"pear {number}") for number in range(5) for mailbox in (ALICES, BOBS)])
    index = store.feed(store.database("db1"))
    behind: dict[MailboxId, None] = {ALICES: None, BOBS: None}
    rounds = 0
    while behind:
        behind = await index._round(behind)
        rounds += 1
    assert index.indexed == 10
    assert rounds == expected
    for mailbox, who in ((ALICES, ALICE), (BOBS, BOB)):
        access = await store.open(mailbox, who)
        assert await access.search(access.folder("INBOX"), Text("pear")) == [1, 2, 3, 4, 5]
    assert index.indexed == 10  # they were there already


def test_a_batch_is_one_segment_whatever_its_order(tmp_path: Path) -> None:
    index = SearchIndex(SqliteEngine(), tmp_path / "x.search.sqlite")
    order = [(3, 7), (1, 5), (2, 6), (1, 9)]
    index.add([Document(docid(mid, blob), "s", None, None, None, None, "Subject: Köln", f"plum{mid} k\u00f6ln")
               for mid, blob in order], [(mid, b"%016d" % mid, 9) for mid in (1, 2, 3)])
    assert index.matching(1, '"koln"') == {5, 9}
    assert index.matching(3, '"plum3"') == {7}
    assert index.matching(2, 'header : "plum2"') == set()
    writer = index._database.writer
    assert writer.one("SELECT count(DISTINCT segid) FROM words_idx") == (1,)
    index.close()


async def test_an_index_that_cannot_be_made_anew_is_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "GATHER", 0.01)
    monkeypatch.setattr(feed, "AGAIN", 0.02, raising=False)
    failed: list[str] = []
    add, rebuild = SearchIndex.add, SearchIndex.rebuild

    def fail_once(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object) -> None:
            if name not in failed:
                failed.append(name)
                raise Full("no space left")
            real(*args)
        return call

    monkeypatch.setattr(SearchIndex, "add", fail_once("add", add))
    monkeypatch.setattr(SearchIndex, "rebuild", fail_once("rebuild", rebuild))
    await store.deliver([delivery(ALICES, body="quince")])
    async with asyncio.timeout(5):
        while store.figures()["db1"]["indexed"] < 1:
            await asyncio.sleep(0.02)
    assert failed == ["add", "rebuild"]


async def test_a_database_whose_index_cannot_be_opened_is_not_mounted_by_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> SearchIndex:
        raise Full("no space left")

    monkeypatch.setattr("atoll.mailbox.store.SearchIndex", refuse)
    house = Store(SqliteEngine(), Directory().mailbox, Directory(), search_engine=SqliteEngine(), clock=StillClock())
    with pytest.raises(Full):
        await house.mount("db1", tmp_path / "db1.sqlite")
    assert house.mounted() == []
    monkeypatch.undo()
    await house.mount("db1", tmp_path / "db1.sqlite")  # its lock was given back
    assert set(house.figures()) == {"db1"}
    await house.close()
