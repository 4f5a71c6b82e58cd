"""Contents are packed on the loop and in the helper thread at the same time."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor

from atoll.mailbox import Access, NewMessage, Store, Want
from atoll.mailbox.blobs import decode, encode
from atoll.mailbox.integrity import check

from .kit import T0, content


def test_packing_in_two_threads() -> None:
    words = [f"{random.getrandbits(40):x}" for _ in range(500)]
    large = " ".join(random.choices(words, k=90_000)).encode()
    small = [" ".join(random.choices(words, k=300)).encode() for _ in range(50)]

    def there_and_back(data: bytes) -> bool:
        codec, packed = encode(data)
        return decode(codec, packed, len(data)) == data

    with ThreadPoolExecutor(1) as helper:
        slow = helper.submit(lambda: [there_and_back(large) for _ in range(25)])
        while not slow.done():
            assert all(there_and_back(data) for data in small)
        assert all(slow.result())


async def test_appends_while_a_check_reads(store: Store, alice: Access) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [NewMessage(content(f"{n}", "word " * 400), T0) for n in range(100)])
    checking = asyncio.create_task(check(store.database("db1")))
    for n in range(100):
        await alice.append(inbox, [NewMessage(content(f"b{n}", "other " * 400), T0)])
        alice.rows(inbox, 1, 50, Want.BODY)
    assert (await checking).problems == []
