"""Faults that random steps do not find, and moves (STORE 8, ISLANDS 11.10)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from atoll.mailbox import Flag, StoreCode, StoreError, UidMap, UidSet, Want
from atoll.mailbox.change_log import Told
from atoll.mailbox.check import faults
from atoll.mailbox.export import Importer, Piece, export
from atoll.mailbox.tokens import FolderToken, MailboxToken, decode_folder, decode_mailbox, encode
from atoll.mailbox.uidls import PUT_UIDL
from tests.mailbox.kit import ALICES, T0
from tests.postgres import chosen_engine

from .world import World


@pytest.fixture
def world() -> Iterator[World]:
    made = World(chosen_engine())
    yield made
    made.close()


def test_fault_8_a_token_of_a_lost_future_is_refused(world: World) -> None:
    """A page made in a future that is lost passes an item whose change sits in the lost part: without `asof` in the
    token the change that the restore took back would never be told."""
    world.deliver("INBOX", 3, b"")
    first = world.paged[0]
    while not first.step(world.access, 10, lose=False):
        pass
    world.back_up()
    world.flag("INBOX", UidSet.of([1]), "+", Flag.FLAGGED)
    world.flag("INBOX", UidSet.of([2]), "+", Flag.FLAGGED)
    assert not first.step(world.access, 1, lose=False)  # told of uid 1 only; the rest is to come
    world.restore(0)
    assert world.access.page(world.access.folder("INBOX"), "", 10)
    with pytest.raises(StoreError) as info:
        world.access.page(world.access.folder("INBOX"), first.token, 10)
    assert info.value.code is StoreCode.GONE
    world.sync_all()


def test_fault_8_even_when_cn_is_of_the_common_past(world: World) -> None:
    world.deliver("INBOX", 4, b"")
    client = world.paged[0]
    while not client.step(world.access, 10, lose=False):
        pass
    world.flag("INBOX", UidSet.of([1]), "+", Flag.SEEN)
    world.flag("INBOX", UidSet.of([2]), "+", Flag.SEEN)
    world.back_up()
    world.flag("INBOX", UidSet.of([2]), "+", Flag.FLAGGED)  # uid 2's only number is now in what will be lost
    assert not client.step(world.access, 1, lose=False)
    key = world.access._view().token_key
    token = decode_folder(client.token, key)
    world.restore(0)
    assert token.cn < world.access._view().epochs[-1][1] < token.asof
    with pytest.raises(StoreError):
        world.access.page(world.access.folder("INBOX"), client.token, 10)
    world.sync_all()


def test_clients_that_did_not_see_the_lost_future_go_on(world: World) -> None:
    world.deliver("INBOX", 3, b"")
    for client in (*world.paged, world.ids):
        while not client.step(world.access, 10, lose=False):
            pass
    world.imap[0].sync(world.access, "INBOX")
    tokens = [client.token for client in (*world.paged, world.ids)]
    world.back_up()
    world.deliver("INBOX", 2, b"")
    world.restore(0)
    world.deliver("INBOX", 1, b"")
    for client in (*world.paged, world.ids):
        client.future = False  # it may not be refused
    assert [client.token for client in (*world.paged, world.ids)] == tokens
    world.imap[0].sync(world.access, "INBOX")
    world.sync_all()


def test_fault_1_an_old_item_flagged_late_is_not_taken_for_a_known_one(world: World) -> None:
    world.deliver("INBOX", 5, b"")
    client = world.paged[0]
    client.edge = (T0 - 1, 0)
    client.step(world.access, 2, lose=False)
    world.flag("INBOX", UidSet.of([1]), "+", Flag.FLAGGED)
    world.deliver("INBOX", 1, b"")
    world.flag("INBOX", UidSet.of([6]), "+", Flag.FLAGGED)
    world.sync_all()


def test_fault_3_only_read_state_is_judged_from_the_last_complete_state(world: World) -> None:
    world.deliver("INBOX", 3, b"")
    client = world.paged[0]
    while not client.step(world.access, 10, lose=False):
        pass
    world.flag("INBOX", UidSet.of([1]), "+", Flag.FLAGGED)
    world.flag("INBOX", UidSet.of([2]), "+", Flag.FLAGGED)
    client.step(world.access, 1, lose=False)
    world.flag("INBOX", UidSet.of([2]), "+", Flag.SEEN)
    ops, _, _ = world.access.page(world.access.folder("INBOX"), client.token, 10)
    assert [(op.uid, op.told) for op in ops] == [(2, Told.CHANGE)]
    world.sync_all()


def test_fault_5_narrowing_comes_after_arrivals(world: World) -> None:
    world.deliver("INBOX", 3, b"", T0 - 5)
    client = world.paged[0]
    while not client.step(world.access, 10, lose=False):
        pass
    world.deliver("INBOX", 2, b"", T0 - 7)
    client.edge = (T0 - 6, 0)
    while not client.step(world.access, 1, lose=False):
        pass
    assert sorted(client.held) == [1, 2, 3]


def test_a_read_change_is_told_as_one(world: World) -> None:
    world.deliver("INBOX", 1, b"")
    client = world.paged[0]
    while not client.step(world.access, 10, lose=False):
        pass
    world.flag("INBOX", UidSet.of([1]), "+", Flag.SEEN)
    ops, _, _ = world.access.page(world.access.folder("INBOX"), client.token, 10)
    assert [op.told for op in ops] == [Told.READ]


def test_tokens_are_signed_and_bounded() -> None:
    key = b"k" * 32
    folder = FolderToken(3, 1_700_000_000, 5 << 40 | 77, 12, -5, 9, 5 << 40 | 80, 4)
    mailbox = MailboxToken(5 << 40, 4 << 40, 5 << 40)
    assert decode_folder(encode(folder, key), key) == folder
    assert decode_mailbox(encode(mailbox, key), key) == mailbox
    assert len(encode(folder, key)) <= 64
    text = encode(folder, key)
    for forged in (text[:-1] + ("A" if text[-1] != "A" else "B"), text[1:], "", "x" * 300, "é", "A" * 40,
                   encode(folder, b"j" * 32)):
        with pytest.raises(ValueError):
            decode_folder(forged, key)
    with pytest.raises(ValueError):
        decode_mailbox(text, key)


def test_a_mailbox_moves_with_its_clients(world: World) -> None:
    """Snapshot, then "changes since N" while the source lives on; every client goes on at the target."""
    target = World(chosen_engine())
    try:
        target.run(target.store.database("db1").submit(lambda tx: tx.run("DELETE FROM mailbox")))
        target.store.database("db1").reread()
        world.deliver("INBOX", 5, b"k")
        world.deliver("Archive", 2, b"")
        world.flag("INBOX", UidSet.of([4]), "+", 8)
        world.expunge("INBOX")
        for client in (*world.paged, world.ids):
            while not client.step(world.access, 10, lose=False):
                pass
        world.imap[0].sync(world.access, "INBOX")
        world.run(world.store.database("db1").submit(
            lambda tx: tx.run(PUT_UIDL, (tx.mailbox(ALICES).mid, "old-1", 77))))
        importer = Importer(target.store.database("db1"), ALICES)
        for piece in world.run(_collect(world, 0)):
            target.run(importer.take(piece))
        world.flag("INBOX", UidSet.of([1]), "+", 1)
        world.move("INBOX", UidSet.of([2]), "Archive")
        world.flag("INBOX", UidSet.of([3]), "+", 8)
        world.expunge("INBOX")
        world.deliver("INBOX", 2, b"late")
        world.recover(0)
        since = importer.cn
        for piece in world.run(_collect(world, since)):
            target.run(importer.take(piece))
        target.run(importer.finish())
        old = {row.uid: row[:8] for row in world.access.rows(world.access.folder("INBOX"), 1, 1 << 32, Want.HOT, 999)}
        target.reopen()
        fresh = target.access.folder("INBOX")
        new = {row.uid: row[:8] for row in target.access.rows(fresh, 1, 1 << 32, Want.HOT, 999)}
        assert new == old
        assert target.run(target.access.uidls()) == {77: "old-1"}
        assert faults(target.store.database("db1").reader) == []
        target.imap[0] = world.imap[0]
        target.paged, target.ids, target.model, target.made = world.paged, world.ids, world.model, 500
        target.imap[0].sync(target.access, "INBOX")
        target.deliver("INBOX", 5, b"k")  # keys travelled: nothing comes twice
        target.check()
        target.sync_all()
    finally:
        target.close()


async def _collect(world: World, since: int) -> list[Piece]:
    return [piece async for piece in export(world.store.database("db1"), ALICES, since)]


def test_known_set_answers_when_the_log_was_trimmed(world: World) -> None:
    world.deliver("INBOX", 4, b"")
    folder = world.access.folder("INBOX")
    before, known = folder.cn_high, UidMap.of([1, 2, 3, 4])
    world.flag("INBOX", UidSet.of([2]), "+", 8)
    world.expunge("INBOX")
    world.trim("INBOX")
    found = world.access.changes(world.access.folder("INBOX"), before, known)
    assert found.vanished == [2]
    assert [row.uid for row in found.changed] == [1, 3, 4]
