"""Whom a message is from: one author, the one that mail programs show [S035]."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.edge.message import MAX_FIELDS, Message
from atoll.edge.names import domain

RECEIVED = b"Received: from x by y; date\r\n"


@pytest.mark.parametrize(("fields", "name"), [
    (b"From: a@example.org", "example.org"), (b"from:a@EXAMPLE.org", "example.org"),
    (b'From: "x@evil.example" <a@example.org>', "example.org"),
    (b"From: a@example.org (x@evil.example)", "example.org"),
    (b"From: =?utf-8?q?x=40evil.example?= <a@example.org>", "example.org"),
    (b"From:\r\n a@example.org", "example.org"), (b'From: "a b"@example.org', "example.org"),
    ("From: a@b\u00fccher.example".encode(), "xn--bcher-kva.example"), (b"From: Group: a@example.org;", "example.org"),
])
def test_one_author(fields: bytes, name: str) -> None:
    found = Message(RECEIVED + fields + b"\r\n\r\n").author()
    assert (found.domain, found.fault) == (name, "")


@pytest.mark.parametrize(("fields", "forged"), [
    (b"From: a@example.org\r\nFrom: b@evil.example", True), (b"From : a@example.org", True),
    (b"From: a@example.org\r\nFrom : b@evil.example", True),
    (b"From\r\n : a@evil.example\r\nFrom: b@example.org", True),
    (b"From\0: a@example.org\r\nFrom: b@evil.example", True), (b"From: <a@evil.example><b@example.org>", True),
    (b"From: <@evil.example:a@example.org>", True),
    (b"From: a@example.org, b@evil.example", False), (b"Sender: a@example.org", False), (b"From: ", False),
    (b"From: nobody", False), (b"From: a@", False), (b"From: @example.org", False), (b"From: a@[192.0.2.1]", False),
    (b"From: =?utf-8?b?YUBleGFtcGxlLm9yZw==?=", False), (b"From: Group:;", False),
])
def test_nobody_can_be_held_to_it(fields: bytes, forged: bool) -> None:
    found = Message(RECEIVED + fields + b"\r\n\r\n").author()
    assert found.fault
    assert (found.domain, found.forged) == ("", forged)


def test_a_header_without_end() -> None:
    assert Message(b"x: y\r\n" * (MAX_FIELDS + 1) + b"\r\n").author().fault == "the header is too long"
    assert Message(b"From: a@example.org").author().domain == "example.org"


@given(st.binary(max_size=200))
def test_any_octets_are_survived(noise: bytes) -> None:
    for content in (noise, b"From: " + noise + b"\r\n\r\n", b"From" + noise):
        found = Message(content).author()
        assert bool(found.domain) != bool(found.fault)


@given(st.text(max_size=80))
def test_a_domain_is_what_can_be_asked(text: str) -> None:
    found = domain(text)
    assert found is None or (domain(found) == found and len(found) <= 253)
