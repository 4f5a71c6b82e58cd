"""Parts of transport by themselves: the trace, rates, loops, reports, the schedule, the administrator's calls."""

from __future__ import annotations

import asyncio

import pytest

from atoll.admin import ops
from atoll.base.clock import SystemClock
from atoll.base.ids import NetworkMessageId
from atoll.formats.smtp.replies import Reply
from atoll.roles.transport_op import TransportOp
from atoll.transport import dsn, tracking
from atoll.transport.envelope import Envelope, Recipient, delivery_key
from atoll.transport.lanes import remove
from atoll.transport.loops import hops, is_loop
from atoll.transport.queue import Schedule, Waiting
from atoll.transport.rates import HOUR, Rate
from atoll.transport.tracking import Tracking, search

ALICE, BOB = "alice@example.test", "bob@example.test"


def envelope(number: int = 1, sender: str = ALICE, **more: object) -> Envelope:
    return Envelope(NetworkMessageId(bytes([number]) * 16), sender, (Recipient(BOB),), 1000, **more)  # type: ignore[arg-type]


class StillClock(SystemClock):
    at = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.at

    def monotonic(self) -> float:
        return self.at / 1000


async def test_trace(tmp_path):
    clock, states = StillClock(), []
    log = Tracking(tmp_path, clock, lambda state, detail: states.append(state))
    for number in range(1, 6):
        log.event("RECEIVE", envelope(number, sender=f"s{number}@x.example"), "", size=10)
        clock.at += 1000
        log.event("DELIVER", envelope(number), BOB)
    await log.close()
    assert [one.event for one in search(tmp_path, ident="02" * 16)] == ["RECEIVE", "DELIVER"]
    assert [one.id[:2] for one in search(tmp_path, sender="S3@X")] == ["03"]
    assert [one.id[:2] for one in search(tmp_path, recipient="BOB@", limit=3)] == ["04", "05", "05"]
    assert [one.id[:2] for one in search(tmp_path, since=clock.at - 500)] == ["05"]
    assert search(tmp_path, recipient="nobody") == []
    assert states == []


async def test_trace_ends_files_and_forgets_the_oldest(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "FILE_BYTES", 100)
    monkeypatch.setattr(tracking, "KEEP_FILES", 3)
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 0.0)
    clock = StillClock()
    log = Tracking(tmp_path, clock, lambda state, detail: None)
    for number in range(1, 11):
        log.event("DELIVER", envelope(number), BOB)
        clock.at += 1
        await asyncio.sleep(0.02)
    await log.close()
    assert len(list(tmp_path.glob("*.jsonl"))) == 3
    found = [one.id[:2] for one in search(tmp_path)]
    assert found == sorted(found)
    assert found[-1] == "0a"


async def test_trace_that_cannot_be_written_is_shown_and_harms_nothing(tmp_path, monkeypatch):
    states = []
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 0.0)
    log = Tracking(tmp_path / "t", StillClock(), lambda state, detail: states.append(state))
    (tmp_path / "t").rmdir()
    log.event("DELIVER", envelope(), BOB)
    await asyncio.sleep(0.05)
    assert states == ["warn"]
    (tmp_path / "t").mkdir()
    log.event("DELIVER", envelope(), BOB)
    await asyncio.sleep(0.05)
    assert states == ["warn", "ok"]
    await log.close()


async def test_a_torn_line_is_passed_over(tmp_path):
    log = Tracking(tmp_path, StillClock(), lambda state, detail: None)
    log.event("DELIVER", envelope(), BOB)
    await log.close()
    (path,) = tmp_path.glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"time":17000000')
    assert len(search(tmp_path)) == 1


def test_recipients_per_hour():
    clock = StillClock()
    rate = Rate(clock, 10, HOUR)
    assert rate.take(b"a", 6)
    assert not rate.take(b"a", 5)
    assert rate.take(b"a", 4)
    assert rate.take(b"b", 10)
    clock.at += int(HOUR * 1000)
    assert rate.take(b"a", 10)
    assert Rate(clock, 0, HOUR).take(b"a", 10**6)


@pytest.mark.parametrize(("content", "count"), [
    (b"", 0), (b"Received: a\r\n\r\n", 1), (b"X: y\r\nRECEIVED: a\r\nreceived: b\r\n\r\nReceived: c\r\n", 2),
    (b"X-Received: a\r\n\r\n", 0), (b"Received: a\r\n" * 3, 3)])
def test_hops(content, count):
    assert hops(content) == count


def test_a_loop_has_more_than_a_hundred():
    line = b"Received: x\r\n"
    assert [is_loop(line * count + b"\r\n") for count in (100, 101)] == [False, True]


def test_schedule():
    schedule = Schedule()
    assert [schedule.wait(tries) for tries in (0, 1, 6, 7, 1000)] == [1, 5, 1800, 1800, 1800]


def test_delivery_key_tells_mailboxes_and_details_apart():
    message = NetworkMessageId(b"m" * 16)
    keys = {delivery_key(message, mailbox, detail, hop) for mailbox in (b"a" * 16, b"b" * 16) for detail in ("", "x")
            for hop in (0, 1)}
    assert len(keys) == 8


@pytest.mark.parametrize(("notify", "code", "wanted"), [
    ((), 550, True), (("FAILURE",), 550, True), (("NEVER",), 550, False), (("SUCCESS",), 550, False),
    (("SUCCESS",), 250, True), ((), 250, False), (("FAILURE",), 250, False)])
def test_whose_outcome_is_told(notify, code, wanted):
    one = Envelope(NetworkMessageId(b"1" * 16), ALICE, (Recipient(BOB, notify),), 0)
    assert bool(dsn.told(one, {BOB: Reply(code, "", "x")}, [BOB], {})) == wanted
    nobody = Envelope(NetworkMessageId(b"1" * 16), "", (Recipient(BOB, notify),), 0)
    assert dsn.told(nobody, {BOB: Reply(code, "", "x")}, [BOB], {}) == []


def test_a_report_with_addresses_beyond_ascii():
    one = Envelope(NetworkMessageId(b"1" * 16), "grüße@example.test", (Recipient("ö@example.test"),), 0, utf8=True)
    mail = Reply(550, "5.1.1", "No such recipient here")
    (outcome,) = dsn.told(one, {"ö@example.test": mail}, ["ö@example.test"], {})
    head, octets = dsn.report(one, [outcome], "Subject: ü\r\n\r\n".encode(), host="mail.example.test", now_ms=0)
    assert head.utf8
    assert "Final-Recipient: utf-8; ö@example.test\r\n".encode() in octets
    assert b"message/global-delivery-status" in octets
    assert octets.count(b"\n") == octets.count(b"\r\n")


async def test_the_administrator_removes_and_the_sender_is_told(office):
    office.queue.schedule = Schedule(seconds=(60,))
    await office.mailboxes[2].server.close()
    office.mailboxes[2].path.unlink()
    client = await office.signed_in()
    for _ in range(2):
        assert (await client.mail(b"Subject: stuck\r\n\r\n", BOB, sender=ALICE)).startswith(b"250 ")
    first, second = office.queue.waiting()
    await remove(office.pipeline, office.queue, [first], notify=False)
    await remove(office.pipeline, office.queue, [second], notify=True)
    assert [job.address for job in office.queue.waiting()] == [ALICE]
    await office.queue.hurry()
    office.lanes.hurry()
    await office.wait_empty()
    (report,) = await office.held("alice")
    assert b"Removed by the administrator" in report


async def test_reports_of_a_removal_are_not_removed_with_it(office):
    class Context:
        def is_role(self, pid, name):
            return True

    office.queue.schedule = Schedule(seconds=(60,))
    await office.mailboxes[2].server.close()
    office.mailboxes[2].path.unlink()
    client = await office.signed_in()
    assert (await client.mail(b"Subject: stuck\r\n\r\n", BOB, sender=ALICE)).startswith(b"250 ")
    (job,) = office.queue.waiting()
    await office.queue.settle(job.envelope.id, [], [Waiting(job.address, "unresolved", job.last, job.tries)])
    op = TransportOp(Context(), office.queue, office.lanes, office.pipeline, office.submit, office.folder)
    assert (await op._remove(None, ops.QueueAct(queue="unresolved", notify=True))).count == 1
    assert [(one.address, one.queue) for one in office.queue.waiting()] == [(ALICE, "unresolved")]


@pytest.mark.parametrize(("code", "status", "words"), [
    (550, "5.1.1", "Check how it is spelled"), (550, "5.1.2", "behind the @"), (556, "5.1.10", "takes no mail"),
    (552, "5.2.2", "mailbox is full"), (552, "5.3.4", "too large"), (550, "5.7.1", "from you"),
    (554, "5.0.0", "Try again later"), (451, "4.4.1", "nothing now")])
def test_a_report_says_what_to_do(code, status, words):
    one = Envelope(NetworkMessageId(b"1" * 16), ALICE, (Recipient(BOB),), 0)
    outcomes = dsn.told(one, {BOB: Reply(code, status, "its words")}, [BOB], {})
    _, octets = dsn.report(one, outcomes, b"Subject: x\r\n\r\n", host="mail.example.test", now_ms=0)
    assert words in octets.decode()
    assert f"The server said: {code} {status} its words" in octets.decode()
