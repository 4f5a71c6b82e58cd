"""POP3 rows of the attack catalogue: one test per input of each row, named by its id."""

from __future__ import annotations

import asyncio
import poplib

import pytest

from tests.directory.conftest import PASSWORD
from tests.protocols.pop3.conftest import house, pop

__all__ = ["house", "pop"]

MESSAGE = b"Subject: one\r\n\r\nbody\r\n"


async def test_P001_password_flood_ends(pop):
    client = await pop.connect()
    answers = []
    for _ in range(25):
        client.writer.write(b"PASS guess\r\n")
    while line := await client.line():
        answers.append(line)
    assert len(answers) <= 20
    assert all(answer.startswith(b"-ERR") for answer in answers)


async def test_P001_user_and_password_flood_ends(pop):
    client = await pop.connect()
    client.writer.write(b"".join(b"USER alice@example.test\r\nPASS guess%d\r\n" % at for at in range(50)))
    answers = []
    while line := await client.line():
        answers.append(line)
    refused = [line for line in answers if line.startswith(b"-ERR")]
    assert 10 <= len(refused) <= 20
    assert any(b"[AUTH]" in line for line in refused)
    assert not any(line.startswith(b"+OK") for line in answers[1::2])
    client = await pop.connect()  # from there even the right one is not looked at for a while
    await client.say(b"USER alice@example.test")
    assert (await client.say(b"PASS " + PASSWORD)).startswith(b"-ERR")


async def test_P001_flood_of_bad_commands_after_sign_in_ends(pop):
    client = await pop.sign_in()
    client.writer.write(b"XYZZY\r\n" * 30)
    answers = 0
    while await client.line():
        answers += 1
    assert answers == 20


async def test_P001_user_flood_is_one_state(pop):
    client = await pop.connect()
    for _ in range(1000):
        assert (await client.say(b"USER alice@example.test")).startswith(b"+OK")
    assert (await client.say(b"PASS " + PASSWORD)).startswith(b"+OK")


@pytest.mark.parametrize("signed_in", [True, False])
async def test_P001_apop(pop, signed_in):
    client = await (pop.sign_in() if signed_in else pop.connect())
    assert (await client.say(b"APOP alice c4c9334bac560ecc979e58001b3e22fb")).startswith(b"-ERR")


@pytest.mark.parametrize(
    "line",
    [
        b"TOP 1 999999999999",
        b"TOP 1 -1",
        b"TOP 1",
        b"RETR 0",
        b"RETR 2",
        b"RETR 99999999999999999999",
        b"RETR",
        b"RETR 1 1",
        b"LIST -1",
        b"LIST 1 2",
        b"UIDL 0",
        b"DELE x",
        b"DELE 1\0",
        b"\0",
        b"",
        b"XYZZY",
        b"USER alice",
        b"PASS x",
        b"AUTH ATOLL A1.x.y",
        b"STLS",
    ],
)
async def test_P001_bad_arguments(pop, line):
    await pop.put(MESSAGE)
    client = await pop.sign_in()
    assert (await client.say(line)).startswith(b"-ERR")
    assert (await client.say(b"STAT")).startswith(b"+OK 1 ")


async def test_P001_deleted_then_killed(pop):
    await pop.put(MESSAGE)
    client = await pop.sign_in()
    assert (await client.say(b"DELE 1")).startswith(b"+OK")
    client.writer.transport.abort()
    await pop.all_ended()
    assert len(await pop.inbox()) == 1


@pytest.mark.parametrize("behind", [b"USER alice@example.test\r\n", b"CAPA\r\n", b"x", b"\r\n"])
async def test_P001_stls_injection(pop, behind):
    client = await pop.connect(tls=False)
    client.writer.write(b"STLS\r\n" + behind)
    assert await client.ended()


async def test_P001_nothing_said_in_the_clear_counts_after_stls(pop):
    def session() -> None:
        client = poplib.POP3("127.0.0.1", pop.clear_port, timeout=10)
        with pytest.raises(poplib.error_proto):
            client.user("alice@example.test")
        client.stls(pop.client_context())
        with pytest.raises(poplib.error_proto, match="USER first"):
            client.pass_(PASSWORD.decode())
        with pytest.raises(poplib.error_proto, match="TLS is on already"):
            client._shortcmd("STLS")
        client.close()

    await asyncio.to_thread(session)


async def test_P001_uidl_of_100_000_messages(pop):
    await pop.put_many(100_000)
    client = await pop.sign_in()
    listed = (await client.ask(b"UIDL")).splitlines()
    assert len(listed) == 100_000
    assert len({line.split()[1] for line in listed}) == 100_000


@pytest.mark.parametrize("line", [b"A" * 5000, b"USER " + b"a" * 5000, b"AUTH PLAIN " + b"A" * 5000])
async def test_P001_long_lines(pop, line):
    client = await pop.connect()
    assert (await client.say(line)).startswith(b"-ERR")
    assert await client.ended()


async def test_P002_two_sessions_on_one_maildrop(pop):
    await pop.put(MESSAGE)
    first = await pop.sign_in()
    second = await pop.connect()
    await second.say(b"USER alice@example.test")
    assert (await second.say(b"PASS " + PASSWORD)).startswith(b"-ERR [IN-USE]")
    assert (await first.say(b"STAT")).startswith(b"+OK 1")
    assert (await first.say(b"QUIT")).startswith(b"+OK")
    assert await first.ended()
    await second.say(b"USER alice@example.test")
    assert (await second.say(b"PASS " + PASSWORD)).startswith(b"+OK")
