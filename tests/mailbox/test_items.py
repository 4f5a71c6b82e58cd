"""What happens to messages: every call of Access, and what a second reader sees of it."""

from __future__ import annotations

import dataclasses

import pytest

from atoll.mailbox import (
    Access,
    Flag,
    NewMessage,
    Notice,
    Store,
    StoreCode,
    StoreError,
    UidMap,
    UidSet,
    Want,
    WellKnown,
)
from atoll.mailbox.check import faults
from atoll.mailbox.query import Ids, Not, Or, Text

from .kit import ALICE, ALICES, T0, Directory, StillClock, content, delivery, message, new


async def filled(alice: Access, count: int = 5) -> None:
    await alice.append(alice.folder("INBOX"), [new(f"m{n}", message_id=f"<{n}@x>") for n in range(1, count + 1)])


async def test_append_shows_up_whole(alice: Access) -> None:
    inbox = alice.folder("inbox")
    data = message("Héllo")
    one = dataclasses.replace(new(), content=dataclasses.replace(content(), data=data))
    placed = await alice.append(inbox, [one, NewMessage(content(), T0 + 5, Flag.SEEN, frozenset({"$Work", "b"}))])
    assert [place.uid for place in placed] == [1, 2]
    first, second = alice.rows(inbox, 1, 10, Want.META | Want.BODY)
    assert first.body == data
    assert first.envelope.startswith(b"(")
    assert second.flags == Flag.SEEN
    assert sorted(alice.keywords(second)) == ["$Work", "b"]
    assert second.id > first.id
    fresh = alice.folder("INBOX")
    assert (fresh.total, fresh.unread, fresh.uidnext) == (2, 1, 3)
    assert alice.quota().bytes == fresh.bytes == len(data) + second.size


async def test_body_without_meta_and_meta_without_body(alice: Access) -> None:
    await filled(alice, 1)
    inbox = alice.folder("INBOX")
    (body,) = alice.rows(inbox, 1, 1, Want.BODY)
    assert body.body is not None
    assert body.envelope is None
    (meta,) = alice.rows(inbox, 1, 1, Want.META)
    assert meta.structure.startswith(b"(")
    assert len(alice.rows(inbox, 1, 1, Want.HOT)[0]) == 9


@pytest.mark.parametrize("size", [200, 5_000, 300_000, (1 << 20) + 1, 3_500_000])
async def test_contents_of_all_sizes(alice: Access, size: int) -> None:
    inbox = alice.folder("INBOX")
    one = content(size=size)
    await alice.append(inbox, [NewMessage(one, T0)])
    (row,) = alice.rows(inbox, 1, 1, Want.BODY)
    assert alice.row_blob(row) == one.data
    assert isinstance(one.data, bytes)
    assert (row.body is None) == (size > 1 << 20)
    assert alice.blob_slice(row.blob, 100, 50) == one.data[100:150]
    assert alice.blob_slice(row.blob, size - 10, 50) == one.data[-10:]
    assert alice.blob_slice(row.blob, size + 10, 50) == b""
    if size > 1 << 20:
        assert alice.blob_slice(row.blob, (1 << 20) - 5, 10) == one.data[(1 << 20) - 5:(1 << 20) + 5]


async def test_spooled_file(alice: Access, tmp_path: object) -> None:
    path = tmp_path / "spool"  # type: ignore[operator]
    one = content(size=2_000_000)
    path.write_bytes(one.data)
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [NewMessage(dataclasses.replace(one, data=path), T0)])
    assert alice.row_blob(alice.rows(inbox, 1, 1, Want.HOT)[0]) == one.data


async def test_flags(alice: Access) -> None:
    await filled(alice)
    inbox = alice.folder("INBOX")
    done = await alice.flags(inbox, UidSet.of([2, 3, 9]), "+", Flag.SEEN | Flag.DELETED, frozenset({"work"}))
    assert [(row.uid, row.flags, alice.keywords(row)) for row in done.rows] == [(2, 9, ("work",)), (3, 9, ("work",))]
    assert (alice.folder("INBOX").unread, alice.folder("INBOX").deleted) == (3, 2)
    done = await alice.flags(inbox, UidSet.of([3]), "-", Flag.DELETED, frozenset({"WORK"}))
    assert [(row.flags, alice.keywords(row)) for row in done.rows] == [(1, ())]
    done = await alice.flags(inbox, UidSet.all(), "=", Flag.FLAGGED)
    assert [row.flags for row in done.rows] == [4] * 5
    assert (alice.folder("INBOX").unread, alice.folder("INBOX").deleted) == (5, 0)


async def test_flags_that_change_nothing_get_no_number(alice: Access) -> None:
    await filled(alice)
    inbox = alice.folder("INBOX")
    await alice.flags(inbox, UidSet.of([2]), "+", Flag.SEEN)
    before = alice.folder("INBOX").cn_high
    done = await alice.flags(inbox, UidSet.of([2]), "+", Flag.SEEN)
    assert [row.cn for row in done.rows] == [before]
    assert alice.folder("INBOX").cn_high == before


async def test_unchanged_since(alice: Access) -> None:
    await filled(alice)
    inbox = alice.folder("INBOX")
    seen = inbox.cn_high
    seen = alice.folder("INBOX").cn_high
    await alice.flags(inbox, UidSet.of([2]), "+", Flag.FLAGGED)
    done = await alice.flags(inbox, UidSet.of([1, 2, 3]), "+", Flag.SEEN, unchanged_since=seen)
    assert done.modified == UidSet.of([2])
    assert [row.uid for row in done.rows] == [1, 3]


async def test_every_changed_row_has_its_own_number(alice: Access) -> None:
    await filled(alice)
    inbox = alice.folder("INBOX")
    done = await alice.flags(inbox, UidSet.all(), "+", Flag.SEEN)
    assert len({row.cn for row in done.rows}) == 5


async def test_copy_and_move(alice: Access) -> None:
    await filled(alice)
    inbox, archive = alice.folder("INBOX"), alice.folder("Archive")
    ids = {row.uid: row.id for row in alice.rows(inbox, 1, 9, Want.HOT)}
    assert await alice.copy(inbox, UidSet.of([1, 2]), archive) == [(1, 1), (2, 2)]
    assert await alice.move(inbox, UidSet.of([2, 4]), archive) == [(2, 3), (4, 4)]
    there = {row.uid: row for row in alice.rows(archive, 1, 9, Want.META | Want.BODY)}
    assert [there[3].id, there[4].id] == [ids[2], ids[4]]  # a moved item stays the same item
    assert there[1].id not in ids.values()
    assert there[1].blob == alice.rows(inbox, 1, 1, Want.HOT)[0].blob
    assert there[2].body == there[3].body
    assert (alice.folder("INBOX").total, alice.folder("Archive").total) == (3, 4)
    assert list(alice.uid_map(inbox)) == [1, 3, 5]


async def test_copy_into_the_same_folder(alice: Access) -> None:
    await filled(alice, 2)
    inbox = alice.folder("INBOX")
    assert await alice.copy(inbox, UidSet.all(), inbox) == [(1, 3), (2, 4)]
    assert await alice.move(inbox, UidSet.of([1]), inbox) == [(1, 5)]
    assert list(alice.uid_map(inbox)) == [2, 3, 4, 5]


async def test_expunge_is_a_soft_delete(alice: Access, clock: StillClock) -> None:
    await filled(alice)
    inbox = alice.folder("INBOX")
    used = alice.quota().bytes
    await alice.flags(inbox, UidSet.of([2, 4]), "+", Flag.DELETED)
    assert await alice.expunge(inbox, UidSet.of([1, 2, 3])) == [2]
    assert await alice.expunge(inbox, None) == [4]
    assert alice.quota().bytes < used
    deleted = alice.recoverable()
    assert [(one.subject, one.from_path, one.deleted) for one in deleted] == [("m4", "INBOX", clock.ms),
                                                                              ("m2", "INBOX", clock.ms)]
    (placed,) = await alice.recover([deleted[0].id])
    assert placed.uid == 6
    (row,) = alice.rows(inbox, 6, 6, Want.HOT)
    assert not row.flags & Flag.DELETED
    assert [one.subject for one in alice.recoverable()] == ["m2"]
    assert await alice.purge_recoverable() == 1
    assert alice.recoverable() == []


async def test_recover_when_the_folder_has_gone(alice: Access) -> None:
    await alice.create("Old/Deep")
    await alice.append(alice.folder("Old/Deep"), [new("kept")])
    await alice.delete("Old/Deep")
    (one,) = alice.recoverable()
    assert one.from_path in ("Old/Deep", "")
    await alice.recover([one.id])
    assert alice.folder("INBOX").total == 1


async def test_look_tells_what_happened(alice: Access) -> None:
    await filled(alice)
    inbox = await alice.select(alice.folder("INBOX"), read_write=True)
    known = alice.uid_map(inbox)
    nothing = alice.look(inbox, inbox.cn_high, known)
    assert nothing.uids is known
    assert (nothing.vanished, nothing.changed, nothing.arrived) == ([], [], [])
    await alice.flags(inbox, UidSet.of([1]), "+", Flag.SEEN)
    await alice.flags(inbox, UidSet.of([3]), "+", Flag.DELETED)
    await alice.expunge(inbox, None)
    await alice.append(inbox, [new("late")])
    seen = alice.look(inbox, inbox.cn_high, known)
    assert seen.vanished == [3]
    assert [row.uid for row in seen.changed] == [1]
    assert [row.uid for row in seen.arrived] == [6]
    assert seen.recent == [6]
    assert list(seen.uids) == [1, 2, 4, 5, 6]
    assert seen.cn == alice.folder("INBOX").cn_high


async def test_sessions_share_one_map(alice: Access) -> None:
    await filled(alice)
    inbox = alice.folder("INBOX")
    assert alice.uid_map(inbox) is alice.uid_map(inbox)
    before = alice.uid_map(inbox)
    await alice.append(inbox, [new()])
    assert alice.look(inbox, inbox.cn_high, before).uids is alice.uid_map(inbox)


async def test_recent_goes_to_one_session(alice: Access) -> None:
    await filled(alice, 2)
    assert (await alice.select(alice.folder("INBOX"), read_write=False)).recent_uid == 1
    assert (await alice.select(alice.folder("INBOX"), read_write=True)).recent_uid == 1
    assert (await alice.select(alice.folder("INBOX"), read_write=True)).recent_uid == 3


async def test_changes_from_the_log_and_without_it(alice: Access) -> None:
    await filled(alice)
    inbox = alice.folder("INBOX")
    inbox = alice.folder("INBOX")
    known = alice.uid_map(inbox)
    await alice.flags(inbox, UidSet.of([2, 3]), "+", Flag.DELETED)
    await alice.expunge(inbox, UidSet.of([2]))
    found = alice.changes(inbox, inbox.cn_high)
    assert ([row.uid for row in found.changed], found.vanished) == ([3], [2])
    future = alice.changes(inbox, found.cn + 1000, known)  # a number that we never gave out: everything
    assert ([row.uid for row in future.changed], future.vanished) == ([1, 3, 4, 5], [2])


async def test_delivery_keys(store: Store, alice: Access) -> None:
    first, again, other = await store.deliver([delivery(key=b"k"), delivery(key=b"k"), delivery(key=b"j")])
    assert not isinstance(first, StoreError)
    assert not isinstance(again, StoreError)
    assert not isinstance(other, StoreError)
    assert (again.uid, again.duplicate) == (first.uid, True)
    assert other.uid != first.uid
    (late,) = await store.deliver([delivery(key=b"k")])
    assert not isinstance(late, StoreError)
    assert (late.uid, late.id, late.duplicate) == (first.uid, first.id, True)
    assert alice.folder("INBOX").total == 2


async def test_one_content_for_many_is_one_blob(store: Store, alice: Access) -> None:
    from .kit import BOB, BOBS
    one = delivery()
    await store.deliver([one, dataclasses.replace(one, mailbox=BOBS), dataclasses.replace(one, path="Archive")])
    bob = await store.open(BOBS, BOB)
    blobs = {alice.rows(alice.folder("INBOX"), 1, 1, Want.HOT)[0].blob,
             alice.rows(alice.folder("Archive"), 1, 1, Want.HOT)[0].blob,
             bob.rows(bob.folder("INBOX"), 1, 1, Want.HOT)[0].blob}
    assert len(blobs) == 1


async def test_refusals_stand_alone(store: Store, alice: Access, directory: Directory) -> None:
    from .kit import BOBS
    bad = await store.deliver([delivery(), delivery(mailbox=b"?" * 16), delivery()])
    codes = [one.code if isinstance(one, StoreError) else None for one in bad]
    assert codes == [None, StoreCode.NO_FOLDER, None]
    directory.change(BOBS, state="locked")
    (locked,) = await store.deliver([delivery(BOBS)])
    assert isinstance(locked, StoreError)
    assert locked.temporary


async def test_a_folder_that_is_not_there_is_the_inbox(store: Store, alice: Access) -> None:
    (placed,) = await store.deliver([delivery(path="Nowhere")])
    assert not isinstance(placed, StoreError)
    assert placed.fid == alice.folder("INBOX").fid


async def test_quota(store: Store, alice: Access, directory: Directory) -> None:
    from atoll.directory.client.model import Quota
    directory.change(ALICES, quota=Quota(100, 200, 300))
    await store.deliver([delivery()])
    await store.deliver([delivery()])
    (full,) = await store.deliver([delivery()])
    assert isinstance(full, StoreError)
    assert full.code is StoreCode.OVER_QUOTA
    inbox = alice.folder("INBOX")
    with pytest.raises(StoreError, match="full"):
        await alice.append(inbox, [new()])
    with pytest.raises(StoreError, match="full"):
        await alice.copy(inbox, UidSet.all(), alice.folder("Archive"))
    await alice.move(inbox, UidSet.of([1]), alice.folder("Archive"))  # a move takes no room
    assert alice.quota().receive == 300


async def test_conversations(alice: Access) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [new(message_id="<a@x>"), new(message_id="<b@x>", references="<a@x>"), new(),
                               new(message_id="<c@x>", references="<zz@x> <b@x>")])
    await alice.append(inbox, [new(references="<zz@x>")])
    convs = [row.conv for row in alice.rows(inbox, 1, 9, Want.HOT)]
    assert convs[0] == convs[1] == convs[3] == convs[4]
    assert convs[2] != convs[0]


async def test_notices_come_after_the_commit(alice: Access) -> None:
    heard: list[Notice] = []
    inbox = alice.folder("INBOX")

    def listen(notice: Notice) -> None:
        heard.append(notice)
        assert alice.folder("INBOX").total == len(heard)

    end = alice.subscribe_changes(listen)
    await alice.append(inbox, [new()])
    await alice.append(inbox, [new()])
    assert [notice.fids for notice in heard] == [frozenset({inbox.fid})] * 2
    end()
    await alice.append(inbox, [new()])
    assert len(heard) == 2


async def test_append_is_all_or_none(alice: Access) -> None:
    inbox = alice.folder("INBOX")
    bad = dataclasses.replace(new(), keywords=frozenset({"x" * 300}))
    with pytest.raises(StoreError):
        await alice.append(inbox, [new(), bad])
    assert alice.folder("INBOX").total == 0
    assert len(alice.uid_map(inbox)) == 0


async def test_sort_rows(alice: Access) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [new("Re: Zebra", message_id="<1@x>"), new("apple", references="<1@x>")])
    rows = [row async for piece in alice.sort_rows(inbox, UidSet.all()) for row in piece]
    assert [(row.uid, row.subject_base, row.from_, row.message_id) for row in rows] == [
        (1, "zebra", "alice", b"<1@x>"), (2, "apple", "alice", b"")]


async def test_counters_hold_after_everything(store: Store, alice: Access) -> None:
    await filled(alice, 20)
    inbox, archive = alice.folder("INBOX"), alice.folder("Archive")
    await alice.flags(inbox, UidSet.of(range(1, 15)), "+", Flag.SEEN | Flag.DELETED)
    await alice.copy(inbox, UidSet.of([1, 2, 18]), archive)
    await alice.move(inbox, UidSet.of([3, 19]), archive)
    await alice.expunge(inbox, None)
    await alice.recover([one.id for one in alice.recoverable()[:4]])
    await alice.purge_recoverable([alice.recoverable()[0].id])
    await alice.delete("Archive")
    assert faults(store.database("db1").reader) == []


async def test_hidden_folders_take_nothing(alice: Access) -> None:
    hidden = next(folder for folder in alice.folders(hidden=True) if folder.wellknown is WellKnown.DELETIONS)
    with pytest.raises(StoreError):
        await alice.append(hidden, [new()])
    with pytest.raises(StoreError):
        await alice.create("Recoverable Items/Mine")


async def test_open_with_uidmap_known(alice: Access) -> None:
    assert alice.uid_map(alice.folder("INBOX")) == UidMap()
    assert alice.who == ALICE


async def test_a_copy_keeps_the_email_id_of_its_source(alice: Access) -> None:
    """[RFC 8474 §5.1] whatever way it then goes; search finds both."""
    inbox, other = alice.folder("INBOX"), alice.folder("Archive")
    await alice.append(inbox, [new()])
    await alice.copy(inbox, UidSet.of([1]), inbox)
    await alice.copy(inbox, UidSet.of([2]), other)
    await alice.move(inbox, UidSet.of([2]), other)
    first = alice.rows(inbox, 1, 1, Want.HOT)[0]
    copies = alice.copies(other, 1, 2)
    assert [alice.email_id(row, copies) for row in alice.rows(other, 1, 2, Want.HOT)] == [alice.email_id(first)] * 2
    assert alice.copies(inbox, 1, 9) == {}
    query = Ids("email", alice.email_id(first))
    assert await alice.search(other, query) == [1, 2]
    assert await alice.search(other, Not(query)) == []
    assert await alice.search(other, Or((query, Text("nothing")))) == [1, 2]
    row = alice.rows(other, 1, 1, Want.HOT)[0]
    assert await alice.search(other, Ids("email", alice.email_id(row))) == []  # its own number is nobody's EMAILID


async def test_copies_of_a_set_with_gaps_have_the_listing_of_their_sources(alice: Access) -> None:
    inbox, archive = alice.folder("INBOX"), alice.folder("Archive")
    await alice.append(inbox, [new(f"subject {i}") for i in range(1, 13)])
    await alice.expunge(inbox, None)
    wanted = [1, 2, 3, 5, 8, 9, 12]
    placed = await alice.copy(inbox, UidSet.of(wanted), archive)
    assert [old for old, _ in placed] == wanted
    there = {row.uid: row.envelope for row in alice.rows(archive, 1, 99, Want.META)}
    assert len(there) == len(wanted)
    for old, new_uid in placed:
        assert f'"subject {old}"'.encode() in there[new_uid]


async def test_copies_make_conversations_of_messages_that_had_none(store: Store, alice: Access) -> None:
    inbox, archive = alice.folder("INBOX"), alice.folder("Archive")
    await alice.append(inbox, [new(f"s{i}", message_id=f"<{i}@x>") for i in range(30)])
    await alice.copy(inbox, UidSet.all(), archive)
    assert [items for (items,) in store.database("db1").reader.all("SELECT items FROM conversation ORDER BY conv")] \
        == [2] * 30


async def test_listed_rows_are_the_cold_half_of_the_others(alice: Access) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [new(f"s{i}", "x" * 100 * i) for i in range(40)])
    await alice.append(alice.folder("Archive"), [new("elsewhere")])
    await alice.flags(inbox, UidSet.of([5, 6, 40]), "+", Flag.DELETED)
    await alice.expunge(inbox, None)
    for uids, limit in ((UidSet.all(), 99), (UidSet.all(), 7), (UidSet.of([1]), 9), (UidSet.of(range(2, 39, 3)), 99),
                        (UidSet.of([1, 20, 39, 41]), 3)):
        wanted = alice.rows_of(inbox, uids, Want.META | Want.PREVIEW, limit)
        assert [tuple(row) for row in alice.rows_of(inbox, uids, Want.LISTED, limit)] \
            == [(row.uid, row.envelope, row.structure) for row in wanted]
        assert [tuple(row) for row in alice.rows_of(inbox, uids, Want.META, limit)] \
            == [(*row[:11], None) for row in wanted]
        assert all(row.preview for row in wanted[1:])
        assert [tuple(row) for row in alice.rows_of(inbox, uids, Want.MARKS, limit)] == [row[:3] for row in wanted]


async def test_what_was_told_as_recent_stays_told(store: Store, alice: Access) -> None:
    """Also when the writer reads the folder anew: the number in memory is ahead of the one on disk."""
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [new()])
    uids = alice.uid_map(inbox)
    cn = alice.folder("INBOX").cn_high
    await alice.append(inbox, [new()])
    store.database("db1").memory.clear()
    look = alice.look(inbox, cn, uids)
    assert look.recent == [2]
    alice.take_recent(inbox, 2)
    await alice.flags(inbox, UidSet.of([1]), "+", Flag.SEEN)
    assert alice.folder("INBOX").recent_uid == 3
    await alice.append(inbox, [new()])
    assert alice.look(inbox, cn, uids).recent == [3]
