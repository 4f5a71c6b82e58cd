"""The LMTP client: what it makes of answers, silence and lost connections."""

from __future__ import annotations

import asyncio

import pytest

from atoll.delivery.into_mailbox import LARGE, MAX_CONNECTIONS, IntoMailbox
from atoll.formats.smtp.replies import Reply
from atoll.transport.envelope import LmtpFacts, Target
from tests.eventually import eventually
from tests.transport.kit import bound

HELLO = b"220 mailbox LMTP\r\n"
READY = b"250-mailbox\r\n250 CHUNKING\r\n"


class Peer(asyncio.Protocol):
    """A mailbox process that says what a test wants: `script` gives the answer to a whole transaction."""

    def __init__(self, site):
        self.site = site
        self.data = b""
        self.reads = 0

    def connection_made(self, transport):
        self.transport = transport
        self.site.peers.append(self)
        transport.write(self.site.hello)

    def data_received(self, data):
        self.data += data
        self.reads += 1
        if self.data.startswith(b"LHLO"):
            self.data = self.data.partition(b"\r\n")[2]
            self.transport.write(self.site.ready)
        while b" LAST\r\n" in self.data:
            head, last, body = self.data.partition(b" LAST\r\n")
            size = int(head.rpartition(b" ")[2])
            if len(body) < size:
                break
            self.site.seen.append(head + last + body[:size])
            self.data = body[size:]
            self.site.script(self)


class Site:
    def __init__(self, folder):
        self.path = folder / "lmtp.sock"
        self.hello, self.ready = HELLO, READY
        self.peers, self.seen = [], []
        self.script = lambda peer: peer.transport.write(b"250 ok\r\n250 ok\r\n250 2.1.5 Ok copies=1\r\n")
        self.into = IntoMailbox(lambda backend: self.path, lambda peer: self.trusted, patience=1)
        self.trusted = True

    async def listen(self):
        self.server = await asyncio.get_running_loop().create_unix_server(lambda: Peer(self), sock=bound(self.path))

    async def deliver(self, count=1, sender="a@b.example", content=b"x", databases=("db1",), alone=False):
        answer = asyncio.get_running_loop().create_future()
        targets = [Target(bytes([65 + at]) * 16, databases[at % len(databases)], LmtpFacts(b"key"))
                   for at in range(count)]
        self.into.deliver("mailbox-1", sender, targets, content, answer.set_result, alone=alone)
        return await asyncio.wait_for(answer, 5)


@pytest.fixture
async def site(tmp_path):
    site = Site(tmp_path)
    await site.listen()
    yield site
    site.into.close()
    site.server.close()


async def codes(waiting):
    return [reply.code for reply in await waiting]


async def test_one_write_one_lhlo_one_connection(site):
    for _ in range(3):
        assert await site.deliver() == [Reply(250, "2.1.5", "Ok copies=1")]
    assert len(site.peers) == 1
    assert site.seen[0].startswith(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<" + b"41" * 16 + b"@db1> XATOLL=")
    assert site.seen[0].endswith(b"\r\nBDAT 1 LAST\r\nx")


async def test_each_recipient_his_reply(site):
    site.script = lambda peer: peer.transport.write(
        b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n552 5.2.2 full\r\n250 2.1.5 Ok\r\n")
    assert await codes(site.deliver(3)) == [552, 550, 250]


@pytest.mark.parametrize("step", [1, 5])
async def test_replies_in_pieces(site, step):
    def script(peer):
        said = b"250 ok\r\n250 ok\r\n250-2.1.5 two\r\n250 2.1.5 lines\r\n"
        for at in range(0, len(said), step):
            peer.transport.write(said[at : at + step])

    site.script = script
    assert await codes(site.deliver()) == [250]


async def test_nobody_accepted(site):
    site.script = lambda peer: peer.transport.write(b"250 ok\r\n550 5.1.1 a\r\n451 4.2.1 b\r\n554 5.5.1 none\r\n")
    assert await codes(site.deliver(2)) == [550, 451]
    site.script = lambda peer: peer.transport.write(b"250 ok\r\n250 ok\r\n250 ok\r\n")
    assert await codes(site.deliver()) == [250]


async def test_not_understood_is_no_verdict_on_the_recipient(site):
    site.script = lambda peer: peer.transport.write(b"501 5.5.4 what\r\n503 5.5.1 x\r\n554 5.5.1 none\r\n")
    assert await codes(site.deliver()) == [451]


async def test_utf8_sender_says_so(site):
    assert await codes(site.deliver(sender="ü@b.example")) == [250]
    assert site.seen[0].startswith("MAIL FROM:<ü@b.example> SMTPUTF8\r\n".encode())


async def test_silence(site):
    site.script = lambda peer: None
    begin = asyncio.get_running_loop().time()
    assert await codes(site.deliver(2)) == [451, 451]
    assert 0.95 < asyncio.get_running_loop().time() - begin < 3


async def test_silence_after_one_of_two(site):
    site.script = lambda peer: peer.transport.write(b"250 ok\r\n250 ok\r\n250 ok\r\n250 2.1.5 Ok\r\n")
    assert await codes(site.deliver(2)) == [250, 451]


@pytest.mark.parametrize("said", [
    b"", b"250 ok\r\n", b"250 ok\r\n250 ok\r\n", b"250 ok\r\n250 ok\r\n25", b"421 4.3.2 bye\r\n", b"hello\r\n"])
async def test_connection_lost(site, said):
    def script(peer):
        peer.transport.write(said)
        peer.transport.close()

    site.script = script
    assert await codes(site.deliver()) == [451]
    site.script = lambda peer: peer.transport.write(b"250 ok\r\n250 ok\r\n250 ok\r\n")
    assert await codes(site.deliver()) == [250]


async def test_no_greeting(site):
    site.hello = b""
    site.ready = b""
    assert await codes(site.deliver()) == [451]


@pytest.mark.parametrize("ready", [b"500 what\r\n", b"hello\r\n"])
async def test_bad_greeting(site, ready):
    site.ready = ready
    assert await codes(site.deliver()) == [451]


async def test_nobody_listens(site):
    site.server.close()
    site.path.unlink(missing_ok=True)
    assert await codes(site.deliver()) == [451]
    await site.listen()
    assert await codes(site.deliver()) == [250]


async def test_somebody_else_listens(site):
    site.trusted = False
    assert await codes(site.deliver()) == [451]
    assert site.seen == []


async def test_many_at_once_share_the_connections(site):
    found = await asyncio.gather(*[site.deliver() for _ in range(500)])
    assert {reply.code for (reply,) in found} == {250}
    assert len(site.peers) <= MAX_CONNECTIONS
    assert len(site.seen) == 500


OK = b"250 ok\r\n250 ok\r\n250 2.1.5 Ok copies=1\r\n"


async def test_small_ones_do_not_wait_for_answers_and_share_a_write(site):
    held = []

    def script(peer):
        held.append(peer)
        if len(held) == 21:
            peer.transport.write(OK * 20)

    site.script = lambda peer: peer.transport.write(OK)
    await site.deliver()  # connected
    reads = site.peers[0].reads
    site.script = script
    held.append(None)
    found = await asyncio.gather(*[site.deliver(content=b"%d" % at) for at in range(20)])
    assert [reply.code for (reply,) in found] == [250] * 20
    assert len(site.peers) == 1
    assert site.peers[0].reads == reads + 1
    assert [one[-2:] for one in site.seen[1:]] == [b"%2d" % at if at > 9 else b"\n%d" % at for at in range(20)]


async def test_each_answer_to_its_own(site):
    def script(peer):
        said = {b"0": OK, b"1": b"250 ok\r\n550 5.1.1 no\r\n554 5.5.1 none\r\n",
                b"2": b"250 ok\r\n250 ok\r\n552 5.2.2 full\r\n",
                b"3": b"250 ok\r\n250 ok\r\n451 4.2.1 x\r\n"}[site.seen[-1][-1:]]
        peer.transport.write(said[:9])
        peer.transport.write(said[9:])

    site.script = script
    found = await asyncio.gather(*[site.deliver(content=b"%d" % (at % 4)) for at in range(40)])
    assert [reply.code for (reply,) in found] == [250, 550, 552, 451] * 10
    assert len(site.peers) == 1


async def test_what_is_under_way_when_the_connection_goes_is_unknown(site):
    def script(peer):
        if site.seen[-1].endswith(b"0"):
            peer.transport.write(OK)
        elif site.seen[-1].endswith(b"2"):
            peer.transport.write(OK[:20])
            peer.transport.close()

    site.script = script
    found = await asyncio.gather(*[site.deliver(content=b"%d" % at) for at in range(4)])
    assert [(reply.code, reply.status) for (reply,) in found] == [
        (250, "2.1.5"), (451, "4.4.2"), (451, "4.4.2"), (451, "4.4.2")]


async def test_a_silent_one_keeps_neither_those_behind_it_nor_new_ones(site):
    site.script = lambda peer: None
    first = asyncio.ensure_future(site.deliver())
    await asyncio.sleep(0.5)
    second = asyncio.ensure_future(site.deliver())
    # it is slow, it has not died of the message: no reason to let the message wait for long (retries)
    assert [(reply.code, reply.status) for reply in await first] == [(451, "4.3.0")]
    site.script = lambda peer: peer.transport.write(OK)
    assert await codes(site.deliver()) == [250]  # over another connection
    assert len(site.peers) == 2
    site.peers[0].transport.write(b"250 ok\r\n250 ok\r\n552 5.2.2 late\r\n" + OK)
    assert await codes(second) == [250]
    await eventually(site.peers[0].transport.is_closing)


async def test_one_alone_is_beside_nothing_else(site):
    site.script = lambda peer: None
    before = [asyncio.ensure_future(site.deliver(content=b"%d" % at, databases=(f"db{at}",))) for at in range(2)]
    await eventually(lambda: len(site.seen), 2)
    alone = [asyncio.ensure_future(site.deliver(content=b"alone%d" % at, alone=True)) for at in range(2)]
    await asyncio.sleep(0.05)
    after = asyncio.ensure_future(site.deliver(content=b"after"))
    await asyncio.sleep(0.05)
    assert len(site.seen) == 2
    for peer in site.peers:
        peer.transport.write(OK)
    await asyncio.gather(*before)
    await eventually(lambda: [one[-6:] for one in site.seen[2:]], [b"alone0"])
    for peer in site.peers:
        peer.transport.close()
    assert [(one.code, one.status, one.text) for one in await alone[0]] == [
        (451, "4.4.2", "The connection was lost over this message alone")]
    site.script = lambda peer: peer.transport.write(OK)
    assert await codes(after) == [250]
    assert await codes(alone[1]) == [250]
    assert [one[-6:] for one in site.seen[2:]] == [b"alone0", b"\nafter", b"alone1"]


async def test_one_alone_that_is_not_answered_is_as_one_that_ended_the_process(site):
    site.script = lambda peer: None
    alone = asyncio.ensure_future(site.deliver(alone=True))
    after = asyncio.ensure_future(site.deliver())
    await asyncio.sleep(0.5)
    site.script = lambda peer: peer.transport.write(OK)
    assert [(one.code, one.status) for one in await alone] == [(451, "4.4.2")]
    assert [(one.code, one.status) for one in await after] == [(451, "4.3.0")]  # no fault of its own
    assert await codes(site.deliver()) == [250]
    site.server.close()
    site.path.unlink()
    for peer in site.peers:
        peer.transport.close()
    await asyncio.sleep(0.05)
    assert [(one.code, one.status) for one in await site.deliver(alone=True)] == [(451, "4.3.0")]  # nobody is there
    assert [(one.code, one.status) for one in await site.deliver()] == [(451, "4.3.0")]


async def test_a_large_one_has_a_connection_of_its_own(site):
    site.script = lambda peer: peer.transport.write(OK) if len(site.seen[-1]) < LARGE else None
    await site.deliver()
    large = asyncio.ensure_future(site.deliver(content=b"x" * LARGE))
    await eventually(lambda: len(site.seen), 2)
    assert await codes(site.deliver()) == [250]
    assert len(site.peers) == 2
    assert not large.done()
    assert await codes(large) == [451]


async def test_a_database_does_not_wait_for_another(site):
    site.script = lambda peer: peer.transport.write(OK) if b"@db2>" in site.seen[-1] else None
    slow = asyncio.ensure_future(site.deliver())
    await asyncio.sleep(0)
    assert await codes(site.deliver(databases=("db2",))) == [250]
    assert await codes(slow) == [451]


async def test_a_backend_without_a_socket(tmp_path):
    def path_of(backend):
        raise ValueError(backend)

    answer = asyncio.get_running_loop().create_future()
    IntoMailbox(path_of, lambda peer: True).deliver("queue", "", [Target(b"A" * 16, "q", LmtpFacts(b""))], b"",
                                                    answer.set_result)
    assert [reply.code for reply in await answer] == [451]
