"""From the client's last dot to its 250, and what becomes of recipients that cannot have it at once."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re

import pytest

from atoll.base.ids import from_text
from atoll.transport.queue import Schedule
from atoll.transport.tracking import search
from tests.transport.kit import Client, PostOffice

ALICE, BOB = "alice@example.test", "bob@example.test"
PLAIN = b"Subject: hello\r\nTo: somebody@example.test\r\n\r\nbody\r\n"


async def bob_away(office: PostOffice) -> None:
    """bob's mailbox process does not listen."""
    await office.mailboxes[2].server.close()
    office.mailboxes[2].path.unlink()


async def events(office: PostOffice, said: bytes) -> list[tuple[str, str]]:
    await asyncio.sleep(0.35)
    ident = from_text(said.split()[-1].decode()).hex()
    return [(one.event, one.recipient) for one in search(office.folder / "queue" / "tracking", ident=ident)]


async def test_delivered_at_once_and_never_queued(office, monkeypatch):
    async def never(*_: object) -> None:
        raise AssertionError("queued")

    monkeypatch.setattr(office.queue, "put", never)
    client = await office.connect()
    said = await client.mail(PLAIN, ALICE, BOB)
    assert said.startswith(b"250 2.0.0 Ok ")
    assert [len(await office.held(name)) for name in ("alice", "bob")] == [1, 1]
    received, *delivered = await events(office, said)
    assert received == ("RECEIVE", f"{ALICE},{BOB}")
    assert sorted(delivered) == [("DELIVER", ALICE), ("DELIVER", BOB)]


async def test_one_of_two_mailboxes_is_away(office):
    await bob_away(office)
    client = await office.connect()
    said = await client.mail(PLAIN, ALICE, BOB)
    assert said.startswith(b"250 ")
    assert len(await office.held("alice")) == 1
    assert [job.address for job in office.queue.waiting()] == [BOB]
    assert [one.queue for one in office.queue.lengths()] == ["mailbox-2"]
    await office.mailboxes[2].listen()
    await office.wait_empty()
    assert [len(await office.held(name)) for name in ("alice", "bob")] == [1, 1]
    (stored,) = await office.held("bob")
    assert stored.endswith(PLAIN)
    assert [event for event in await events(office, said) if event != ("DEFER", BOB)] == [
        ("RECEIVE", f"{ALICE},{BOB}"), ("DELIVER", ALICE), ("DELIVER", BOB)]


async def test_the_queue_survives_the_process(office):
    office.queue.schedule = Schedule(seconds=(60,))
    await bob_away(office)
    client = await office.connect()
    assert (await client.mail(PLAIN, BOB)).startswith(b"250 ")
    await office.stop_transport()
    await office.start_transport()
    assert office.queue.depth() == 1
    await office.mailboxes[2].listen()
    assert await office.queue.hurry(queue="mailbox-2") == 1
    office.lanes.hurry()
    await office.wait_empty()
    assert len(await office.held("bob")) == 1


async def test_a_mailbox_that_does_not_answer_is_not_waited_for(office):
    """The process hangs with the connection open: the client has its 250 after `patience`, bob his copy later, once."""
    client = await office.connect()
    assert (await client.mail(PLAIN, BOB)).startswith(b"250 ")
    release = asyncio.Event()
    store = office.mailboxes[2].store
    deliver = store.deliver

    async def slow(deliveries):
        await release.wait()
        return await deliver(deliveries)

    store.deliver = slow
    begin = asyncio.get_running_loop().time()
    assert (await client.mail(PLAIN, BOB)).startswith(b"250 ")
    assert office.patience <= asyncio.get_running_loop().time() - begin < office.patience + 2
    assert office.queue.depth() == 1
    store.deliver = deliver
    release.set()  # the hanging delivery and the retry both carry the same key
    await office.wait_empty()
    assert len(await office.held("bob")) == 2


async def test_an_answer_that_is_lost_makes_no_second_copy(office, monkeypatch):
    """The mailbox commits and its connection goes before transport hears of it."""
    from atoll.protocols.lmtp import server as lmtp

    lost = []

    def reply(result):
        if not lost:
            lost.append(result)
            raise ConnectionResetError("as if the process were killed after its commit")
        return original(result)

    original = lmtp._reply
    monkeypatch.setattr(lmtp, "_reply", reply)
    client = await office.connect()
    assert (await client.mail(PLAIN, BOB)).startswith(b"250 ")
    await office.wait_empty()
    assert len(lost) == 1
    assert len(await office.held("bob")) == 1


async def test_two_names_of_one_mailbox_are_one_copy(office, house):
    await house.parts.register.create_alias("postbox@example.test", ALICE)
    client = await office.connect()
    assert (await client.mail(PLAIN, ALICE, "postbox@example.test", "Alice@Example.test")).startswith(b"250 ")
    assert len(await office.held("alice")) == 1


async def test_two_equal_messages_are_two(office):
    client = await office.connect()
    for _ in range(2):
        await client.mail(b"Message-ID: <same@out.example>\r\n" + PLAIN, ALICE)
    assert len(await office.held("alice")) == 2


async def test_detail_names_a_folder_if_there_is_one(office):
    info = await office.backend.mailbox_of(ALICE)
    access = await office.mailboxes[1].store.open(info.mailbox, info.user)
    await access.create("Lists")
    client = await office.connect()
    await client.mail(PLAIN, "alice+Lists@example.test", "alice+nowhere@example.test")
    assert [len(await office.held("alice", path)) for path in ("Lists", "INBOX")] == [1, 1]


async def quota(house, address: str, size: int) -> None:
    from atoll.directory.client.model import Quota

    await house.parts.register.change_mailbox(address, quota=Quota(0, 0, size))


async def test_everybody_over_quota_is_refused_at_the_end_of_the_content(office, house):
    await quota(house, BOB, 1)
    client = await office.connect()
    assert (await client.mail(PLAIN, BOB)).startswith(b"552 5.2.2")
    assert office.queue.depth() == 0


async def test_one_of_two_over_quota_is_told_by_a_report(office, house):
    await quota(house, BOB, 1)
    client = await office.signed_in()
    assert (await client.mail(PLAIN, ALICE, BOB, sender=ALICE)).startswith(b"250 ")
    await office.wait_empty()
    _, report = sorted(await office.held("alice"), key=lambda one: b"Not delivered" in one)
    parsed = email.message_from_bytes(report, policy=email.policy.default)
    assert report.startswith(b"Return-Path: <>\r\n")
    assert parsed.get_content_type() == "multipart/report"
    assert parsed["Auto-Submitted"] == "auto-replied"
    text, status, header = parsed.iter_parts()
    assert "bob@example.test\r\n    The mailbox is full." in text.get_content()
    (_, group) = status.get_payload()
    assert (group["Final-Recipient"], group["Action"], group["Status"]) == ("rfc822; " + BOB, "failed", "5.2.2")
    assert "Subject: hello" in header.get_payload()
    assert "\r\nbody" not in header.get_payload()


async def test_a_report_is_not_wanted_or_cannot_be_sent(office, house):
    await quota(house, BOB, 1)
    client = await office.signed_in()
    await client.say(b"MAIL FROM:<alice@example.test>")
    await client.say(b"RCPT TO:<alice@example.test>")
    await client.say(b"RCPT TO:<bob@example.test> NOTIFY=NEVER")
    await client.say(b"DATA")
    assert (await client.say(b".")).startswith(b"250 ")
    outside = await office.connect()
    assert (await outside.mail(PLAIN, ALICE, BOB)).startswith(b"250 ")  # the sender lives on another server
    await office.wait_empty()
    assert len(await office.held("alice")) == 2


async def test_success_is_told_when_asked_for(office):
    client = await office.signed_in()
    await client.say(b"MAIL FROM:<alice@example.test> ENVID=QQ314159")
    await client.say(b"RCPT TO:<bob@example.test> NOTIFY=SUCCESS ORCPT=rfc822;bob@example.test")
    await client.say(b"DATA")
    assert (await client.say(b".")).startswith(b"250 ")
    await office.wait_empty()
    (report,) = await office.held("alice")
    assert re.search(rb"Original-Envelope-Id: QQ314159\r\n\r\nOriginal-Recipient: rfc822;bob@example.test\r\n"
                     rb"Final-Recipient: rfc822; bob@example.test\r\nAction: delivered\r\nStatus: 2.1.5\r\n", report)


async def test_tried_for_too_long_is_told(office):
    office.queue.schedule = Schedule(seconds=(0.02,), give_up_ms=0, tries=3)
    client = await office.signed_in()
    await bob_away(office)
    said = await client.mail(PLAIN, BOB, sender=ALICE)
    assert said.startswith(b"250 ")
    await office.wait_empty()
    (report,) = await office.held("alice")
    assert b"Status: 5.4.7" in report
    assert [event for event, _ in await events(office, said)][-2:] == ["DEFER", "FAIL"]


async def test_a_recipient_that_vanished_meanwhile_is_told(office, house):
    client = await office.signed_in()
    await client.envelope(BOB, sender=ALICE)
    await house.parts.register.remove_mailbox(BOB)
    await client.say(b"DATA")
    assert (await client.say(b".")).startswith(b"550 5.1.1")


async def test_a_group_that_is_expanded_late_has_members_that_wait_on(office, house):
    await house.parts.recipients.groups.create("team@example.test", "", "anyone", [ALICE, BOB, "gone@example.test"], [])
    client = await office.connect()
    await client.envelope("team@example.test", sender=ALICE)
    office.backend.forget()
    await house.stop()
    office.backend.rpc.timeout = 0.2
    await client.say(b"DATA")
    assert (await client.say(b".")).startswith(b"250 ")
    assert [(job.queue, job.address) for job in office.queue.waiting()] == [("unresolved", "team@example.test")]
    await bob_away(office)
    await house.start()
    while [(job.address, job.origin) for job in office.queue.waiting(queue="mailbox-2")] != [
            (BOB, "team@example.test")]:
        await asyncio.sleep(0.02)
    while len(held := await office.held("alice")) < 2:
        await asyncio.sleep(0.02)
    assert len(held) == 2, "her copy, and what became of gone@"
    await office.mailboxes[2].listen()
    await office.wait_empty(10)
    assert len(await office.held("bob")) == 1


async def test_the_directory_is_away_after_rcpt(office, house):
    client = await office.connect()
    await client.envelope(BOB)
    office.backend.forget()
    await house.stop()
    office.backend.rpc.timeout = 0.2
    await client.say(b"DATA")
    assert (await client.say(b".")).startswith(b"250 ")
    assert [job.queue for job in office.queue.waiting()] == ["unresolved"]
    await house.start()
    await office.wait_empty(10)
    assert len(await office.held("bob")) == 1


async def test_a_clock_that_jumps_loses_nothing_and_gives_nothing_up(office):
    real = office.clock.now_ms
    office.queue.schedule = Schedule(seconds=(0.05,), give_up_ms=1000, tries=50)
    await bob_away(office)
    client = await office.signed_in()
    assert (await client.mail(PLAIN, BOB, sender=ALICE)).startswith(b"250 ")
    for days in (10, -10):
        office.clock.now_ms = lambda days=days: real() + days * 86_400_000
        office.lanes.hurry()
        await asyncio.sleep(0.2)
        assert office.queue.depth() == 1
    await office.mailboxes[2].listen()
    await office.wait_empty()
    assert len(await office.held("bob")) == 1
    assert await office.held("alice") == []


@pytest.mark.parametrize("size", [0, 50_000])
async def test_a_hundred_messages_at_once_from_ten_connections(office, size):
    async def one(client):
        for at in range(10):
            said = await client.mail(b"Subject: %d\r\n\r\n" % at + b"x" * size + b"\r\n", ALICE, BOB)
            assert said.startswith(b"250 ")

    clients = [await office.connect() for _ in range(10)]
    await asyncio.gather(*[one(client) for client in clients])
    assert [len(await office.held(name)) for name in ("alice", "bob")] == [100, 100]
    assert office.relay.held == 0


async def test_a_message_that_ends_its_mailbox_process_waits_longer(office, monkeypatch):
    from atoll.protocols.lmtp import server as lmtp

    office.queue.schedule = Schedule(seconds=(0.05, 0.05, 0.05, 0.05, 0.05, 60))
    real = lmtp.scan

    def scan(data):
        if b"poison" in data:
            raise ValueError("as if the process died of it")
        return real(data)

    monkeypatch.setattr(lmtp, "scan", scan)
    client = await office.connect()
    assert (await client.mail(b"Subject: poison\r\n\r\n", BOB)).startswith(b"250 ")
    await asyncio.sleep(1)
    (job,) = office.queue.waiting()
    assert job.tries == 5
    assert job.last == "451 4.4.2 The connection was lost over this message alone"
    assert (await client.mail(PLAIN, BOB)).startswith(b"250 ")
    assert len(await office.held("bob")) == 1


async def test_those_beside_a_message_that_ends_its_mailbox_process_are_delivered_in_seconds(office, monkeypatch):
    """Twenty are under way together, two of them end it (here: the connection that they share) each time."""
    from atoll.protocols.lmtp import server as lmtp

    office.queue.schedule = Schedule()  # the real one
    shown = office.poison
    real = lmtp.scan

    def scan(data):
        if b"poison" in data:
            raise ValueError("as if the process died of it")
        return real(data)

    monkeypatch.setattr(lmtp, "scan", scan)
    clients = [await office.connect() for _ in range(20)]
    started = asyncio.get_running_loop().time()
    said = await asyncio.gather(*[client.mail(b"Subject: %b\r\n\r\n" % (b"poison" if at in (3, 9) else b"good"), BOB)
                                  for at, client in enumerate(clients)])
    assert all(one.startswith(b"250 ") for one in said)
    while len(await office.held("bob")) < 18:
        assert asyncio.get_running_loop().time() < started + 5
        await asyncio.sleep(0.05)
    for _ in range(40):
        if [job.tries for job in office.queue.waiting()] == [3, 3] and shown[-1:] == [2]:
            break
        await asyncio.sleep(0.05)
    jobs = office.queue.waiting()
    assert [(job.tries, job.last) for job in jobs] == [
        (3, "451 4.4.2 The connection was lost over this message alone")] * 2
    assert min(job.due for job in jobs) > office.clock.now_ms() + 50_000
    assert shown == [1, 2] or shown == [2]
    assert len(await office.held("bob")) == 18
    assert (await clients[0].mail(PLAIN, BOB)).startswith(b"250 ")
    assert len(await office.held("bob")) == 19
    await office.queue.hurry()
    monkeypatch.setattr(lmtp, "scan", real)
    office.lanes.hurry()
    await office.wait_empty()
    assert len(await office.held("bob")) == 21
    assert shown[-1] == 0


async def test_a_checkpoint_that_fails_refuses_nothing(office, monkeypatch):
    from atoll.sql import SqlError
    from atoll.transport import queue as module

    def fail(*, restart):
        raise SqlError("the log cannot be folded back")

    monkeypatch.setattr(module, "CHECKPOINT_BYTES", 1)
    monkeypatch.setattr(office.queue._file, "checkpoint", fail)
    await bob_away(office)
    client = await office.connect()
    assert (await client.mail(PLAIN, BOB)).startswith(b"250 ")
    await office.mailboxes[2].listen()
    await office.wait_empty()
    assert len(await office.held("bob")) == 1


def inside(at: int, whom: str, text: bytes) -> bytes:
    """A transaction of the inside hop."""
    return b"MAIL FROM:<a@b.example> XATOLL= XID=%032x\r\nRCPT TO:<%s>\r\nBDAT %d LAST\r\n%s" % (
        at, whom.encode(), len(text), text)


@pytest.mark.parametrize("limit", [2, 256])
async def test_transactions_that_do_not_wait_are_answered_in_order(office, monkeypatch, limit):
    from atoll.protocols.smtp import hop

    monkeypatch.setattr(hop, "MAX_UNDER_WAY", limit)
    whom = [ALICE, "nobody@example.test", BOB, ALICE] * 5
    client = Client(*await asyncio.open_unix_connection(str(office.folder / "smtp.sock")))
    office.clients.append(client)
    await client.reply()
    client.send(b"".join([inside(at, one, b"Subject: %d\r\n\r\n" % at) for at, one in enumerate(whom)]) + b"NOOP\r\n")
    said = [await client.reply() for _ in range(3 * len(whom) + 1)]
    assert [one[:3] for one in said[2::3]] == [b"550" if "nobody" in one else b"250" for one in whom]
    assert said[-1].startswith(b"500 ")
    for name, address in (("alice", ALICE), ("bob", BOB)):
        assert [one.split(b"Subject: ")[1].split(b"\r\n")[0] for one in await office.held(name)] == [
            b"%d" % at for at, one in enumerate(whom) if one == address]
    assert office.relay.held == 0


async def test_a_message_that_cannot_be_tried_stops_no_other(office, monkeypatch):
    await bob_away(office)
    client = await office.connect()
    for subject in (b"bad", b"good"):
        assert (await client.mail(b"Subject: %s\r\n\r\n" % subject, BOB)).startswith(b"250 ")
    real = office.pipeline.attempt

    def attempt(attempt, addresses):
        if b"bad" in attempt.content:
            raise ValueError("something nobody thought of")
        real(attempt, addresses)

    monkeypatch.setattr(office.pipeline, "attempt", attempt)
    await office.mailboxes[2].listen()
    async with asyncio.timeout(5):
        while office.queue.depth() > 1 or office.queue.waiting()[0].tries < 2:
            await asyncio.sleep(0.02)
    assert len(await office.held("bob")) == 1
    monkeypatch.undo()
    await office.wait_empty()


async def test_the_directory_is_asked_for_all_recipients_at_once(office, monkeypatch):
    from atoll.runtime.rpc import RpcError

    client = await office.connect()
    await client.envelope(ALICE, BOB)
    office.backend.forget()
    asked = []

    async def recipient(address):
        asked.append(address)
        async with asyncio.timeout(5):
            while len(asked) < 2:
                await asyncio.sleep(0.01)
        raise RpcError("unavailable")

    monkeypatch.setattr(office.backend, "recipient", recipient)
    await client.say(b"DATA")
    assert (await client.say(b".")).startswith(b"250 ")
    monkeypatch.undo()
    await office.wait_empty()


async def test_an_answer_that_comes_when_the_retries_are_stopped_harms_nothing(office, monkeypatch):
    await bob_away(office)
    client = await office.connect()
    assert (await client.mail(PLAIN, BOB)).startswith(b"250 ")
    kept = []
    monkeypatch.setattr(office.pipeline, "attempt", lambda attempt, addresses: kept.append(attempt))
    async with asyncio.timeout(5):
        while not kept:
            await asyncio.sleep(0.01)
    office.retries.cancel()
    await asyncio.sleep(0)
    kept[0].done(kept[0])


async def test_a_clock_that_is_set_back_while_a_next_hop_is_away_makes_nobody_spin(office, monkeypatch):
    from atoll.transport.lanes import Lanes

    fills, real = [], Lanes._fill

    def fill(self, lane):
        fills.append(lane.name)
        real(self, lane)

    monkeypatch.setattr(Lanes, "_fill", fill)
    lane = office.lanes._lane("far.example")
    lane.closed_until = office.clock.now_ms() + 86_400_000
    office.lanes.look("far.example")
    await asyncio.sleep(0.3)
    assert 1 <= len(fills) < 5


async def test_little_room_for_what_waits_stops_nothing(office, monkeypatch):
    from atoll.transport import lanes

    monkeypatch.setattr(lanes, "MAX_BYTES", 1)
    for box in office.mailboxes.values():
        await box.server.close()
        box.path.unlink()
    client = await office.connect()
    for number in range(8):
        said = await client.mail(b"Subject: %d\r\n\r\n" % number, ALICE, BOB)
        assert said.startswith(b"250 ")
    for box in office.mailboxes.values():
        await box.listen()
    office.lanes.hurry()
    await office.wait_empty(10)
    assert [len(await office.held(name)) for name in ("alice", "bob")] == [8, 8]
