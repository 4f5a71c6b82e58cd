"""One client, end to end: TLS, sign-in by the directory, the mailbox process, the store."""

from __future__ import annotations

import asyncio
import re

from tests.protocols.imap.conftest import MESSAGES, Site


async def test_first_path(site: Site) -> None:
    await site.put(*MESSAGES)
    client = await site.sign_in()
    select = await client.ok(b"SELECT INBOX")
    assert b"* 3 EXISTS\r\n" in select
    rows = await client.ok(b"FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE RFC822.SIZE INTERNALDATE)")
    assert len(rows) == 3
    assert rows[0].startswith(b'* 1 FETCH (UID 1 FLAGS (\\Recent) ENVELOPE ("Tue, 14 Nov 2023 22:13:20 +0000" "Boats"'), rows
    body = await client.ok(b"FETCH 2 BODY[]")
    assert MESSAGES[1] in body[0]
    assert b"\\Seen" in body[0]
    await client.ok(b"APPEND INBOX (\\Flagged) {%d+}\r\n%b" % (len(MESSAGES[0]), MESSAGES[0]))
    assert (await client.ok(b"FETCH 4 BODY.PEEK[]")) and (await client.ok(b"NOOP")) == []


async def test_idle_is_told_at_once(site: Site) -> None:
    client = await site.sign_in()
    await client.ok(b"SELECT INBOX")
    client.send(b"i IDLE\r\n")
    assert await client.line() == b"+ idling\r\n"
    await site.deliver()
    assert await client.line() == b"* 1 EXISTS\r\n"
    assert re.match(rb"\* \d RECENT\r\n", await client.line())
    client.send(b"DONE\r\n")
    assert (await client.until(b"i"))[-1].startswith(b"i OK")
    assert all(session._task is None for session in site.one.server.sessions())


async def test_no_task_while_idle(site: Site) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(3):
        client = await site.sign_in()
        await client.ok(b"SELECT INBOX")
        client.send(b"i IDLE\r\n")
        await client.line()
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) == before
