"""Contents on their way in: digest, compression, and the pieces of large ones, before the unit that links them.

In     Content.
Out    Prepared.
Spec   STORE 4 ("Large bodies"): chunk by chunk as units of their own, unreferenced (swept after an hour), then linked.
Fails  StoreError(TOO_BIG, UNAVAILABLE).
"""

from __future__ import annotations

import asyncio

from atoll.mailbox.blobs import CHUNK, Prepared, begin_large, encode, pieces, prepare, put_piece
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.model import Content
from atoll.mailbox.tx import Tx

INLINE = 128 << 10
"""Up to here digest and compression take well under 2 ms: no thread."""


async def ingest(database: MailboxDatabase, content: Content) -> Prepared:
    """Everything that need not happen inside the transaction that links the content."""
    if isinstance(content.data, bytes) and len(content.data) <= INLINE:
        return prepare(content)
    loop = asyncio.get_running_loop()
    prepared = await loop.run_in_executor(None, prepare, content)
    if prepared.size > CHUNK:
        await _store_large(database, prepared)
    return prepared


async def _store_large(database: MailboxDatabase, prepared: Prepared) -> None:
    loop = asyncio.get_running_loop()
    now = database.clock.now_ms()

    def begin(tx: Tx) -> int:
        return begin_large(tx, prepared, now)

    blob = await database.submit(begin)
    waiting = pieces(prepared.content)
    seq = 0
    while True:
        piece = await loop.run_in_executor(None, next, waiting, None)
        if piece is None:
            break
        codec, data = await loop.run_in_executor(None, encode, piece)

        def write(tx: Tx, seq: int = seq, codec: int = codec, data: bytes = data) -> None:
            put_piece(tx, blob, seq, codec, data)

        await database.submit(write)
        seq += 1
    prepared.blob = blob
