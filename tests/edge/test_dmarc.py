"""DMARC: policies found by walking up the tree, alignment, what is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.edge import dkim, dmarc, spf
from atoll.edge.message import Author
from tests.edge.kit import Zones

ZONE: dict[str, list[Any]] = {
    "_dmarc.example.com": [{"TXT": "v=DMARC1; p=reject; sp=quarantine; np=reject"}],
    "live.example.com": [{"A": "192.0.2.1"}],
    "_dmarc.strict.example": [{"TXT": "v=DMARC1;p=reject;adkim=s;aspf=s"}],
    "_dmarc.own.example.com": [{"TXT": "v=DMARC1; p=none"}],
    "_dmarc.bank": [{"TXT": "v=DMARC1; p=reject; psd=y; np=reject"}],
    "_dmarc.my.bank": [{"TXT": "v=DMARC1; p=quarantine"}],
    "_dmarc.part.big.example": [{"TXT": "v=DMARC1; p=reject; psd=n"}],
    "_dmarc.big.example": [{"TXT": "v=DMARC1; p=none"}],
    "_dmarc.two.example": [{"TXT": "v=DMARC1; p=reject"}, {"TXT": "v=DMARC1; p=none"}],
    "_dmarc.other.example": [{"TXT": "v=spf1 -all"}, {"TXT": "v=DMARC1; p=reject"}],
    "_dmarc.bad.example": [{"TXT": "v=DMARC1; p=destroy"}],
    "_dmarc.reports.example": [{"TXT": "v=DMARC1; p=destroy; rua=mailto:x@reports.example"}],
    "_dmarc.test.example": [{"TXT": "v=DMARC1; p=reject; t=y"}],
    "_dmarc.pct.example": [{"TXT": "v=DMARC1; p=reject; pct=0"}],
    "_dmarc.fifty.example": [{"TXT": "v=DMARC1; p=reject; pct=50"}],
    "_dmarc.late.example": ["TIMEOUT"],
    "_dmarc.c.d.e.f.g.h.i.deep.example": [{"TXT": "v=DMARC1; p=reject; psd=n"}],
    "_dmarc.deep.example": [{"TXT": "v=DMARC1; p=quarantine"}],
}


async def outcome(author: str, *, by_spf: tuple[str, str] = ("fail", "x.example"),
                  signed: tuple[tuple[str, str], ...] = ()) -> dmarc.Outcome:
    found = [dkim.Checked(result, "", name) for result, name in signed]
    return await dmarc.evaluate(Author(author), spf.Result(by_spf[0], "", by_spf[1]), found, Zones(ZONE))


@pytest.mark.parametrize(("author", "result", "policy", "at"), [
    ("example.com", "fail", "reject", "example.com"),
    ("live.example.com", "fail", "quarantine", "example.com"),
    ("gone.example.com", "fail", "reject", "example.com"),
    ("own.example.com", "fail", "none", "own.example.com"),
    ("my.bank", "fail", "quarantine", "my.bank"), ("sub.my.bank", "fail", "quarantine", "my.bank"),
    ("your.bank", "fail", "reject", "bank"), ("bank", "fail", "reject", "bank"),
    ("x.part.big.example", "fail", "reject", "part.big.example"), ("x.big.example", "fail", "none", "big.example"),
    ("two.example", "none", "", ""), ("other.example", "fail", "reject", "other.example"),
    ("bad.example", "none", "", ""), ("reports.example", "fail", "none", "reports.example"),
    ("test.example", "fail", "quarantine", "test.example"), ("pct.example", "fail", "quarantine", "pct.example"),
    ("fifty.example", "fail", "reject", "fifty.example"),
    ("nothing.example", "none", "", ""), ("late.example", "temperror", "", ""),
    ("a.b.c.d.e.f.g.h.i.deep.example", "fail", "quarantine", "deep.example"),
    ("c.d.e.f.g.h.i.deep.example", "fail", "reject", "c.d.e.f.g.h.i.deep.example"),
])
async def test_policies(author: str, result: str, policy: str, at: str) -> None:
    found = await outcome(author)
    assert (found.result, found.policy, found.found_at) == (result, policy, at)


async def test_no_more_than_eight_questions() -> None:
    names = Zones({})
    await dmarc.Tree(names).policy(".".join("abcdefghijklmnop"))
    assert [name for name, _ in names.asked] == [
        "_dmarc.a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p", "_dmarc.j.k.l.m.n.o.p", "_dmarc.k.l.m.n.o.p", "_dmarc.l.m.n.o.p",
        "_dmarc.m.n.o.p", "_dmarc.n.o.p", "_dmarc.o.p", "_dmarc.p"]


@pytest.mark.parametrize(("author", "proved", "passes"), [
    ("example.com", "example.com", True), ("example.com", "mail.example.com", True),
    ("mail.example.com", "example.com", True), ("a.example.com", "b.example.com", True),
    ("example.com", "example.org", False), ("example.com", "evilexample.com", False), ("example.com", "com", False),
    ("strict.example", "mail.strict.example", False), ("strict.example", "strict.example", True),
    ("my.bank", "your.bank", False), ("my.bank", "www.my.bank", True), ("my.bank", "bank", False),
    ("x.part.big.example", "big.example", False), ("x.part.big.example", "y.part.big.example", True),
])
async def test_alignment(author: str, proved: str, passes: bool) -> None:
    for found in (await outcome(author, by_spf=("pass", proved)),
                  await outcome(author, signed=(("fail", author), ("pass", proved)))):
        assert (found.result == "pass") is passes, found
    assert (await outcome(author, by_spf=("softfail", proved), signed=(("policy", proved),))).result == "fail"


async def test_what_is_not_known_just_now_refuses_nobody() -> None:
    assert (await outcome("example.com", by_spf=("temperror", "example.com"))).result == "temperror"
    assert (await outcome("example.com", by_spf=("temperror", "evil.example"))).result == "fail"
    assert (await outcome("example.com", signed=(("temperror", "example.com"),),
                          by_spf=("pass", "example.com"))).result == "pass"


async def test_nobody_is_the_author() -> None:
    found = await dmarc.evaluate(Author("", "2 From fields"), spf.Result("pass", "", "a.example"), [], Zones(ZONE))
    assert found.result == "permerror"


PARTS = st.sampled_from(["v=DMARC1", "p=reject", ";", " ", "sp", "=", "np=none", "\u00e4", "psd=y"])


@given(st.lists(PARTS, max_size=9))
def test_any_record_is_survived(parts: list[str]) -> None:
    text = "".join(parts)
    found = dmarc.read("x.example", [text.encode()])
    assert (found is not None) == (text.partition(";")[0].strip(" ") == "v=DMARC1")
