"""Unique ids of POP3 that messages brought along."""

from __future__ import annotations

import pytest

from atoll.mailbox import Access, NewMessage, Store, StoreError, UidSet, uidls

from .kit import ALICES, BOB, T0, content


def brought(uidl: str) -> NewMessage:
    return NewMessage(content(), T0, uidl=uidl)


async def test_they_stay_with_a_message_that_moves(alice: Access) -> None:
    inbox, archive = alice.folder("INBOX"), alice.folder("Archive")
    one, two, _ = await alice.append(inbox, [brought("a"), brought("b"), brought("")])
    assert await alice.uidls() == {one.id: "a", two.id: "b"}
    await alice.move(inbox, UidSet.of([one.uid]), archive)
    await alice.move(archive, UidSet.of([1]), inbox)
    assert await alice.uidls() == {one.id: "a", two.id: "b"}


async def test_the_newest_of_two_that_claim_the_same(alice: Access) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [brought("a")])
    (again,) = await alice.append(inbox, [brought("a")])
    assert await alice.uidls() == {again.id: "a"}


async def test_many(alice: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uidls, "PAGE", 3)
    placed = await alice.append(alice.folder("INBOX"), [brought(f"{number}") for number in range(10)])
    assert await alice.uidls() == {one.id: f"{number}" for number, one in enumerate(placed)}


async def test_they_are_the_owners(alice: Access, store: Store) -> None:
    await alice.set_acl("INBOX", BOB, "bob@example.test", alice.my_rights("INBOX"))
    bob = await store.open(ALICES, BOB)
    with pytest.raises(StoreError):
        await bob.uidls()
