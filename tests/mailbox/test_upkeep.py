"""Backup, restore, check, sweep, retention, mounting."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from atoll.base.failpoints import Failpoints
from atoll.formats.mime import scan
from atoll.mailbox import Access, Flag, Store, StoreError, UidSet, Want
from atoll.mailbox.backup import Archive, backup, bring_back, restore_database
from atoll.mailbox.blobs import CHUNK
from atoll.mailbox.integrity import check
from atoll.mailbox.model import Content, NewMessage
from atoll.mailbox.query import Text
from atoll.mailbox.upkeep import DAY_MS, GRACE_MS
from atoll.sql import SchemaError, group
from atoll.sql.sqlite import SqliteEngine
from tests.postgres import chosen_engine, files_only

from .kit import ALICE, ALICES, BOBS, T0, Directory, StillClock, content, delivery, mounted, new

ENGINE = SqliteEngine()


async def scanned(data: bytes) -> Content:
    return Content(data, scan(data))


async def count(store: Store, table: str) -> int:
    row = store.database("db1").reader.one(f"SELECT count(*) FROM {table}")
    assert row is not None
    return int(row[0])


@files_only
async def test_backup_while_mail_comes_in(store: Store, alice: Access, tmp_path: Path) -> None:
    await store.deliver([delivery(message_id=f"<{n}@x>", size=4000) for n in range(200)])
    stop = asyncio.Event()

    async def busy() -> int:
        sent = 0
        while not stop.is_set():
            await store.deliver([delivery(message_id=f"<b{sent}@x>")])
            sent += 1
        return sent

    task = asyncio.create_task(busy())
    seen: list[tuple[int, int]] = []
    size = await backup(store.database("db1"), ENGINE, tmp_path / "copy.sqlite",
                        lambda done, of: seen.append((done, of)))
    stop.set()
    assert await task > 0
    assert size > 200 * 1000
    assert seen[-1][0] == seen[-1][1]
    archive = Archive(ENGINE, tmp_path / "copy.sqlite")
    inbox = archive.mailbox(ALICES).at("INBOX")
    assert inbox is not None
    assert 200 <= inbox.total < alice.folder("INBOX").total
    assert sum(1 for _ in archive.messages(inbox.fid)) == inbox.total
    archive.close()
    assert not list(tmp_path.glob("copy.sqlite*partial*"))
    assert not list(tmp_path.glob("copy.sqlite-*"))


@files_only
async def test_restore_of_the_database_begins_an_epoch(store: Store, alice: Access, tmp_path: Path) -> None:
    await store.deliver([delivery(message_id=f"<{n}@x>") for n in range(3)])
    inbox = alice.folder("INBOX")
    before = alice.changes(inbox, 0)
    await backup(store.database("db1"), ENGINE, tmp_path / "copy.sqlite")
    (lost,) = await store.deliver([delivery(message_id="<lost@x>")])
    after = alice.changes(inbox, 0)
    kept = await restore_database(store, ENGINE, "db1", tmp_path / "copy.sqlite")
    assert kept.exists()
    with pytest.raises(StoreError):
        alice.folder("INBOX")  # that database is gone: open again
    alice = await store.open(ALICES, ALICE)
    fresh = alice.folder("INBOX")
    assert fresh.total == 3
    assert fresh.uidv == inbox.uidv
    assert not isinstance(lost, StoreError)
    assert fresh.uidnext > lost.uid + (1 << 19)
    assert alice.changes(fresh, before.cn).changed == []  # had not seen the lost future: goes on
    assert len(alice.changes(fresh, after.cn).changed) == 3  # had: everything again
    await store.deliver([delivery(message_id="<next@x>")])
    assert [row.uid for row in alice.changes(fresh, before.cn).changed] == [fresh.uidnext]


@files_only
async def test_two_restores_of_one_backup_give_no_uid_twice(store: Store, tmp_path: Path) -> None:
    await store.deliver([delivery()])
    await backup(store.database("db1"), ENGINE, tmp_path / "copy.sqlite")
    given = set()
    for n in range(3):
        (await restore_database(store, ENGINE, "db1", tmp_path / "copy.sqlite")).unlink()
        (done,) = await store.deliver([delivery(message_id=f"<{n}@x>")])
        assert not isinstance(done, StoreError)
        given.add((done.uid, done.id))
    assert len({uid for uid, _ in given}) == len({id_ for _, id_ in given}) == 3


@files_only
async def test_a_file_copied_back_by_hand_is_noticed(tmp_path: Path) -> None:
    directory = Directory()
    path = tmp_path / "db1.sqlite"
    async with mounted(tmp_path, directory) as store:
        await store.deliver([delivery()])
    old = path.read_bytes()
    async with mounted(tmp_path, directory) as store:
        (lost,) = await store.deliver([delivery()])
    path.write_bytes(old)
    async with mounted(tmp_path, directory) as store:
        (again,) = await store.deliver([delivery()])
        assert not isinstance(lost, StoreError)
        assert not isinstance(again, StoreError)
        assert again.uid > lost.uid
        assert again.id > lost.id


@files_only
@pytest.mark.parametrize(("folder", "by_item", "wanted"), [("", False, 3), ("Archive", False, 1), ("", True, 1)])
async def test_one_mailbox_folder_or_item_back(store: Store, alice: Access, tmp_path: Path, folder: str, by_item: bool,
                                               wanted: int) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [NewMessage(content("one"), T0, Flag.SEEN, frozenset({"mark"})), new("two")])
    await alice.append(alice.folder("Archive"), [new("three")])
    await backup(store.database("db1"), ENGINE, tmp_path / "copy.sqlite")
    item = alice.rows(inbox, 1, 1, Want.HOT)[0].id if by_item else 0
    archive = Archive(ENGINE, tmp_path / "copy.sqlite")
    assert await bring_back(alice, archive, scanned, "Back", folder=folder, item=item) == wanted
    archive.close()
    found = [one for one in alice.folders() if one.path.startswith("Back/")]
    assert sum(one.total for one in found) == wanted
    if by_item:
        (row,) = alice.rows(alice.folder("Back/INBOX"), 1, 9, Want.BODY)
        assert (row.flags, alice.keywords(row), row.body) == (Flag.SEEN, ("mark",), content("one").data)


async def test_sweep_waits_for_the_grace(store: Store, alice: Access, clock: StillClock) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [new("a", size=CHUNK + 5), new("b"), new("c")])
    await alice.copy(inbox, UidSet.of([3]), alice.folder("Archive"))
    await alice.flags(inbox, UidSet.all(), "+", Flag.DELETED)
    await alice.expunge(inbox, None)
    assert await alice.search(inbox, Text("morning")) == []
    await alice.purge_recoverable()
    upkeep = store._upkeep["db1"]
    await upkeep.round()
    assert await count(store, "blob") == 3
    clock.ms += GRACE_MS
    await upkeep.round()
    assert await count(store, "blob") == 1
    assert await count(store, "blob_chunk") == 0
    assert alice.rows(alice.folder("Archive"), 1, 1, Want.BODY)[0].body == content("c").data
    await store.deliver([delivery(subject="b")])  # its digest must not point to what was swept
    assert alice.rows(inbox, 4, 4, Want.BODY)[0].body == content("b").data


async def test_recoverable_items_end_after_their_days(store: Store, alice: Access, clock: StillClock) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [new("a"), new("b")])
    for uid in (1, 2):
        await alice.flags(inbox, UidSet.of([uid]), "+", Flag.DELETED)
        await alice.expunge(inbox, None)
        clock.ms += DAY_MS
    clock.ms += 12 * DAY_MS
    await store._upkeep["db1"].round()
    assert [one.subject for one in alice.recoverable()] == ["b"]


async def test_a_deleted_folder_is_drained_after_a_crash(tmp_path: Path) -> None:
    from atoll.mailbox.folders import mark_gone
    directory = Directory()
    async with mounted(tmp_path, directory) as store:
        alice = await store.open(ALICES, ALICE)
        folder = await alice.create("Old")
        await alice.append(folder, [new("kept")])
        await store.database("db1").submit(mark_gone(ALICES, folder.fid))
    async with mounted(tmp_path, directory) as store:
        await store._upkeep["db1"].round()
        alice = await store.open(ALICES, ALICE)
        assert [one.subject for one in alice.recoverable()] == ["kept"]


async def test_in_doubt_mounts_again_and_the_key_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with mounted(tmp_path) as store:
        await store.deliver([delivery(key=b"first")])
        monkeypatch.setattr(group, "FAILPOINTS", Failpoints("mailbox.commit.after=error@1"))
        (doubt,) = await store.deliver([delivery(key=b"k")])
        assert isinstance(doubt, StoreError)
        assert doubt.temporary
        assert store.mounted() == []
        for _ in range(100):
            await asyncio.sleep(0.02)
            if store.mounted():
                break
        (again,) = await store.deliver([delivery(key=b"k")])
        assert not isinstance(again, StoreError)
        assert (again.uid, again.duplicate) == (2, True)


async def test_open_sessions_hear_of_a_dismount(store: Store, alice: Access) -> None:
    heard = []
    alice.subscribe_changes(heard.append)
    await store.dismount("db1")
    assert len(heard) == 1
    with pytest.raises(StoreError):
        alice.folders()
    with pytest.raises(StoreError):
        await store.open(ALICES, ALICE)


async def test_check_finds_and_repairs(store: Store, alice: Access, tmp_path: Path) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [new(f"m{n}", size=2000, message_id=f"<{n}@x>", references="<0@x>")
                               for n in range(5)])
    assert (await check(store.database("db1"))).problems == []
    writer = store.database("db1").database.writer
    writer.script("UPDATE folder SET total = 77, unread = 3 WHERE name = 'INBOX';"
                  " DELETE FROM item_meta WHERE place % 4294967296 = 2; UPDATE conversation SET items = 9 WHERE conv ="
                  " (SELECT min(conv) FROM conversation)")
    writer.run("UPDATE blob SET data = ?, codec = 0 WHERE blob = 4", (bytes(50),))
    report = await check(store.database("db1"), repair=True)
    kinds = {one.kind for one in report.problems}
    assert kinds == {"counter", "conversation", "number", "content"}
    assert {one.kind for one in report.problems if not one.repaired} == {"content"}
    (lost,) = [one for one in report.problems if one.kind == "content"]
    assert "INBOX uid 4" in lost.where
    left = await check(store.database("db1"))
    assert {one.kind for one in left.problems} == {"content"}
    assert alice.folder("INBOX").total == 5
    rows = alice.rows(inbox, 1, 9, Want.META | Want.BODY)
    assert len(rows) == 5
    assert [row.uid for row in rows if row.body == content(
        f"m{row.uid - 1}", size=2000, message_id=f"<{row.uid - 1}@x>", references="<0@x>").data] == [1, 2, 3, 5]


async def test_a_mailbox_in_another_state_takes_no_writes(store: Store, alice: Access) -> None:
    from atoll.mailbox.model import MailboxState

    def lock(tx):  # type: ignore[no-untyped-def]
        mailbox = tx.mailbox(ALICES)
        mailbox.state = int(MailboxState.LOCKED)
        tx.touch(mailbox)

    await store.database("db1").submit(lock)
    with pytest.raises(StoreError) as info:
        await alice.append(alice.folder("INBOX"), [new()])
    assert info.value.temporary
    (refused, fine) = await store.deliver([delivery(), delivery(BOBS)])
    assert isinstance(refused, StoreError)
    assert not isinstance(fine, StoreError)


async def test_a_newer_schema_is_not_touched(tmp_path: Path) -> None:
    async with mounted(tmp_path):
        pass
    raw = chosen_engine().open(tmp_path / "db1.sqlite")
    raw.writer.run("UPDATE schema_version SET version = 99, min_reader = 98, min_writer = 98")
    raw.close()
    with pytest.raises(SchemaError):
        async with mounted(tmp_path):
            pass


async def test_search_survives_a_broken_index(tmp_path: Path) -> None:
    directory = Directory()
    async with mounted(tmp_path, directory) as store:
        await store.deliver([delivery(body="needle in hay")])
        alice = await store.open(ALICES, ALICE)
        assert await alice.search(alice.folder("INBOX"), Text("needle")) == [1]
    (tmp_path / "db1.search.sqlite").write_bytes(b"rubbish" * 1000)
    async with mounted(tmp_path, directory) as store:
        alice = await store.open(ALICES, ALICE)
        assert await alice.search(alice.folder("INBOX"), Text("needle")) == [1]


@files_only
async def test_a_restore_that_fails_leaves_the_database_served(
    store: Store, alice: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.deliver([delivery()])
    await backup(store.database("db1"), ENGINE, tmp_path / "copy.sqlite")
    modes: list[int] = []

    def fail(path: Path, kept: Path, fresh: Path) -> None:
        modes.append(fresh.stat().st_mode & 0o777)
        raise OSError("the disk")

    monkeypatch.setattr("atoll.mailbox.backup.switch", fail)
    with pytest.raises(OSError, match="the disk"):
        await restore_database(store, ENGINE, "db1", tmp_path / "copy.sqlite")
    assert store.mounted() == ["db1"]
    assert modes == [0o600]
    alice = await store.open(ALICES, ALICE)
    assert alice.folder("INBOX").total == 1
