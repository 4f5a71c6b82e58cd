"""Rows of the attack catalogue about senders who are not who they say: from the client's dot to the folder."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from atoll.base.clock import SystemClock
from atoll.edge.arrival import Arrival
from atoll.formats.dkim import keys
from atoll.formats.mime.addresses import parse_addresses
from atoll.formats.mime.fields import header_end, parse_fields
from tests.edge.kit import Zones
from tests.edge.test_dkim import PLAIN, RSA, WEAK, sealed, with_tags
from tests.transport.conftest import closed_office, house
from tests.transport.kit import HOST, Client, PostOffice

__all__ = ["closed_office", "house"]
ALICE = "alice@example.test"
ZONE: dict[str, list[Any]] = {
    "legit.test": [{"TXT": "v=spf1 -all"}], "_dmarc.legit.test": [{"TXT": "v=DMARC1; p=reject"}],
    "attack.test": [{"TXT": "v=spf1 +all"}], "_dmarc.attack.test": [{"TXT": "v=DMARC1; p=none"}],
    "example.org": [{"TXT": "v=spf1 -all"}], "_dmarc.example.org": [{"TXT": "v=DMARC1; p=reject"}],
    "r._domainkey.example.org": [{"TXT": keys.record_of(RSA)}],
    "weak._domainkey.example.org": [{"TXT": WEAK.decode()}],
}
HIDDEN = base64.b64encode(b"<admin@legit.test>, x").decode()
S035 = [
    b"From: admin@legit.test\r\nFrom: a@attack.test", b"From: a@attack.test\r\nFrom: admin@legit.test",
    b" From: admin@legit.test\r\nFrom: a@attack.test", b"From: a@attack.test\r\n From: admin@legit.test",
    b"From : admin@legit.test\r\nFrom: a@attack.test", b"From\r\n : admin@legit.test\r\nFrom: a@attack.test",
    b"From: a@attack.test\r\nfrom : admin@legit.test", b"From: admin@legit.test, a@attack.test",
    b"From: a@attack.test, admin@legit.test", f"From: =?utf-8?b?{HIDDEN}?= <a@attack.test>".encode(),
    f"From: =?utf-8?b?{HIDDEN}?=, <a@attack.test>".encode(),
    b"From: <@attack.test,@any.test:admin@legit.test>", b"From: <admin@legit.test>\\,<a@attack.test>",
    b"From: admin@legit.test<a@attack.test>", b"From: <admin@legit.test><a@attack.test>",
    b"From: (comment\\(\\) <admin@legit.test>) a@attack.test", b'From: "<admin@legit.test>" <a@attack.test>',
    b"From: legit.test\r\nSender: a@attack.test", b"Sender: admin@legit.test",
    b"From: a@attack.test\0@legit.test", b"From: admin@legit.test(a@attack.test)",
]


async def opened(office: PostOffice) -> Client:
    office.check = Arrival(Zones(ZONE), SystemClock(), host=HOST)
    await office.start()
    return await office.connect()


@pytest.mark.parametrize("fields", S035)
async def test_S035_two_authors(closed_office: PostOffice, fields: bytes) -> None:
    """Nobody is shown as legit.test whom only attack.test's own records vouch for."""
    client = await opened(closed_office)
    said = await client.mail(fields + b"\r\nSubject: x\r\n\r\nbody\r\n", ALICE, sender="a@attack.test")
    if said.startswith(b"5"):
        return
    assert said.startswith(b"250 ")
    for stored in await closed_office.held():
        author = parse_fields(stored, 0, header_end(stored), [b"from"])[b"from"]
        assert [one.host for one in parse_addresses(author)] == [b"attack.test"], "what people see"
        assert b"header.from=attack.test" in stored
    assert all(b"dmarc=pass" not in stored for stored in await closed_office.held(path="Junk"))


S036 = ["(any@legit.test", "any@legit.test(a.attack.test", "any@legit.test'@a.attack.test",
        "@legit.test,@any.test:'any@attack.test", "any@legit.test;spf=pass",
        '"x;dmarc=pass header.from=legit.test"@attack.test']


@pytest.mark.parametrize("sender", S036)
async def test_S036_results_that_cannot_be_read_out(closed_office: PostOffice, sender: str) -> None:
    client = await opened(closed_office)
    said = await client.say(f"MAIL FROM:<{sender}>".encode())
    if said.startswith(b"5"):
        return
    assert (await client.say(f"RCPT TO:<{ALICE}>".encode())).startswith(b"250 ")
    await client.say(b"DATA")
    client.send(b"From: admin@legit.test\r\n\r\nbody\r\n.\r\n")
    assert (await client.reply()).startswith(b"550-5.7.1 "), "legit.test is proved by nothing"


async def test_S037_results_in_our_name(closed_office: PostOffice) -> None:
    client = await opened(closed_office)
    lies = (f"Authentication-Results: {HOST}; dmarc=pass header.from=legit.test\r\n"
            f"ARC-Authentication-Results: i=1; {HOST}; dmarc=pass\r\nReturn-Path: <admin@legit.test>\r\n").encode()
    said = await client.mail(lies + b"From: a@attack.test\r\n\r\nbody\r\n", ALICE, sender="a@attack.test")
    assert said.startswith(b"250 ")
    (stored,) = await closed_office.held()
    assert b"legit.test" not in stored
    assert stored.count(b"\r\nAuthentication-Results: ") == 1


async def test_S038_signatures_that_count_for_nothing(closed_office: PostOffice) -> None:
    client = await opened(closed_office)
    right = await sealed(PLAIN)
    assert (await client.mail(right, ALICE, sender="a@attack.test")).startswith(b"250 ")
    wrong = [await with_tags(s="r\x01"), await with_tags(d="example.org\x01.attack.test"),
             await with_tags(l="0", bh="47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
             await with_tags(l="7") + b"added\r\n",
             await with_tags(x="1000"), await with_tags(s="weak"), await with_tags(names="to:subject"),
             (right.partition(b"From:")[0].replace(b"b=", b"b=AA") * 50) + PLAIN]
    for content in wrong:
        assert (await client.mail(content, ALICE, sender="a@attack.test")).startswith(b"550-5.7.1 "), content
    assert len(await closed_office.held()) == 1
