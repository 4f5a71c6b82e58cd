"""Authentication-Results: nothing of a stranger's gets out of its place, nothing pretends to be ours."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.edge import arc, dkim, dmarc, results, spf
from atoll.edge.message import Message

HOST = "mail.example.org"
NASTY = st.lists(st.sampled_from([*"ab.;=\"\\()@ \t\r\n\0", "\u00e4", "dmarc=pass"]), max_size=30).map("".join)


@given(NASTY, NASTY, NASTY)
def test_no_value_begins_a_result(name: str, reason: str, author: str) -> None:
    signature = dkim.Checked("fail", reason, name, name, mark=reason)
    field = results.field(HOST, spf.Result("fail", reason, name), [signature],
                          dmarc.Outcome("fail", reason, author, "reject", name), arc.Chain("fail", reason))
    assert field.endswith(b"\r\n")
    assert re.search(rb"\r(?!\n)|(?<!\r)\n|\n[^\t]|\0", field[:-2]) is None
    found = results.said(Message(field + b"\r\n").fields[0].value)
    assert [(one.method, one.result) for one in found] == [("spf", "fail"), ("dkim", "fail"), ("dmarc", "fail"),
                                                           ("arc", "fail")]


@pytest.mark.parametrize(("field", "gone"), [
    (b"Authentication-Results: mail.example.org; spf=pass", True),
    (b"authentication-results: MAIL.EXAMPLE.ORG 1; spf=pass", True),
    (b"Authentication-Results:mail.example.org", True),
    (b"Authentication-Results : mail.example.org; none", True),
    (b"Authentication-Results:\r\n (a (b) c) mail.example.org; none", True),
    (b'Authentication-Results: "mail.example.org"; none', True),
    (b'Authentication-Results: "m\\ail.example.org"; none', True),
    (b"Authentication-Results: mail.example.org.; none", True),
    (b'Authentication-Results: "mail.example.org', True),
    (b"ARC-Authentication-Results: i=1; mail.example.org; dmarc=pass", True),
    (b"Return-Path: <a@mail.example.org>", True),
    (b"Authentication-Results: mail.example.net; spf=pass", False),
    (b"Authentication-Results: x.mail.example.org; spf=pass", False),
    (b"ARC-Authentication-Results: i=1; other.example; dmarc=pass", False),
    (b"X-Authentication-Results: mail.example.org; spf=pass", False),
    (b"Subject: Authentication-Results: mail.example.org", False),
])
def test_what_pretends_to_be_ours(field: bytes, gone: bool) -> None:
    content = b"Received: x\r\n" + field + b"\r\nSubject: y\r\n\r\nAuthentication-Results: mail.example.org\r\n"
    cleaned = results.ours_alone(Message(content), HOST, [b"return-path"])
    assert cleaned == (content.replace(field + b"\r\n", b"") if gone else content)


@given(st.binary(max_size=300))
def test_any_field_is_survived(noise: bytes) -> None:
    content = b"Authentication-Results: " + noise + b"\r\n\r\nbody"
    results.ours_alone(Message(content), HOST, ())
    results.said(noise)
    assert results.ours_alone(Message(noise), HOST, ()).endswith(noise[Message(noise).body:])


def test_what_others_say() -> None:
    found = results.said(b'a.example (x; y) 1; spf=pass (a; b) smtp.mailfrom="x; y"; dkim/1 = fail '
                         b'reason="; dmarc=pass" '
                         b"header.d=b.example;\tdmarc=pass header.from=C.example;none")
    assert [(one.method, one.result, one.properties) for one in found] == [
        ("spf", "pass", {"smtp.mailfrom": "x; y"}), ("dkim", "fail", {"header.d": "b.example"}),
        ("dmarc", "pass", {"header.from": "C.example"})]
