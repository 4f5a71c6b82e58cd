"""POP3 end to end: a client over TLS, the frontend's half, a real sign-in, the mailbox process's half."""

from __future__ import annotations

import asyncio
import base64
import poplib
import time

import pytest

from atoll.mailbox import Flag
from atoll.protocols.pop3.maildrop import Maildrop
from tests.directory.conftest import PASSWORD

ONE = b"Subject: one\r\nFrom: a@example.com\r\n\r\nfirst\r\n.dot\r\n..\r\nlast"
TWO = b"Subject: two\r\n\r\n" + b"line\r\n" * 100


async def test_a_session_from_stat_to_quit(pop):
    uids = await pop.put(ONE, TWO)
    client = await pop.sign_in()
    assert await client.say(b"STAT") == b"+OK 2 %d\r\n" % (len(ONE) + len(TWO))
    assert await client.ask(b"LIST") == b"1 %d\r\n2 %d\r\n" % (len(ONE), len(TWO))
    assert await client.say(b"LIST 2") == b"+OK 2 %d\r\n" % len(TWO)
    uidl = (await client.ask(b"UIDL")).split()
    assert [item.split(b".")[1] for item in uidl[1::2]] == [b"%d" % uid for uid in uids]
    assert await client.say(b"UIDL 1") == b"+OK 1 " + uidl[1] + b"\r\n"
    assert await client.ask(b"RETR 1") == ONE + b"\r\n"
    assert await client.ask(b"TOP 2 0") == b"Subject: two\r\n\r\n"
    assert await client.ask(b"TOP 2 3") == b"Subject: two\r\n\r\n" + b"line\r\n" * 3
    assert await client.ask(b"TOP 2 1000") == TWO
    assert (await client.say(b"NOOP")).startswith(b"+OK")
    assert (await client.say(b"DELE 1")).startswith(b"+OK")
    assert (await client.say(b"RETR 1")).startswith(b"-ERR")
    assert await client.say(b"STAT") == b"+OK 1 %d\r\n" % len(TWO)
    assert await client.ask(b"LIST") == b"2 %d\r\n" % len(TWO)
    assert (await client.say(b"RSET")).startswith(b"+OK")
    assert (await client.say(b"DELE 2")).startswith(b"+OK")
    assert (await client.say(b"QUIT")).startswith(b"+OK")
    assert await client.ended()
    assert [(uid, flags & Flag.SEEN) for uid, flags in await pop.inbox()] == [(uids[0], Flag.SEEN)]


async def test_pipelined_commands_behind_the_password(pop):
    await pop.put(ONE, TWO)
    client = await pop.connect()
    client.writer.write(b"USER alice@example.test\r\nPASS " + PASSWORD + b"\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n")
    got = await asyncio.wait_for(client.reader.read(), 10)
    assert got.count(b"+OK") == 6
    assert got.endswith(b"+OK Bye\r\n")
    assert len(await pop.inbox()) == 1


@pytest.mark.parametrize("size", [600_000, 3_000_000])
async def test_large_messages_by_pieces(pop, size):
    body = (b".leading dot and some more text to fill a line with\r\n" * (size // 53 + 1))[:size]
    await pop.put(b"Subject: big\r\n\r\n" + body)
    client = await pop.sign_in()
    got = await client.ask(b"RETR 1")
    assert got.rstrip(b"\r\n") == (b"Subject: big\r\n\r\n" + body).rstrip(b"\r\n")
    assert await client.ask(b"TOP 1 2") == b"Subject: big\r\n\r\n" + body[: 2 * 53]


async def test_capabilities_differ_before_and_after_tls(pop):
    client = await pop.connect(tls=False)
    clear = (await client.ask(b"CAPA")).splitlines()
    assert b"STLS" in clear
    assert b"USER" not in clear
    secure = (await (await pop.connect()).ask(b"CAPA")).splitlines()
    assert b"STLS" not in secure
    assert {b"USER", b"SASL PLAIN LOGIN", b"TOP", b"UIDL", b"PIPELINING", b"RESP-CODES"} <= set(secure)
    inside = (await (await pop.sign_in()).ask(b"CAPA")).splitlines()
    assert {b"TOP", b"UIDL", b"EXPIRE NEVER", b"AUTH-RESP-CODE", b"IMPLEMENTATION Atoll"} <= set(inside)
    assert inside == secure  # [RFC 2449 §6, RFC 5034 §3]: all of them are announced in both states, and the same


async def test_no_password_in_the_clear(pop):
    client = await pop.connect(tls=False)
    for line in (b"USER alice@example.test", b"PASS x", b"AUTH PLAIN", b"AUTH LOGIN"):
        assert (await client.say(line)).startswith(b"-ERR")


@pytest.mark.parametrize("initial", [True, False])
async def test_auth_plain(pop, initial):
    words = base64.b64encode(b"\0alice@example.test\0" + PASSWORD)
    client = await pop.connect()
    if initial:
        assert (await client.say(b"AUTH PLAIN " + words)).startswith(b"+OK")
    else:
        assert await client.say(b"AUTH PLAIN") == b"+ \r\n"
        assert (await client.say(words)).startswith(b"+OK")
    assert (await client.say(b"STAT")) == b"+OK 0 0\r\n"


async def test_auth_login_and_cancel(pop):
    client = await pop.connect()
    assert (await client.say(b"AUTH LOGIN")).startswith(b"+ ")
    assert (await client.say(b"*")).startswith(b"-ERR")
    assert (await client.say(b"AUTH LOGIN")).startswith(b"+ ")
    assert (await client.say(base64.b64encode(b"alice@example.test"))).startswith(b"+ ")
    assert (await client.say(base64.b64encode(PASSWORD))).startswith(b"+OK")


async def test_wrong_password_and_unknown_user_read_alike(pop):
    answers = []
    for user in (b"alice@example.test", b"nobody@example.test"):
        client = await pop.connect()
        await client.say(b"USER " + user)
        answers.append(await client.say(b"PASS wrong"))
    assert answers[0].startswith(b"-ERR [AUTH]")
    assert answers[0] == answers[1]


async def test_poplib_over_stls(pop):
    await pop.put(ONE)

    def session():
        client = poplib.POP3("127.0.0.1", pop.clear_port, timeout=10)
        client.stls(pop.client_context())
        client.user("alice@example.test")
        client.pass_(PASSWORD.decode())
        try:
            return client.retr(1)[1], client.uidl()[1]
        finally:
            client.quit()

    lines, uidl = await asyncio.to_thread(session)
    assert lines == ONE.split(b"\r\n")
    assert len(uidl) == 1


async def test_revoked_sessions_end_within_a_second(pop, house):
    client = await pop.sign_in()
    info = await pop.backend_client.mailbox_of("alice@example.test")
    await house.parts.register.end_sessions(info.user)
    async with asyncio.timeout(1):
        assert await client.ended()


async def test_messages_expunged_by_others_keep_their_numbers(pop):
    uids = await pop.put(ONE, TWO)
    client = await pop.sign_in()
    await pop.expunge(uids[0])
    assert (await client.say(b"RETR 1")).startswith(b"-ERR")
    assert await client.ask(b"RETR 2") == TWO
    await client.say(b"DELE 1")
    assert (await client.say(b"QUIT")).startswith(b"+OK")
    assert len(await pop.inbox()) == 1


async def test_a_mailbox_process_that_is_away_is_a_temporary_refusal(pop, monkeypatch):
    monkeypatch.setattr(pop.proxy, "socket_of", lambda name: pop.folder / "nobody.sock")
    client = await pop.connect()
    await client.say(b"USER alice@example.test")
    assert (await client.say(b"PASS " + PASSWORD)).startswith(b"-ERR [SYS/TEMP]")
    monkeypatch.undo()
    await client.say(b"USER alice@example.test")
    assert (await client.say(b"PASS " + PASSWORD)).startswith(b"+OK")


async def test_thousand_pipelined_retrievals(pop):
    await pop.put(*[b"Subject: %d\r\n\r\n" % at + b"x" * 4000 for at in range(1000)])
    client = await pop.sign_in()
    started = time.perf_counter()
    client.writer.write(b"".join(b"RETR %d\r\n" % at for at in range(1, 1001)))
    for _ in range(1000):
        assert (await client.line()).startswith(b"+OK")
        await client.text()
    assert time.perf_counter() - started < 10


async def test_a_client_that_says_quit_and_goes_has_deleted(pop, monkeypatch):
    uids = await pop.put(ONE, TWO)
    real = Maildrop.update
    begun = asyncio.Event()

    async def slow(self):
        begun.set()
        await asyncio.sleep(0.2)
        return await real(self)

    monkeypatch.setattr(Maildrop, "update", slow)
    client = await pop.sign_in()
    assert (await client.say(b"DELE 1")).startswith(b"+OK")
    client.writer.write(b"QUIT\r\n")
    await asyncio.wait_for(begun.wait(), 5)
    client.writer.transport.abort()
    await asyncio.sleep(0.5)
    assert [uid for uid, _ in await pop.inbox()] == [uids[1]]
    assert await (await pop.sign_in()).say(b"STAT") == b"+OK 1 %d\r\n" % len(TWO)
