"""The hop from a frontend to transport: small messages that share a connection, large ones that do not."""

from __future__ import annotations

import asyncio
import re

import pytest

from atoll.formats.smtp.commands import MailFrom, RcptTo
from atoll.protocols.smtp import handoff
from atoll.protocols.smtp.handoff import Handoff, mail_line
from tests.eventually import eventually
from tests.transport.kit import bound

OK = b"250 2.0.0 Ok\r\n"


class Transport(asyncio.Protocol):
    """Transport as a test wants it: `script` answers a whole transaction."""

    def __init__(self, site):
        self.site = site
        self.data = b""
        self.reads = 0

    def connection_made(self, transport):
        self.transport = transport
        self.site.peers.append(self)
        transport.write(b"220 transport\r\n")

    def data_received(self, data):
        self.reads += 1
        self.data += data
        if self.data.startswith(b"EHLO"):
            self.data = self.data.partition(b"\r\n")[2]
            self.transport.write(b"250-transport\r\n250 CHUNKING\r\n")
        while found := re.search(rb"BDAT (\d+) LAST\r\n", self.data):
            end = found.end() + int(found[1])
            if len(self.data) < end:
                break
            self.site.seen.append(self.data[:end])
            self.data = self.data[end:]
            self.site.script(self)


class Site:
    def __init__(self, folder):
        self.path = folder / "smtp.sock"
        self.peers, self.seen = [], []
        self.script = lambda peer: peer.transport.write(OK * 3)
        self.hops = Handoff(self.path, "front.example", lambda peer: True)

    async def listen(self):
        loop = asyncio.get_running_loop()
        self.server = await loop.create_unix_server(lambda: Transport(self), sock=bound(self.path))

    def send(self, text=b"x", lane="mailbox-1"):
        answer = asyncio.get_running_loop().create_future()
        mail = mail_line(MailFrom("a@b.example", 0, "7BIT", False, "", ""), "", "00" * 16)
        self.hops.send(lane, mail, [RcptTo("c@d.example", frozenset(), "")], text, answer.set_result)
        return answer


@pytest.fixture
async def site(tmp_path):
    site = Site(tmp_path)
    await site.listen()
    yield site
    site.hops.close()
    site.server.close()


async def codes(*waiting):
    return [reply.code for reply in await asyncio.wait_for(asyncio.gather(*waiting), 5)]


async def test_those_of_a_lane_share_a_connection_and_a_write(site):
    assert await codes(site.send()) == [250]
    reads = site.peers[0].reads
    held = []
    site.script = lambda peer: held.append(peer)
    waiting = [site.send(b"%02d" % at) for at in range(20)]
    await eventually(lambda: [one[-2:] for one in site.seen[1:]], [b"%02d" % at for at in range(20)])
    assert site.peers[0].reads == reads + 1
    site.peers[0].transport.write((OK * 3 + OK * 2 + b"451 4.3.0 no\r\n" + OK + b"550 5.1.1 x\r\n554 5.5.1 y\r\n"
                                   + OK * 3) * 5)
    assert await codes(*waiting) == [250, 451, 550, 250] * 5
    assert len(site.peers) == 1


async def test_a_lane_does_not_wait_for_another(site):
    site.script = lambda peer: peer.transport.write(OK * 3) if site.seen[-1].endswith(b"2") else None
    slow = site.send(b"1")
    assert await codes(site.send(b"2", lane="mailbox-2")) == [250]
    assert not slow.done()
    assert len(site.peers) == 2


async def test_a_full_connection_is_not_waited_for(site, monkeypatch):
    monkeypatch.setattr(handoff, "DEPTH", 3)
    held = []
    site.script = lambda peer: held.append(peer)
    waiting = [site.send(b"%d" % at) for at in range(8)]
    await eventually(lambda: len(site.seen), 8)
    for peer in held:
        peer.transport.write(OK * 3)
    assert await codes(*waiting) == [250] * 8
    site.script = lambda peer: peer.transport.write(OK * 3)
    opened = len(site.peers)
    for _ in range(5):
        assert await codes(*[site.send() for _ in range(3)]) == [250] * 3
    taken = []
    site.hops.take(taken.append)
    assert taken[0] is not None
    assert len(site.peers) == opened  # the full ones went back to the pool


async def test_what_is_under_way_when_the_connection_goes_is_451(site):
    def script(peer):
        if site.seen[-1].endswith(b"0"):
            peer.transport.write(OK * 3)
        elif site.seen[-1].endswith(b"2"):
            peer.transport.write(OK * 2 + b"250 2.")
            peer.transport.close()

    assert await codes(site.send()) == [250]
    site.script = script
    assert await codes(*[site.send(b"%d" % at) for at in range(4)]) == [250, 451, 451, 451]
    site.script = lambda peer: peer.transport.write(OK * 3)
    assert await codes(site.send()) == [250]
    assert len(site.peers) == 2


async def test_transport_is_away(site):
    site.server.close()
    site.path.unlink(missing_ok=True)
    assert await codes(site.send()) == [451]
    await site.listen()
    assert await codes(site.send()) == [250]


async def test_a_connection_that_closes_is_handed_to_nobody(site):
    assert await codes(site.send()) == [250]
    first = site.hops._shared.pop("mailbox-1")
    site.hops._idle.append(first)
    first.close()
    answer = asyncio.get_running_loop().create_future()
    site.hops.take(answer.set_result)
    assert (await asyncio.wait_for(answer, 5)).usable


async def test_who_does_not_wait_for_the_greeting_leaves_no_connection(site, monkeypatch):
    ended = asyncio.Event()

    class Silent(asyncio.Protocol):
        def connection_lost(self, exc):
            ended.set()

    site.server.close()
    site.server = await asyncio.get_running_loop().create_unix_server(Silent, sock=bound(site.path))
    monkeypatch.setattr(handoff, "WAIT_SECONDS", 0.1)
    assert await site.hops.connect() is None
    await asyncio.wait_for(ended.wait(), 5)
    ended.clear()
    monkeypatch.setattr(handoff, "WAIT_SECONDS", 5)
    task = asyncio.create_task(site.hops.connect())
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait_for(ended.wait(), 5)
