"""DKIM: the RFCs' examples, what must count for nothing, and dkimpy on the other side."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.edge import canon, dkim, sealing
from atoll.edge.message import Message
from atoll.formats.dkim import keys
from tests.edge.kit import BRISBANE_ED, BRISBANE_RSA, Zones

NOW = 1_790_000_000
WEAK = (b"v=DKIM1; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKphVjV4nBTdTSxYxGoEvUZF8XJ7k6EFYHrmqZ8QFn3sLvvjGWyYFCcIsHdCcG3RJY"
        b"VQZkLb4J4tq0UhZ0yqVsUCAwEAAQ==")
TEXT = (b"From: Joe SixPack <joe@football.example.com>\r\n"
        b"To: Suzie Q <suzie@shopping.example.net>\r\n"
        b"Subject: Is dinner ready?\r\n"
        b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
        b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n"
        b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n")
SIMPLE = (  # as TEXT, signed with c=simple/simple by an implementation of others
    b"DKIM-Signature: v=1; a=ed25519-sha256; c=simple/simple; \r\n"
    b" d=football.example.com; i=@football.example.com; \r\n"
    b" q=dns/txt; s=brisbane; t=1518460054; h=from : to : \r\n"
    b" subject : date : message-id : from : subject : date; \r\n"
    b" bh=4bLNXImK9drULnmePzZNEBleUanJCX5PIsDIFoH4KTQ=; \r\n"
    b" b=9/dsDChY0YMTtD5Eyw3wx7x22BlSJP7M5ECbJ7GWrR45nXlTCGb8l0YB\r\n o0wBLR++X5LqmsxXaOYLLJe46l10AQ==\r\n")
RFC_8463 = (
    b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
    b" d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
    b" subject : date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    b" b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n"
    b" Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n"
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"
    b" d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"
    b" date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    b" b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n"
    b" DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n"
    b" dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n")
FOOTBALL = {"brisbane._domainkey.football.example.com": [{"TXT": BRISBANE_ED}],
            "test._domainkey.football.example.com": [{"TXT": BRISBANE_RSA}]}
RSA, ED = keys.new_key("rsa"), keys.new_key("ed25519")
ZONE: dict[str, list[Any]] = {"r._domainkey.example.org": [{"TXT": keys.record_of(RSA)}],
                              "e._domainkey.example.org": [{"TXT": keys.record_of(ED)}]}
PLAIN = b"From: a@example.org\r\nTo: b@example.net\r\nSubject: hello\r\n\r\nBody.\r\n"


async def checked(content: bytes, zone: dict[str, list[Any]] | None = None, now: int = NOW) -> list[dkim.Checked]:
    message = Message(content)
    return await dkim.verify(message, canon.BodyDigest(message), Zones(zone or ZONE), now)


async def sealed(content: bytes, kind: str = "r") -> bytes:
    message = Message(content)
    body, _ = await canon.BodyDigest(message).get(relaxed=True)
    return sealing.seal(message, body, RSA if kind == "r" else ED, domain="example.org", selector=kind,
                        now=NOW) + content


async def with_tags(content: bytes = PLAIN, *, names: str = "from:to:subject", **tags: str) -> bytes:
    """A signature made by hand, right but for what the tags say."""
    message = Message(content)
    body, _ = await canon.BodyDigest(message).get(relaxed=True)
    found = {"v": "1", "a": "rsa-sha256", "c": "relaxed/relaxed", "d": "example.org", "s": "r", "h": names,
             "bh": base64.b64encode(body).decode(), **tags}
    head = ("DKIM-Signature: " + "; ".join(f"{name}={value}" for name, value in found.items()) + "; b=").encode()
    data = b"".join(canon.chosen(message, names.split(":"), relaxed=True))
    field = Message(head + b"\r\n\r\n").fields[0]
    signature = base64.b64encode(keys.sign(RSA, data + canon.without_signature(field, relaxed=True)))
    return head + signature + b"\r\n" + content


async def test_the_example_of_rfc_8463() -> None:
    found = await checked(RFC_8463 + TEXT, FOOTBALL)
    assert [(one.result, one.algorithm, one.domain) for one in found] == [
        ("pass", "ed25519-sha256", "football.example.com"), ("pass", "rsa-sha256", "football.example.com")]


async def test_simple_forms() -> None:
    assert [one.result for one in await checked(SIMPLE + TEXT, FOOTBALL)] == ["pass"]
    assert [one.result for one in await checked(SIMPLE + TEXT.replace(b"To: ", b"To:  "), FOOTBALL)] == ["fail"]


@pytest.mark.parametrize(("text", "relaxed", "simple"), [  # [RFC 6376 §3.4.5]
    (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n", b" C \r\nD \t E\r\n"),
    (b"", b"", b"\r\n"), (b"\r\n\r\n", b"", b"\r\n"), (b" \r\n\t\r\n", b"", b" \r\n\t\r\n"),
    (b"no end", b"no end\r\n", b"no end\r\n"), (b"a \t\r\n\r\nb", b"a\r\n\r\nb\r\n", b"a \t\r\n\r\nb\r\n"),
])
def test_canonical_bodies(text: bytes, relaxed: bytes, simple: bytes) -> None:
    message = Message(b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n" + text)
    assert b"".join(canon.body(message, relaxed=True)) == relaxed
    assert b"".join(canon.body(message, relaxed=False)) == simple
    assert [canon.field(one, relaxed=True) for one in message.fields] == [b"a:X\r\n", b"b:Y Z\r\n"]


@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"x", b"yy", b" \r\n"]), max_size=60), st.integers(1, 9))
def test_slices_change_nothing(parts: list[bytes], size: int) -> None:
    message = Message(b"A: X\r\n\r\n" + b"".join(parts))
    for relaxed in (True, False):
        whole = b"".join(canon.body(message, relaxed=relaxed))
        before, canon.SLICE = canon.SLICE, size
        try:
            assert b"".join(canon.body(message, relaxed=relaxed)) == whole
        finally:
            canon.SLICE = before


@pytest.mark.parametrize("kind", ["r", "e"])
async def test_what_we_sign_passes(kind: str) -> None:
    assert [one.result for one in await checked(await sealed(PLAIN, kind))] == ["pass"]


@pytest.mark.parametrize("change", [
    (b"Subject: hello", b"Subject: hallo"), (b"Body.", b"body."), (b"To: b@", b"To: c@"),
    (b"Subject: hello", b"Subject: hello\r\nSubject: another"),
    (b"Subject: hello", b"Subject: hello\r\nCc: c@x.example"),
    (b"From: a@", b"From: x@evil.example\r\nFrom: a@"),
])
async def test_a_change_is_seen(change: tuple[bytes, bytes]) -> None:
    head, _, rest = (await sealed(PLAIN)).partition(b"From:")
    assert [one.result for one in await checked(head + (b"From:" + rest).replace(*change))] == ["fail"]


@pytest.mark.parametrize(("tags", "result"), [
    ({}, "pass"),
    ({"x": str(NOW - 1), "t": str(NOW - 9)}, "fail"), ({"x": str(NOW + 1)}, "pass"),
    ({"t": str(NOW + 90_000)}, "permerror"), ({"t": "9", "x": "8"}, "permerror"),
    ({"a": "rsa-sha1"}, "permerror"), ({"a": "ed25519-sha256"}, "permerror"), ({"v": "2"}, "permerror"),
    ({"d": "other.example"}, "permerror"), ({"s": "r\0"}, "permerror"), ({"s": r"r\.x"}, "permerror"),
    ({"d": "org"}, "permerror"), ({"i": "x@evil.example"}, "permerror"), ({"i": "x@sub.example.org"}, "pass"),
    ({"i": "x@evilexample.org"}, "permerror"), ({"q": "http"}, "permerror"), ({"c": "odd"}, "permerror"),
    ({"l": "7"}, "pass"), ({"l": "99"}, "permerror"), ({"l": "-1"}, "permerror"),
    ({"bh": "!!!"}, "permerror"), ({"names": "to:subject"}, "permerror"), ({"names": "from::to"}, "permerror"),
])
async def test_tags(tags: dict[str, str], result: str) -> None:
    assert [one.result for one in await checked(await with_tags(**tags))] == [result]


async def test_a_length_is_not_trusted() -> None:
    """[RFC 6376 §8.2]: whoever adds to a body that is signed in part proves nothing."""
    signed = await with_tags(l="7")
    assert [one.result for one in await checked(signed + b"added\r\n")] == ["policy"]
    none = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    assert [one.result for one in await checked(await with_tags(l="0", bh=none))] == ["policy"]


@pytest.mark.parametrize(("record", "result"), [
    (None, "permerror"), ("v=DKIM1; p=", "permerror"), ("v=DKIM2; p=AAAA", "permerror"), ("p=AAAA", "permerror"),
    ("h=sha1; {}", "permerror"), ("s=tlsrpt; {}", "permerror"), ("s=email:x; {}", "pass"), ("t=y; {}", "pass"),
    ("k=dsa; {p}", "permerror"), ("p; q", "permerror"), ("TIMEOUT", "temperror"),
    ("p=MDAw", "permerror"), ("{}", "pass"),
])
async def test_key_records(record: str | None, result: str) -> None:
    own = keys.record_of(RSA).removeprefix("v=DKIM1; ")
    text = (record or "").format(own, p=own.partition("; ")[2]) if record and "{" in record else record
    zone = {} if text is None else {"r._domainkey.example.org": ["TIMEOUT" if text == "TIMEOUT" else {"TXT": text}]}
    assert [one.result for one in await checked(await sealed(PLAIN), zone or {"x": []})] == [result]


async def test_a_strict_key_is_for_its_domain_alone() -> None:
    zone = {"r._domainkey.example.org": [{"TXT": f"t=s; {keys.record_of(RSA).removeprefix('v=DKIM1; ')}"}]}
    assert [one.result for one in await checked(await with_tags(), zone)] == ["pass"]
    assert [one.result for one in await checked(await with_tags(i="x@sub.example.org"), zone)] == ["permerror"]


async def test_only_ten_signatures_are_looked_at() -> None:
    content = await sealed(PLAIN)
    field = Message(content).fields[0].raw
    names = Zones(ZONE)
    message = Message(field * 50 + PLAIN)
    found = await dkim.verify(message, canon.BodyDigest(message), names, NOW)
    assert [one.result for one in found] == ["pass"] * 10
    assert len(names.asked) == 10


def test_a_weak_key_counts_for_nothing() -> None:
    """[RFC 8301 §3.2]"""
    with pytest.raises(keys.BadKey, match="512 bits"):
        keys.public_key(WEAK)


@given(st.binary(max_size=400))
@settings(max_examples=200)
async def test_any_octets_are_survived(noise: bytes) -> None:
    for content in (noise, b"DKIM-Signature: " + noise + b"\r\n" + PLAIN, b"DKIM-Signature: v=1;" + noise):
        for one in await checked(content):
            assert one.result in ("fail", "permerror", "policy"), one


TAG = st.sampled_from(["v=1", "a=rsa-sha256", "d=example.org", "s=r", "h=from:to", "bh=AAAA", "b=AAAA", "l=1", "t=1",
                       "x=2", "c=simple", "i=@example.org", "q=dns/txt", "b", "=", " v = 1 ", "h=", "d=\u00e4.example"])


@given(st.lists(TAG, max_size=14))
@settings(max_examples=200)
async def test_nothing_passes_without_a_signature(tags: list[str]) -> None:
    content = b"DKIM-Signature: " + "; ".join(tags).encode() + b"\r\n" + PLAIN
    assert {one.result for one in await checked(content)} <= {"fail", "permerror", "policy"}


# -- dkimpy on the other side

WORDS = st.text(st.characters(codec="ascii", exclude_characters="\r\n\0\v\f"), max_size=60)


@given(st.lists(st.tuples(st.sampled_from(["Subject", "To", "Cc", "X-Other", "Date", "Received"]), WORDS), max_size=8),
       st.lists(WORDS, max_size=12), st.sampled_from(["r", "e"]))
@settings(max_examples=60, deadline=None)
async def test_dkimpy_believes_what_we_sign(fields: list[tuple[str, str]], body: list[str], kind: str) -> None:
    oracle = pytest.importorskip("dkim")
    fields = [("From", "a@example.org"), *fields]
    head = "".join(f"{name}: {' '.join(value.split()) or 'x'}\r\n" for name, value in fields)
    content = head.encode() + b"\r\n" + "".join(f"{line}\r\n" for line in body).encode()
    signed = await sealed(content, kind)
    record = keys.record_of(RSA if kind == "r" else ED).encode()
    assert oracle.verify(signed, dnsfunc=lambda name, timeout=5: record)
    assert [one.result for one in await checked(signed)] == ["pass"]


@given(st.lists(st.tuples(st.sampled_from(["Subject", "To", "Cc", "X-Other", "Date"]), WORDS), max_size=8),
       st.lists(WORDS, max_size=12), st.sampled_from([b"simple", b"relaxed"]), st.sampled_from([b"simple", b"relaxed"]))
@settings(max_examples=60, deadline=None)
async def test_we_believe_what_dkimpy_signs(fields: list[tuple[str, str]], body: list[str], head_form: bytes,
                                            body_form: bytes) -> None:
    oracle = pytest.importorskip("dkim")
    head = "".join(f"{name}: {value}\r\n" for name, value in [("From", "a@example.org"), *fields])
    content = head.encode() + b"\r\n" + "\r\n".join(body).encode() + b"\r\n"
    pem = RSA.private_bytes(*_pem())
    try:
        field = oracle.sign(content, b"r", b"example.org", pem, canonicalize=(head_form, body_form))
    except oracle.DKIMException:
        return  # a field that it does not take
    signed = field + content
    believed = oracle.verify(signed, dnsfunc=lambda name, timeout=5: keys.record_of(RSA).encode())
    assert [one.result for one in await checked(signed, now=int(time.time()))] == ["pass" if believed else "fail"]


def _pem() -> tuple[Any, Any, Any]:
    from cryptography.hazmat.primitives import serialization

    return serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()


def test_what_the_field_looks_like() -> None:
    signed = asyncio.run(sealed(PLAIN))
    field = Message(signed).fields[0].raw
    assert max(map(len, field.split(b"\r\n"))) <= 100
    assert re.search(rb"h=from:from:to:to:cc:subject:subject:", field.replace(b"\r\n\t ", b""))
