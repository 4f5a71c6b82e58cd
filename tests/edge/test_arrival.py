"""Checked at the end of DATA: what is refused, what goes to Junk, what is only noted, who waits for whom."""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_network
from typing import Any

import pytest

from atoll.base.clock import SystemClock
from atoll.edge import arrival
from atoll.edge.arrival import Arrival
from atoll.transport.envelope import Envelope, Facts, Recipient
from atoll.transport.pipeline import Checked
from atoll.transport.tracking import search
from tests.edge.kit import Zones
from tests.edge.test_arc import RSA, sealed
from tests.edge.test_dkim import keys
from tests.transport.conftest import closed_office, house
from tests.transport.kit import PostOffice

__all__ = ["closed_office", "house"]
HOST = "mail.example.test"
ZONE: dict[str, list[Any]] = {
    "bank.example": [{"TXT": "v=spf1 ip4:192.0.2.1 -all"}], "_dmarc.bank.example": [{"TXT": "v=DMARC1; p=reject"}],
    "shop.example": [{"TXT": "v=spf1 ip4:192.0.2.1 -all"}], "_dmarc.shop.example": [{"TXT": "v=DMARC1; p=quarantine"}],
    "late.example": ["TIMEOUT"], "_dmarc.late.example": [{"TXT": "v=DMARC1; p=reject"}],
    "r._domainkey.lists.example": [{"TXT": keys.record_of(RSA)}],
}
GOOD, BAD = "192.0.2.1", "192.0.2.2"


def checks(names: Zones | None = None, **settings: Any) -> Arrival:
    return Arrival(names or Zones(ZONE), SystemClock(), host=HOST, **settings)


def envelope(sender: str, ip: str = BAD, **more: Any) -> Envelope:
    return Envelope(b"i" * 16, sender, (Recipient("alice@example.test"),), 0, Facts(ip=ip, helo="h.example"), **more)


def message(author: str, more: str = "") -> bytes:
    return f"{more}Received: from x by y; z\r\nFrom: {author}\r\nSubject: s\r\n\r\nbody\r\n".encode()


async def check(author: str, ip: str = BAD, *, sender: str = "", **settings: Any) -> Checked:
    return await checks(**settings).check(envelope(sender or author, ip), message(author))


@pytest.mark.parametrize(("author", "ip", "code", "junk"), [
    ("a@bank.example", GOOD, None, False), ("a@bank.example", BAD, 550, False), ("a@shop.example", BAD, None, True),
    ("a@free.example", BAD, None, False), ("a@late.example", BAD, None, False), ("nobody", BAD, None, True),
    ("a@bank.example, b@evil.example", GOOD, None, True), ("<b@evil.example> <a@bank.example>", GOOD, 550, False),
])
async def test_what_follows(author: str, ip: str, code: int | None, junk: bool) -> None:
    sender = "a@bank.example" if " " in author else author
    found = await check(author, ip, sender=sender)
    assert (found.reply.code if found.reply else None, found.junk) == (code, junk), found.story
    noted = await check(author, ip, sender=sender, enforce=False)
    assert (noted.reply, noted.junk) == (None, False)


async def test_the_words() -> None:
    found = await check("a@bank.example")
    assert found.reply is not None
    assert found.reply.text == ("Refused by the DMARC policy of bank.example: nothing proves that\n"
                                "bank.example sent this. SPF: fail for 192.0.2.2;\nDKIM: none.")
    assert found.story == ("spf=fail bank.example, dkim=none, dmarc=fail bank.example (neither DKIM nor SPF proves "
                           "bank.example); refused: bank.example asks for reject")
    assert found.content.startswith(
        b'Authentication-Results: mail.example.test;\r\n\tspf=fail reason="bank.example says -all"\r\n'
        b"\t  smtp.mailfrom=bank.example;\r\n\tdkim=none;\r\n"
        b'\tdmarc=fail reason="neither DKIM nor SPF proves bank.example"\r\n')
    assert found.content.endswith(message("a@bank.example"))


async def test_what_pretends_to_be_ours_goes() -> None:
    more = (f"Authentication-Results: {HOST}; dmarc=pass\r\nReturn-Path: <x@y>\r\n"
            "Authentication-Results: o.example; x\r\n")
    found = await checks().check(envelope("a@bank.example", GOOD), message("a@bank.example", more))
    assert found.content.count(b"Authentication-Results: mail.example.test") == 1
    assert b"Return-Path" not in found.content
    assert b"Authentication-Results: o.example; x\r\n" in found.content
    assert checks().cleaned(message("a@b.example", more)) == message("a@b.example", more).replace(
        b"Authentication-Results: mail.example.test; dmarc=pass\r\n", b"")
    plain = message("a@b.example")
    assert checks().cleaned(plain) is plain


def test_who_is_checked() -> None:
    one = checks(trusted=[ip_network("127.0.0.0/8"), ip_network("2001:db8::/32")])
    assert [one.applies(envelope("a@x.example", ip)) for ip in ("192.0.2.1", "127.0.0.1", "::ffff:127.0.0.1",
                                                                "2001:db8::1", "2001:db9::1%eth0", "")] == [
        True, False, False, False, True, False]
    assert not one.applies(envelope("a@x.example", user=b"u"))
    assert not one.applies(envelope("", own=True))


@pytest.mark.parametrize(("said", "sealers", "accepted"), [
    ("dmarc=pass header.from=bank.example", ["lists.example"], True),
    ("dmarc=pass header.from=bank.example", [], False),
    ("dmarc=pass header.from=bank.example", ["other.example"], False),
    ("dmarc=pass header.from=shop.example", ["lists.example"], False), ("spf=pass", ["lists.example"], False),
    ("dmarc=fail header.from=bank.example", ["lists.example"], False),
])
async def test_a_trusted_sealer_explains_a_failure(said: str, sealers: list[str], accepted: bool) -> None:
    content = sealed(message("a@bank.example"), "lists.example", said)
    found = await checks(sealers=sealers).check(envelope("list@lists.example"), content)
    assert (found.reply is None) is accepted, found.story
    broken = content.replace(b"body\r\n", b"changed\r\n")
    assert (await checks(sealers=sealers).check(envelope("list@lists.example"), broken)).reply is not None


class Silent(Zones):
    """Nobody ever answers."""

    async def text(self, name: str) -> list[bytes]:
        await asyncio.sleep(60)
        raise AssertionError


async def test_a_silent_dns_does_not_hold_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "DEADLINE", 0.05)
    begin = time.monotonic()
    found = await checks(Silent()).check(envelope("a@bank.example"), message("a@bank.example"))
    assert time.monotonic() - begin < 5
    assert (found.reply, found.junk) == (None, False)
    assert "spf=temperror bank.example" in found.story
    assert b"dmarc=temperror" in found.content


async def test_a_crowd_that_nobody_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "HURRIED", 0.05)
    monkeypatch.setattr(arrival, "CROWD", 5)
    one = checks(Silent())
    waiting = [asyncio.create_task(one.check(envelope("a@bank.example"), message("a@bank.example"))) for _ in range(10)]
    done, late = await asyncio.wait(waiting, timeout=3)
    assert (len(done), len(late)) == (6, 4), "the first ones have their ten seconds"
    for task in late:
        task.cancel()


# -- in the post office

async def test_from_the_dot_to_the_folder(closed_office: PostOffice) -> None:
    office = closed_office
    office.check = checks(Zones({**ZONE, "bank.example": [{"TXT": "v=spf1 ip4:127.0.0.1 -all"}]}))
    await office.start()
    client = await office.connect()
    alice = "alice@example.test"
    said = await client.mail(message("a@bank.example"), alice, sender="a@bank.example")
    assert said.startswith(b"250 ")
    assert (await client.mail(message("a@bank.example"), alice, sender="a@evil.example")).startswith(
        b"550-5.7.1 Refused by the DMARC policy of bank.example")
    assert (await client.mail(message("a@shop.example"), alice, sender="a@shop.example")).startswith(b"250 ")
    (stored,) = await office.held()
    assert b"dmarc=pass" in stored
    (junk,) = await office.held(path="Junk")
    assert b"dmarc=fail" in junk
    await asyncio.sleep(0.35)
    stories = [one for one in search(office.folder / "queue" / "tracking") if one.event == "CHECK"]
    assert [one.detail.rpartition("; ")[2] for one in stories] == [
        "accepted", "refused: bank.example asks for reject", "to Junk: shop.example asks for quarantine"]


async def test_junk_waits_in_the_queue_as_junk(closed_office: PostOffice) -> None:
    office = closed_office
    office.check = checks()
    await office.start()
    await office.mailboxes[2].server.close()
    office.mailboxes[2].path.unlink()
    client = await office.connect()
    said = await client.mail(message("a@shop.example"), "bob@example.test", sender="a@shop.example")
    assert said.startswith(b"250 ")
    await office.mailboxes[2].listen()
    await office.wait_empty()
    assert (len(await office.held("bob")), len(await office.held("bob", "Junk"))) == (0, 1)


class Slow(Zones):
    """One domain's name servers take their time."""

    def __init__(self) -> None:
        super().__init__(ZONE)
        self.go = asyncio.Event()

    async def text(self, name: str) -> list[bytes]:
        if name == "slow.example":
            await self.go.wait()
        return await super().text(name)


async def test_who_is_slow_to_check_delays_nobody(closed_office: PostOffice) -> None:
    """Small messages for one mailbox process share a connection inside, answered in order: not these."""
    office, names = closed_office, Slow()
    office.check = checks(names)
    await office.start()
    office.front.checked = lambda ip: True
    first, second = await office.connect(), await office.connect()
    slow = asyncio.create_task(first.mail(message("a@slow.example"), "alice@example.test", sender="a@slow.example"))
    while not office.pipeline._tasks:
        await asyncio.sleep(0.01)
    said = await asyncio.wait_for(second.mail(message("a@free.example"), "alice@example.test"), 3)
    assert said.startswith(b"250 ")
    names.go.set()
    assert (await slow).startswith(b"250 ")


async def test_an_error_of_ours_lets_nothing_in(closed_office: PostOffice) -> None:
    office = closed_office

    class Broken(Arrival):
        async def check(self, envelope: Envelope, content: bytes) -> Checked:
            raise RuntimeError("a bug")

    office.check = Broken(Zones(ZONE), SystemClock(), host=HOST)
    await office.start()
    client = await office.connect()
    assert (await client.mail(message("a@x.example"), "alice@example.test")).startswith(b"451 ")
    assert await office.held() == []


