"""Transport's end of the inside hop when it is about to go."""

from __future__ import annotations

import asyncio

import pytest

from atoll.base.clock import SystemClock
from atoll.formats.smtp import replies
from atoll.protocols.smtp.hop import HopServer
from tests.transport.kit import Client, bound

HEAD = b"MAIL FROM:<a@b.example> XATOLL= XID=%032x\r\nRCPT TO:<c@d.example>\r\n"


@pytest.fixture
async def hop(tmp_path):
    taken = []
    server = HopServer(lambda envelope, content, done: taken.append((content, done)), SystemClock(),
                       admit=lambda peer: True, host="x", limit=1 << 20, recipients=10)
    listening = await asyncio.get_running_loop().create_unix_server(server, sock=bound(tmp_path / "hop"))
    client = Client(*await asyncio.open_unix_connection(str(tmp_path / "hop")))
    assert (await client.reply()).startswith(b"220 ")
    yield server, client, taken
    client.close()
    listening.close()


def whole(at, text):
    return HEAD % at + b"BDAT %d LAST\r\n%s" % (len(text), text)


async def until(done):
    async with asyncio.timeout(5):
        while not done():
            await asyncio.sleep(0.01)


async def test_nothing_new_is_taken_when_it_is_to_go(hop):
    server, client, taken = hop
    client.send(whole(1, b"one"))
    await until(lambda: taken)
    draining = asyncio.create_task(server.drain(3))
    await asyncio.sleep(0.05)
    client.send(whole(2, b"two"))
    await asyncio.sleep(0.1)
    assert [content for content, _ in taken] == [b"one"]
    taken[0][1](replies.OK)
    said = await client.rest()
    assert [one[:3] for one in said] == [b"250", b"250", b"250", b"421"]
    assert [content for content, _ in taken] == [b"one"]
    await asyncio.wait_for(draining, 1)


async def test_what_was_begun_is_heard_to_its_end(hop):
    server, client, taken = hop
    client.send(HEAD % 1 + b"BDAT 6 LAST\r\none")
    await asyncio.sleep(0.05)
    draining = asyncio.create_task(server.drain(3))
    await asyncio.sleep(0.1)
    client.send(b"two")
    await until(lambda: taken)
    taken[0][1](replies.OK)
    assert [one[:3] for one in await client.rest()] == [b"250", b"250", b"250", b"421"]
    assert taken[0][0] == b"onetwo"
    await asyncio.wait_for(draining, 1)
