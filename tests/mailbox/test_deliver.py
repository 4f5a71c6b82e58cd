"""A batch of deliveries: keys and relatives of all its mailboxes are looked up together."""

from __future__ import annotations

import asyncio
import time

import pytest

from atoll.base.ids import MailboxId
from atoll.mailbox import Delivered, Delivery, Store, StoreCode, StoreError, Want, deliver
from atoll.sql import Broken

from .kit import ALICE, ALICES, BOB, BOBS, T0, content, delivery


def batch(round_: int, count: int) -> list[Delivery]:
    """Messages for two mailboxes in turn; every third one refers to the first, the others to nothing."""
    return [Delivery(
        ALICES if at % 2 else BOBS, "INBOX",
        content(f"s{at}", message_id=f"<{round_}.{at}@x>", references="<0.0@x> <0.1@x>" if at % 3 == 0 else ""),
        T0 + at, b"%d-%d" % (round_, at)) for at in range(count)]


@pytest.mark.parametrize("pairs", [1, 2, 3, 256])
async def test_keys_and_relatives_are_found_for_each_mailbox(store: Store, monkeypatch: pytest.MonkeyPatch,
                                                             pairs: int) -> None:
    monkeypatch.setattr(deliver, "MAX_PAIRS", pairs)
    first = await store.deliver(batch(0, 7))
    second = await store.deliver(batch(1, 7))
    again = await store.deliver([*batch(0, 7), *batch(1, 7)])
    assert [one.uid for one in first if isinstance(one, Delivered)] == [1, 1, 2, 2, 3, 3, 4]
    for old, new in zip([*first, *second], again, strict=True):
        assert isinstance(old, Delivered)
        assert new == Delivered(old.uid, old.id, old.fid, duplicate=True)
    for mailbox, who in ((ALICES, ALICE), (BOBS, BOB)):
        access = await store.open(mailbox, who)
        rows = access.rows(access.folder("INBOX"), 1, 99, Want.HOT)
        names = [at for round_ in (0, 1) for at in range(7) if (at % 2 == 1) == (mailbox == ALICES)]
        assert len(rows) == len(names)
        related = [row.conv for row, at in zip(rows, names, strict=True) if at % 3 == 0 or (at < 2 and row.uid == 1)]
        alone = [row.conv for row, at in zip(rows, names, strict=True) if at % 3]
        assert len(set(related)) == 1
        assert len(set(alone)) == len(alone)


async def test_a_mailbox_that_refuses_does_not_stop_the_others(store: Store) -> None:
    from atoll.base.ids import MailboxId
    from atoll.mailbox import StoreError

    await store.deliver(batch(0, 2))
    nobody = Delivery(MailboxId(b"N" * 16), "INBOX", content("n"), T0, b"n")
    found = await store.deliver([nobody, *batch(1, 2), nobody])
    assert [isinstance(one, StoreError) for one in found] == [True, False, False, True]


async def test_a_page_that_cannot_be_read_is_an_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(mailbox: MailboxId) -> bool:
        raise Broken("a page is damaged")

    monkeypatch.setattr(store.database("db1"), "has", damaged)
    (done,) = await store.deliver([delivery(ALICES)])
    assert isinstance(done, StoreError)
    assert done.code is StoreCode.UNAVAILABLE


async def test_large_mail_does_not_wait_for_a_check_of_the_database(store: Store) -> None:
    store.database("db1").helper.submit(time.sleep, 1.5)
    async with asyncio.timeout(1.2):
        (done,) = await store.deliver([delivery(ALICES, size=300_000)])
    assert isinstance(done, Delivered)
