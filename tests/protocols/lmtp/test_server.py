"""LMTP in the mailbox process: spoken to octet by octet, over its socket, with a real store."""

from __future__ import annotations

import asyncio
import base64

import msgspec
import pytest

from atoll.protocols.lmtp.server import LmtpServer
from atoll.transport.envelope import LmtpFacts
from tests.mailbox.kit import ALICES, BOBS, Directory, mounted
from tests.transport.kit import Client, bound

ALICE = ALICES.hex().encode() + b"@db1"
BOB = BOBS.hex().encode() + b"@db1"


def rcpt(whom: bytes = ALICE, key: bytes = b"k", **facts: object) -> bytes:
    word = base64.urlsafe_b64encode(msgspec.msgpack.encode(LmtpFacts(key, **facts)))  # type: ignore[arg-type]
    return b"RCPT TO:<" + whom + b"> XATOLL=" + word


class Site:
    """A store, its LMTP server, a client."""

    def __init__(self, store, directory, path):
        self.store = store
        self.directory = directory
        self.path = path
        self.peers = []

    async def start(self):
        self.server = LmtpServer(self.store, admit=lambda peer: not self.peers or peer.pid in self.peers)
        await self.server.serve(bound(self.path))

    async def connect(self):
        client = Client(*await asyncio.open_unix_connection(str(self.path)))
        assert (await client.reply()).startswith(b"220 ")
        assert b"CHUNKING" in await client.say(b"LHLO transport")
        return client

    async def held(self, mailbox=ALICES, path="INBOX"):
        from atoll.mailbox import Want

        access = await self.store.open(mailbox, self.directory.infos[mailbox].user)
        return [bytes(access.row_blob(row)) for row in access.rows(access.folder(path), 1, 2**32 - 1, Want.HOT)]


@pytest.fixture
async def site(tmp_path):
    directory = Directory()
    async with mounted(tmp_path, directory) as store:
        site = Site(store, directory, tmp_path / "lmtp.sock")
        await site.start()
        yield site
        await site.server.close()


async def replies(client, count):
    return [await client.reply() for _ in range(count)]


@pytest.mark.parametrize("step", [1, 7, 10_000])
async def test_a_transaction_in_any_pieces(site, step):
    client = await site.connect()
    lines = [b"MAIL FROM:<a@b.example>", rcpt(), rcpt(BOB), b"BDAT 8", b"Subject:BDAT 7 LAST", b" x\r\n", b"."]
    data = b"\r\n".join(lines)
    for at in range(0, len(data), step):
        client.send(data[at : at + step])
        await client.writer.drain()
    got = await replies(client, 6)
    assert got[3].startswith(b"250 ")
    assert got[4:] == [b"250 2.1.5 Ok copies=1\r\n"] * 2
    assert await site.held() == [b"Return-Path: <a@b.example>\r\nSubject: x\r\n\r\n."]
    assert await site.held(BOBS) == await site.held()


@pytest.mark.parametrize(("given", "kept"), [
    (b"A: 1\r\nReturn-Path: <x@y>\r\nB: 2\r\n\r\nReturn-Path: b\r\n", b"A: 1\r\nB: 2\r\n\r\nReturn-Path: b\r\n"),
    (b"A: 1\r\nreturn-PATH :\r\n <x@y>\r\nReturn-Path: z\r\n\r\n", b"A: 1\r\n\r\n"),
    (b"A: 1\r\nReturn-Pathology: x\r\n\r\n", b"A: 1\r\nReturn-Pathology: x\r\n\r\n"),
    (b"A: 1\r\n Return-Path: folded\r\n\r\n", b"A: 1\r\n Return-Path: folded\r\n\r\n"),
])
async def test_one_return_path(site, given, kept):
    """[RFC 5321 §4.4]: exactly one when a message is delivered, and that is the envelope's."""
    client = await site.connect()
    client.send(b"MAIL FROM:<a@b.example>\r\n" + rcpt() + b"\r\nBDAT %d LAST\r\n" % len(given) + given)
    assert (await replies(client, 3))[2].startswith(b"250 ")
    assert await site.held() == [b"Return-Path: <a@b.example>\r\n" + kept]


async def test_the_same_key_again_is_the_same_copy(site):
    client = await site.connect()
    for _ in range(2):
        client.send(b"MAIL FROM:<>\r\n" + rcpt(key=b"once") + b"\r\nBDAT 4 LAST\r\n\r\nx\n")
        assert (await replies(client, 3))[2] == b"250 2.1.5 Ok copies=1\r\n"
    assert len(await site.held()) == 1


async def test_each_recipient_has_his_own_reply(site):
    from atoll.directory.client.model import Quota

    site.directory.change(BOBS, quota=Quota(0, 0, 1))
    client = await site.connect()
    nobody = (b"N" * 16).hex().encode() + b"@db1"
    client.send(b"MAIL FROM:<>\r\n" + b"\r\n".join([rcpt(), rcpt(BOB), rcpt(nobody)]) + b"\r\nBDAT 2 LAST\r\n\r\n")
    assert [one[:9] for one in (await replies(client, 7))[4:]] == [b"250 2.1.5", b"552 5.2.2", b"550 5.1.1"]


@pytest.mark.parametrize("state", ["locked", "arriving", "moved"])
async def test_a_mailbox_that_is_not_active_is_temporary(site, state):
    site.directory.change(ALICES, state=state)
    client = await site.connect()
    client.send(b"MAIL FROM:<>\r\n" + rcpt() + b"\r\nBDAT 2 LAST\r\n\r\n")
    assert (await replies(client, 3))[2].startswith(b"451 4.2.1")


async def test_a_database_that_is_not_mounted_is_temporary(site):
    await site.store.dismount("db1")
    client = await site.connect()
    client.send(b"MAIL FROM:<>\r\n" + rcpt() + b"\r\nBDAT 2 LAST\r\n\r\n")
    assert (await replies(client, 3))[2].startswith(b"451 4.2.1")


async def test_detail(site):
    access = await site.store.open(ALICES, site.directory.infos[ALICES].user)
    await access.create("Lists")
    client = await site.connect()
    for detail in ("Lists", "nowhere", "Recoverable Items", "../x"):
        client.send(b"MAIL FROM:<>\r\n" + rcpt(key=detail.encode(), detail=detail) + b"\r\nBDAT 2 LAST\r\n\r\n")
        assert (await replies(client, 3))[2].startswith(b"250 ")
    assert [len(await site.held(path=path)) for path in ("Lists", "INBOX")] == [1, 3]


@pytest.mark.parametrize("line", [
    b"RCPT TO:<short@db1>", b"RCPT TO:<" + ALICE + b">", b"RCPT TO:<" + ALICE + b"> XATOLL=!",
    b"RCPT TO:<> XATOLL=gA==", b"RCPT TO:<" + ALICE + b"> XATOLL=gA==", b"FOO", b"MAIL", b"BDAT x", b"\xff\xfe"])
async def test_out_of_form(site, line):
    client = await site.connect()
    await client.say(b"MAIL FROM:<>")
    assert (await client.say(line))[:1] in (b"5",)
    assert (await client.say(b"NOOP")).startswith(b"250 ")
    assert await site.held() == []


async def test_a_quoted_sender(site):
    client = await site.connect()
    client.send(b'MAIL FROM:<"a>b"@c.example>\r\n' + rcpt() + b"\r\nBDAT 2 LAST\r\n\r\n")
    assert (await replies(client, 3))[2].startswith(b"250 ")
    assert await site.held() == [b'Return-Path: <"a>b"@c.example>\r\n\r\n']


async def test_no_recipient_no_delivery(site):
    client = await site.connect()
    await client.say(b"MAIL FROM:<>")
    client.send(b"BDAT 2 LAST\r\n\r\n")
    assert (await client.reply()).startswith(b"554 5.5.1")


async def test_a_stranger_is_not_heard(site):
    site.peers = [1]
    client = Client(*await asyncio.open_unix_connection(str(site.path)))
    assert await client.reply() == b""


async def test_close_answers_what_is_under_way(site):
    client = await site.connect()
    client.send(b"MAIL FROM:<>\r\n" + rcpt() + b"\r\nBDAT 2 LAST\r\n\r\n")
    await replies(client, 2)
    await asyncio.sleep(0)
    await site.server.close()
    rest = await client.rest()
    assert rest[-1].startswith(b"421 ")
    assert len(await site.held()) == sum(one.startswith(b"250 ") for one in rest)


@pytest.mark.parametrize("content", [
    b"", b"\0\0\0", b"no header at all", b"\r\n" * 1000, b"Subject: \xff\xfe\r\n\r\n\n\n\r\r",
    b"From: a\nTo: b\n\nbare\n",
    b"Content-Type: multipart/mixed; boundary=" + b"x" * 5000 + b"\r\n\r\n--x"])
async def test_content_is_stored_octet_by_octet(site, content):
    client = await site.connect()
    client.send(b"MAIL FROM:<>\r\n" + rcpt() + b"\r\nBDAT %d LAST\r\n" % len(content) + content)
    assert (await replies(client, 3))[2].startswith(b"250 ")
    assert await site.held() == [b"Return-Path: <>\r\n" + content]


def whole(subject: bytes, key: bytes, whom: bytes = ALICE) -> bytes:
    return b"MAIL FROM:<>\r\n" + rcpt(whom, key=key) + b"\r\nBDAT %d LAST\r\n" % (len(subject) + 2) + subject + b"\r\n"


@pytest.mark.parametrize("limit", [2, 256])
async def test_transactions_that_do_not_wait_are_delivered_together_and_answered_in_order(site, monkeypatch, limit):
    from atoll.protocols.lmtp import server

    monkeypatch.setattr(server, "MAX_UNDER_WAY", limit)
    nobody = (b"N" * 16).hex().encode() + b"@db1"
    whom = [ALICE, nobody, BOB, ALICE, ALICE] * 4
    client = await site.connect()
    before = site.store.database("db1").writer.groups
    client.send(b"".join([whole(b"S%d" % at, b"%d" % at, one) for at, one in enumerate(whom)]))
    got = await replies(client, 3 * len(whom))
    assert [one[:9] for one in got[2::3]] == [b"550 5.1.1" if one == nobody else b"250 2.1.5" for one in whom]
    assert [one.split(b"\r\n")[1] for one in await site.held()] == [
        b"S%d" % at for at, one in enumerate(whom) if one == ALICE]
    groups = site.store.database("db1").writer.groups - before
    assert groups < 8 if limit == 256 else groups >= 8  # two mailboxes are made


async def test_an_answer_that_is_late_keeps_those_behind_it_in_order(site):
    answer = asyncio.Event()
    lookup = site.store._lookup

    async def slow(mailbox):
        if mailbox == BOBS:
            await answer.wait()
        return await lookup(mailbox)

    site.store._lookup = slow
    client = await site.connect()
    client.send(whole(b"A", b"1") + whole(b"B", b"2", BOB) + whole(b"C", b"3") + b"NOOP\r\n")
    assert (await replies(client, 3))[2].startswith(b"250 2.1.5")
    for _ in range(50):
        if len(await site.held()) == 2:
            break
        await asyncio.sleep(0.02)
    assert len(await site.held()) == 2  # C is there, its answer waits
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.05)
    answer.set()
    got = await replies(client, 7)
    assert [one[:9] for one in got[2::3]] == [b"250 2.1.5"] * 2
    assert got[6].startswith(b"250 ")


async def test_quit_comes_after_what_is_under_way(site):
    client = await site.connect()
    client.send(whole(b"A", b"1") + b"QUIT\r\n")
    rest = await client.rest()
    assert rest[2].startswith(b"250 2.1.5")
    assert rest[-1].startswith(b"221 ")


@pytest.mark.parametrize("step", [1, 100, 10_000])
async def test_messages_for_one_recipient_in_any_pieces(site, step):
    """Whole ones are taken as one, others line by line: nobody can tell."""
    client = await site.connect()
    nobody = b"RCPT TO:<" + b"e" * 32 + b"@db1> XATOLL="
    data = b"".join([
        b"MAIL FROM:<a@b.example>\r\n", rcpt(), b"\r\nBDAT 14 LAST\r\n", b"Subject: 1\r\n\r\n",
        b"MAIL FROM:<> SMTPUTF8\r\n", rcpt(BOB, key=b"l"), b"\r\nBDAT 14 LAST\r\n", b"Subject: 2\r\n\r\n",
        b"MAIL FROM:<a@b.example>\r\n", nobody, b"x\r\nBDAT 4 LAST\r\n", b"QUIT",
        b"MAIL FROM:<a@b.example>\r\n", b"BDAT 4 LAST\r\n", b"QUIT",
        b"MAIL FROM:<\xc3\xa4@b.example> SMTPUTF8\r\n", rcpt(BOB, key=b"m"), b"\r\nBDAT 0 LAST\r\n",
    ])
    for at in range(0, len(data), step):
        client.send(data[at : at + step])
        await client.writer.drain()
    codes = [reply[:3] for reply in await replies(client, 14)]
    assert codes == [b"250"] * 6 + [b"250", b"501", b"554"] + [b"250", b"554"] + [b"250"] * 3
    assert await site.held() == [b"Return-Path: <a@b.example>\r\nSubject: 1\r\n\r\n"]
    assert sorted(await site.held(BOBS)) == [
        b"Return-Path: <>\r\nSubject: 2\r\n\r\n", b"Return-Path: <\xc3\xa4@b.example>\r\n"]  # at the same time
