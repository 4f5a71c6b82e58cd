"""Who may do what: rights in the mailbox layer, own read state, folders."""

from __future__ import annotations

import pytest

from atoll.mailbox import ANYONE, Access, Flag, Right, Store, StoreCode, StoreError, UidSet, Want, WellKnown
from atoll.mailbox.check import faults
from atoll.mailbox.model import Row

from .kit import ALICES, BOB, CAROL, new


async def shared(store: Store, alice: Access, rights: str) -> Access:
    await alice.append(alice.folder("INBOX"), [new(f"m{n}") for n in range(5)])
    await alice.set_acl("INBOX", BOB, "bob@example.test", Right.of(rights))
    return await store.open(ALICES, BOB)


def code(refused: pytest.ExceptionInfo[StoreError]) -> StoreCode:
    return refused.value.code


async def test_no_right_reads_like_no_mailbox(store: Store, alice: Access) -> None:
    with pytest.raises(StoreError) as nothing:
        await store.open(ALICES, BOB)
    assert code(nothing) is StoreCode.NO_FOLDER
    bob = await shared(store, alice, "lr")
    assert [folder.path for folder in bob.folders()] == ["INBOX"]
    with pytest.raises(StoreError) as hidden:
        bob.folder("Sent")
    with pytest.raises(StoreError) as missing:
        bob.folder("Nowhere")
    assert (code(hidden), hidden.value.public) == (code(missing), missing.value.public)


async def test_each_right(store: Store, alice: Access) -> None:
    bob = await shared(store, alice, "lr")
    inbox = bob.folder("INBOX")
    assert len(bob.rows(inbox, 1, 9, Want.HOT)) == 5
    for refused in (bob.append(inbox, [new()]), bob.expunge(inbox, None), bob.create("INBOX/Below"),
                    bob.flags(inbox, UidSet.of([1]), "+", Flag.FLAGGED), bob.delete("INBOX"),
                    bob.flags(inbox, UidSet.of([1]), "+", Flag.DELETED), bob.copy(inbox, UidSet.of([1]), inbox),
                    bob.set_acl("INBOX", CAROL, "carol@example.test", Right.all()), bob.rename("INBOX", "x"),
                    bob.recover([1])):
        with pytest.raises(StoreError) as info:
            await refused
        assert code(info) is StoreCode.NO_RIGHT
    with pytest.raises(StoreError):
        bob.acl("INBOX")
    with pytest.raises(StoreError):
        bob.recoverable()
    await alice.set_acl("INBOX", BOB, "bob@example.test", Right.of("lrwitek"))
    await bob.append(inbox, [new()])
    await bob.flags(inbox, UidSet.of([1]), "+", Flag.FLAGGED | Flag.DELETED)
    assert await bob.expunge(inbox, None) == [1]
    assert (await bob.create("INBOX/Below")).rights == Right.of("lrwitek")  # rights are the parent's
    assert await bob.move(inbox, UidSet.of([2]), bob.folder("INBOX/Below")) == [(2, 1)]
    with pytest.raises(StoreError):
        await bob.create("Top")


async def test_lookup_without_read(store: Store, alice: Access) -> None:
    bob = await shared(store, alice, "l")
    with pytest.raises(StoreError) as info:
        bob.rows(bob.folder("INBOX"), 1, 9, Want.HOT)
    assert code(info) is StoreCode.NO_RIGHT
    with pytest.raises(StoreError):
        await bob.search(bob.folder("INBOX"), object())  # type: ignore[arg-type]


async def test_flags_that_may_not_be_set_are_left_out(store: Store, alice: Access) -> None:
    bob = await shared(store, alice, "lrwi")
    inbox = bob.folder("INBOX")
    await bob.flags(inbox, UidSet.of([1]), "=", Flag.FLAGGED | Flag.DELETED)
    (row,) = alice.rows(inbox, 1, 1, Want.HOT)
    assert row.flags == Flag.FLAGGED


def seen(rows: list[Row]) -> list[int]:
    return [row.uid for row in rows if row.flags & Flag.SEEN]


async def test_own_read_state_without_s(store: Store, alice: Access) -> None:
    bob = await shared(store, alice, "lr")
    inbox = bob.folder("INBOX")
    await alice.flags(inbox, UidSet.of([1]), "+", Flag.SEEN)
    known, since = bob.uid_map(inbox), bob.folder("INBOX").cn_high
    done = await bob.flags(inbox, UidSet.of([2, 3]), "+", Flag.SEEN)
    assert seen(done.rows) == [2, 3]
    assert seen(bob.rows(inbox, 1, 9, Want.HOT)) == [2, 3]
    assert seen(alice.rows(inbox, 1, 9, Want.HOT)) == [1]
    assert [[row[0] for row in who.rows(inbox, 1, 9, Want.MARKS) if row[1] & Flag.SEEN] for who in (bob, alice)] \
        == [[2, 3], [1]]
    assert (bob.folder("INBOX").unread, alice.folder("INBOX").unread) == (3, 4)
    look = bob.look(inbox, since, known)
    assert [row.uid for row in look.changed] == [2, 3]
    assert look.cn == max(row.cn for row in done.rows) == bob.folder("INBOX").cn_high
    assert alice.look(inbox, since, known).changed == []
    from atoll.mailbox.query import HasFlag, Not
    assert await bob.search(inbox, Not(HasFlag(Flag.SEEN))) == [1, 4, 5]
    assert await alice.search(inbox, Not(HasFlag(Flag.SEEN))) == [2, 3, 4, 5]
    await alice.flags(inbox, UidSet.of([2]), "+", Flag.DELETED)
    await alice.expunge(inbox, None)
    assert bob.folder("INBOX").unread == 3  # of four
    await bob.flags(inbox, UidSet.of([3]), "-", Flag.SEEN)
    assert bob.folder("INBOX").unread == 4
    assert faults(store.database("db1").reader) == []


async def test_common_read_state_with_s(store: Store, alice: Access) -> None:
    bob = await shared(store, alice, "lrs")
    inbox = bob.folder("INBOX")
    await bob.flags(inbox, UidSet.of([2]), "+", Flag.SEEN)
    assert seen(alice.rows(inbox, 1, 9, Want.HOT)) == [2]


async def test_rights_end_at_once(store: Store, alice: Access) -> None:
    bob = await shared(store, alice, "lr")
    inbox = bob.folder("INBOX")
    await alice.set_acl("INBOX", BOB, "bob@example.test", Right.NONE)
    with pytest.raises(StoreError):
        bob.rows(inbox, 1, 9, Want.HOT)
    assert alice.acl("INBOX") == {}


async def test_anyone(store: Store, alice: Access) -> None:
    await alice.set_acl("Archive", ANYONE, "anyone", Right.of("lr"))
    carol = await store.open(ALICES, CAROL)
    assert carol.my_rights("Archive") == Right.of("lr")
    assert store.shared_with(CAROL) == [ALICES]
    assert alice.acl("Archive") == {"anyone": Right.of("lr")}


async def test_administrator_opens_as_the_owner(store: Store) -> None:
    admin = await store.open(ALICES, CAROL, scope="admin")
    assert admin.is_owner
    assert admin.recoverable() == []


@pytest.mark.parametrize("letters", ["lrswipkxtea", "lr", ""])
def test_letters(letters: str) -> None:
    assert Right.of(letters).letters == letters


def test_old_letters() -> None:
    assert Right.of("cd").letters == "kxte"


async def test_folders(alice: Access) -> None:
    made = await alice.create("Projects/2025/Köln")
    assert made.path == "Projects/2025/Köln"
    assert alice.folder("Projects").has_children
    with pytest.raises(StoreError) as info:
        await alice.create("Projects/2025")
    assert code(info) is StoreCode.EXISTS
    await alice.append(made, [new()])
    await alice.rename("Projects", "Work/Old")
    assert alice.folder("Work/Old/2025/Köln").fid == made.fid
    assert alice.folder("Work/Old/2025/Köln").uidv == made.uidv
    with pytest.raises(StoreError):
        alice.folder("Projects")
    with pytest.raises(StoreError) as info:
        await alice.rename("Work", "Work/Old/Under")
    assert code(info) is StoreCode.INVALID
    with pytest.raises(StoreError) as info:
        await alice.delete("Work/Old")
    assert code(info) is StoreCode.NOT_EMPTY
    await alice.delete("Work/Old/2025/Köln")
    again = await alice.create("Work/Old/2025/Köln")
    assert again.uidv > made.uidv
    assert again.total == 0
    assert len(alice.recoverable()) == 1


async def test_inbox_is_special(alice: Access) -> None:
    await alice.append(alice.folder("iNbOx"), [new(), new()])
    with pytest.raises(StoreError) as info:
        await alice.delete("INBOX")
    assert code(info) is StoreCode.SYSTEM_FOLDER
    await alice.rename("inbox", "Earlier")
    assert (alice.folder("INBOX").total, alice.folder("Earlier").total) == (0, 2)
    await alice.create("Inbox/Below")
    assert [folder.path for folder in alice.folders()][:2] == ["INBOX", "INBOX/Below"]


async def test_special_use_is_given_once(alice: Access) -> None:
    with pytest.raises(StoreError):
        await alice.create("Outgoing", WellKnown.SENT)
    await alice.delete("Sent")
    assert (await alice.create("Outgoing", WellKnown.SENT)).wellknown is WellKnown.SENT


@pytest.mark.parametrize("name", ["", "a//b", "a/../b", "x" * 256, "a\x00b", "a\nb", "/".join("a" * 40)])
async def test_no_names(alice: Access, name: str) -> None:
    with pytest.raises(StoreError) as info:
        await alice.create(name)
    assert code(info) is StoreCode.INVALID


async def test_subscriptions_are_personal(store: Store, alice: Access) -> None:
    assert alice.folder("INBOX").subscribed
    await alice.subscribe("Sent", False)
    await alice.set_acl("Sent", BOB, "bob@example.test", Right.of("lr"))
    bob = await store.open(ALICES, BOB)
    await bob.subscribe("Sent", True)
    assert not alice.folder("Sent").subscribed
    assert bob.folder("Sent").subscribed
