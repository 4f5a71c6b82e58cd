"""One client, end to end: TLS, sign-in by the directory, the mailbox process, the store."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from atoll.protocols.imap import handover
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.commands import COMMANDS
from atoll.runtime.sockets import acknowledge_at_once
from tests.eventually import eventually
from tests.protocols.imap.conftest import MESSAGES, Client, Site


async def test_first_path(site: Site) -> None:
    await site.put(*MESSAGES)
    client = await site.sign_in()
    select = await client.ok(b"SELECT INBOX")
    assert b"* 3 EXISTS\r\n" in select
    rows = await client.ok(b"FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE RFC822.SIZE INTERNALDATE)")
    assert len(rows) == 3
    assert rows[0].startswith(
        b'* 1 FETCH (UID 1 FLAGS (\\Recent) ENVELOPE ("Tue, 14 Nov 2023 22:13:20 +0000" "Boats"'
    ), rows
    body = await client.ok(b"FETCH 2 BODY[]")
    assert MESSAGES[1] in body[0]
    assert b"\\Seen" in body[0]
    await client.ok(b"APPEND INBOX (\\Flagged) {%d+}\r\n%b" % (len(MESSAGES[0]), MESSAGES[0]))
    assert MESSAGES[0] in (await client.ok(b"FETCH 4 BODY.PEEK[]"))[0]
    assert await client.ok(b"NOOP") == []


async def test_answers_that_lie_ready(site: Site) -> None:
    """They are those of the rows: with numbers of this session, in it and beside one that knows other messages."""
    await site.put(*(MESSAGES[at % 3].replace(b"Boats", b"100 %%d of %d" % at) for at in range(600)))
    client, other = await site.sign_in(), await site.sign_in()
    for one in (client, other):
        await one.ok(b"SELECT INBOX")
    listings = site.one.store.database("db1").listings

    async def fetch(one: Client, what: bytes) -> list[bytes]:
        return [row for row in await one.ok(what) if b" FETCH (" in row]

    async def check(one: Client, count: int) -> None:
        rows = await fetch(one, b"FETCH 1:* (UID RFC822.SIZE ENVELOPE BODYSTRUCTURE)")  # read from rows, never ready
        rows = [re.sub(rb" RFC822.SIZE \d+", b"", row) for row in rows]
        assert len(rows) == count
        for _ in range(2):
            without = [re.sub(rb"UID \d+ ", b"", row) for row in rows]
            assert await fetch(one, b"FETCH 1:* (ENVELOPE BODYSTRUCTURE)") == without
            assert await fetch(one, b"FETCH 5:580 (ENVELOPE)") == [
                re.sub(rb" BODYSTRUCTURE .*\)\r\n", b")\r\n", row, flags=re.S) for row in without
                if 5 <= int(row.split()[1]) <= 580]
            await listings.settled()
        assert await fetch(one, b"UID FETCH 1:* (ENVELOPE BODYSTRUCTURE)") == rows

    await check(client, 600)
    assert any(b"100 %d of 300" in row for row in await client.ok(b"FETCH 301 ENVELOPE"))
    await client.ok(b"STORE 3,300:310 +FLAGS.SILENT (\\Deleted)")
    await client.ok(b"EXPUNGE")
    await check(client, 588)
    await check(other, 588)  # it was not told of the twelve: numbers as they were before


async def test_few_commands_begin_in_a_turn_of_the_loop(site: Site) -> None:
    """Many come at once: a turn does not become as long as all of them."""
    begun: Counter[int] = Counter()
    turn, loop = 0, asyncio.get_running_loop()

    async def slow(session: object, args: object, tag: bytes) -> Ok:
        begun[turn] += 1
        time.sleep(0.001)
        return Ok("Done")

    def count() -> None:
        nonlocal turn
        turn += 1
        if sum(begun.values()) < len(clients):
            loop.call_soon(count)

    clients = [await site.sign_in() for _ in range(16)]
    site.one.server.commands = {**COMMANDS, "NOOP": replace(COMMANDS["NOOP"], run=slow)}
    loop.call_soon(count)
    await asyncio.gather(*(client.ok(b"NOOP") for client in clients))
    assert sum(begun.values()) == 16
    assert max(begun.values()) <= 4, begun


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
    await eventually(lambda: len(asyncio.all_tasks()), before)


async def test_the_last_words_are_said_once(site: Site) -> None:
    client = await site.sign_in()
    client.send(b"a LOGOUT\r\n")
    assert re.fullmatch(rb"\* BYE [^\r]*\r\na OK [^\r]*\r\n", await client.ended())


async def test_a_mailbox_process_that_goes_is_a_bye(site: Site) -> None:
    client = await site.sign_in()
    await client.ok(b"NOOP")
    for session in site.one.server.sessions():
        session.transport.abort()
    assert re.fullmatch(rb"\* BYE \[UNAVAILABLE\] [^\r]*\r\n", await client.ended())


async def test_a_mailbox_process_that_goes_in_mid_literal_is_only_an_end(site: Site) -> None:
    await site.put(b"Subject: big\r\n\r\n" + b"x" * 78 + b"\r\n" * 1 + (b"y" * 78 + b"\r\n") * 400_000)
    client = await site.sign_in()
    await client.ok(b"SELECT INBOX")
    client.send(b"a FETCH 1 BODY.PEEK[]\r\n")
    await client.line()
    for session in site.one.server.sessions():
        session.transport.abort()
    heard = b""
    while piece := await asyncio.wait_for(client.reader.read(2**20), 10):
        heard = (heard + piece)[-200:]
    assert b"* BYE" not in heard


async def test_when_many_lose_their_mailbox_process_they_are_told_over_some_time(
        site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """PROCESSES 11, reconnect storm."""
    monkeypatch.setattr(handover, "SPREAD_ABOVE", 5)
    monkeypatch.setattr(handover, "SPREAD_SECONDS", 0.8)
    clients = [await site.sign_in() for _ in range(12)]
    loop = asyncio.get_running_loop()
    begin = loop.time()

    async def ended(client: Client) -> float:
        assert (await client.ended()).startswith(b"* BYE [UNAVAILABLE]")
        return loop.time() - begin

    for session in site.one.server.sessions():
        session.transport.abort()
    times = sorted(await asyncio.gather(*map(ended, clients)))
    assert times[-1] - times[0] > 0.2
    assert times[-1] < 2


async def test_a_command_that_runs_is_answered_before_the_goodbye(site: Site) -> None:
    """PROCESSES 11, new mailbox code: finish the running commit."""
    busy, idle = await site.sign_in(), await site.sign_in()
    go_on = threading.Event()
    holding = asyncio.create_task(site.one.store.database("db1").writer.between(lambda: go_on.wait(10)))
    await asyncio.sleep(0.05)
    busy.send(b"a APPEND INBOX {5+}\r\nx\r\n\r\n\r\n")
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(site.one.server.close(5))
    assert (await idle.ended()).startswith(b"* BYE [UNAVAILABLE]")
    assert not closing.done()
    go_on.set()
    await closing
    said = await busy.ended()
    assert b"a OK [APPENDUID " in said
    assert b"* BYE [UNAVAILABLE]" in said
    await holding


async def test_revoked_sessions_end(site: Site) -> None:
    client = await site.sign_in()
    other = await site.sign_in(b"carol")
    info = await site.one.backend.mailbox_of("alice@example.test")
    assert info is not None
    await site.house.parts.register.end_sessions(info.user)
    assert (await client.ended()).startswith(b"* BYE ")
    await other.ok(b"NOOP")


async def test_changed_since_costs_only_the_changes(site: Site) -> None:
    await site.put(*MESSAGES)
    client = await site.sign_in()
    select = await client.ok(b"SELECT INBOX (CONDSTORE)")
    found = re.search(rb"HIGHESTMODSEQ (\d+)", b"".join(select))
    assert found is not None
    since = found.group(1)
    assert await client.ok(b"FETCH 1:* FLAGS (CHANGEDSINCE %b)" % since) == []
    await client.ok(b"STORE 2 +FLAGS.SILENT (\\Flagged)")
    rows = await client.ok(b"FETCH 1:* FLAGS (CHANGEDSINCE %b)" % since)
    assert [row.split()[1] for row in rows] == [b"2"]


async def test_pipelined_commands_are_answered_in_order(site: Site) -> None:
    await site.put(*MESSAGES)
    client = await site.sign_in()
    client.send(b"a SELECT INBOX\r\nb FETCH 1 UID\r\nc NOOP\r\nd FETCH 1:3 FLAGS\r\n")
    assert [line for line in await client.until(b"d") if line[:1] != b"*"][-1].startswith(b"d OK")


async def test_commands_behind_login_are_passed_on(site: Site) -> None:
    client = await site.connect()
    from tests.directory.conftest import PASSWORD

    client.send(b'a LOGIN alice@example.test "%b"\r\nb SELECT INBOX\r\nc NOOP\r\n' % PASSWORD)
    heard = await client.until(b"c")
    assert [line.split()[0] for line in heard if line[:1] != b"*"] == [b"a", b"b", b"c"]


async def test_slow_reader_slows_the_writer(site: Site) -> None:
    await site.put(b"Subject: big\r\n\r\n" + (b"y" * 78 + b"\r\n") * 500_000)
    client = await site.sign_in()
    await client.ok(b"SELECT INBOX")
    client.writer.transport.pause_reading()
    client.send(b"a FETCH 1 BODY.PEEK[]\r\n")
    await asyncio.sleep(0.5)
    (session,) = site.one.server.sessions()
    assert session.transport.get_write_buffer_size() < 2**21
    client.writer.transport.resume_reading()
    heard = await client.until(b"a")
    assert len(heard[0]) > 40_000_000


async def test_a_literal_is_acknowledged_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """imaplib sends a message, waits for the acknowledgement (Nagle), then sends the line end of the command."""
    acknowledged: list[asyncio.BaseTransport] = []

    def noted(transport: asyncio.BaseTransport) -> None:
        acknowledged.append(transport)
        acknowledge_at_once(transport)

    monkeypatch.setattr(handover, "acknowledge_at_once", noted)
    client = await site.sign_in()
    await client.ok(b"NOOP")
    assert acknowledged == []  # a command answers for itself
    content = b"Subject: in two pieces\r\n\r\n" + b"x" * 200 + b"\r\n"
    client.send(b"a APPEND INBOX {%d}\r\n" % len(content))
    assert (await client.line()).startswith(b"+ ")
    client.send(content)
    async with asyncio.timeout(10):
        while not acknowledged:
            await asyncio.sleep(0.01)
    client.send(b"\r\n")
    assert (await client.until(b"a"))[-1].startswith(b"a OK ")
