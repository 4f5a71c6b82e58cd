"""ARC: chains that dkimpy seals, and what breaks them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from atoll.edge import arc, canon
from atoll.edge.message import Message
from atoll.formats.dkim import keys
from tests.edge.kit import Zones
from tests.edge.test_dkim import RSA, _pem

ZONE: dict[str, list[Any]] = {"r._domainkey.lists.example": [{"TXT": keys.record_of(RSA)}],
                              "r._domainkey.relay.example": [{"TXT": keys.record_of(RSA)}]}
PLAIN = (b"From: a@example.org\r\nTo: list@lists.example\r\nSubject: hello\r\nDate: Mon, 03 Aug 2026 10:00:00 +0000\r\n"
         b"Message-ID: <1@example.org>\r\n\r\nBody.\r\n")


async def chain(content: bytes) -> arc.Chain:
    message = Message(content)
    return await arc.verify(message, canon.BodyDigest(message), Zones(ZONE))


def sealed(content: bytes, sealer: str, results: str) -> bytes:
    """One more link."""
    oracle = pytest.importorskip("dkim")
    content = f"Authentication-Results: {sealer}; {results}\r\n".encode() + content
    record = keys.record_of(RSA).encode()
    fields = oracle.ARC(content).sign(b"r", sealer.encode(), RSA.private_bytes(*_pem()), sealer.encode()) \
        if b"ARC-Seal" not in content else _again(oracle, content, sealer, record)
    return b"".join(fields) + content


def _again(oracle: Any, content: bytes, sealer: str, record: bytes) -> list[bytes]:
    one = oracle.ARC(content)
    found, _, _ = oracle.arc_verify(content, dnsfunc=lambda name, timeout=5: record)
    assert found == b"pass"
    return list(one.sign(b"r", sealer.encode(), RSA.private_bytes(*_pem()), sealer.encode()))


def two_links() -> bytes:
    return sealed(sealed(PLAIN, "lists.example", "dmarc=pass header.from=example.org"), "relay.example",
                  "arc=pass; dmarc=fail header.from=example.org")


async def test_no_chain() -> None:
    assert (await chain(PLAIN)).result == "none"


async def test_chains_of_others() -> None:
    one = await chain(sealed(PLAIN, "lists.example", "spf=pass smtp.mailfrom=example.org"))
    assert (one.result, [link.sealer for link in one.links]) == ("pass", ["lists.example"])
    two = await chain(two_links())
    assert (two.result, [(link.instance, link.sealer) for link in two.links]) == (
        "pass", [(1, "lists.example"), (2, "relay.example")])
    assert two.links[0].results.endswith(b"dmarc=pass header.from=example.org")


@pytest.mark.parametrize("change", [
    (rb"Body", b"body"), (rb"Subject: hello", b"Subject: other"), (rb"dmarc=pass", b"dmarc=fail"),
    (rb"(ARC-Seal: i=2.*?)cv=pass", rb"\1cv=fail"), (rb"(ARC-Seal: i=1.*?)cv=none", rb"\1cv=pass"),
    (rb"(ARC-Seal: i=)2", rb"\g<1>3"), (rb"(ARC-Seal: i=)2", rb"\g<1>1"), (rb"(ARC-Seal: i=)2", rb"\g<1>99"),
    (rb"(ARC-Seal: i=2;)", rb"\1 h=from;"), (rb"(ARC-Seal: i=2;)", rb"\1 l=1;"),
    (rb"(?s)ARC-Seal: i=1;.*?\r\n(?=[A-Z])", b""), (rb"d=lists.example", b"d=other.example"),
    (rb"(ARC-Authentication-Results: i=1)", rb"ARC-Authentication-Results: i=1; x\r\n\1"),
])
async def test_what_breaks_a_chain(change: tuple[bytes, bytes]) -> None:
    content = two_links()
    assert (await chain(content)).result == "pass"
    changed = re.sub(change[0], change[1], content, count=1, flags=re.S)
    assert changed != content
    found = await chain(changed)
    assert (found.result, found.links) == ("fail", ())
    assert found.reason


async def test_a_dns_that_is_away() -> None:
    content = sealed(PLAIN, "lists.example", "spf=pass")
    message = Message(content)
    names = Zones({"r._domainkey.lists.example": ["TIMEOUT"]})
    assert (await arc.verify(message, canon.BodyDigest(message), names)).result == "temperror"
