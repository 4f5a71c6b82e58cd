"""Contents are packed on the loop and in the helper thread at the same time."""

from __future__ import annotations

import asyncio
import random

from atoll.mailbox import Access, NewMessage, Store, StoreError, Want
from atoll.mailbox.integrity import check

from .kit import T0, content, delivery


async def test_small_and_large_deliveries_at_once(store: Store, alice: Access) -> None:
    words = [f"{random.getrandbits(40):x}" for _ in range(500)]
    bodies = [" ".join(random.choices(words, k=size)) for size in (20, 300, 20_000, 60_000, 150_000)]
    wanted = [delivery(message_id=f"<{n}@x>", body=bodies[n % len(bodies)] + str(n)) for n in range(60)]
    for done in await asyncio.gather(*(store.deliver([one]) for one in wanted)):
        assert not isinstance(done[0], StoreError)
    inbox = alice.folder("INBOX")
    kept = {alice.row_blob(row) for row in alice.rows(inbox, 1, 1 << 31, Want.HOT)}
    assert kept == {one.content.data for one in wanted}
    assert (await check(store.database("db1"))).problems == []


async def test_appends_while_a_check_reads(store: Store, alice: Access) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [NewMessage(content(f"{n}", "word " * 400), T0) for n in range(100)])
    checking = asyncio.create_task(check(store.database("db1")))
    for n in range(100):
        await alice.append(inbox, [NewMessage(content(f"b{n}", "other " * 400), T0)])
        alice.rows(inbox, 1, 50, Want.BODY)
    assert (await checking).problems == []
