"""SPF against the test suite of RFC 7208 and against pyspf."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.edge import spf
from tests.edge.kit import Zones

SUITE = json.loads((Path(__file__).parent / "data" / "rfc7208-tests.json").read_text("utf-8"))
CASES = [(scenario, name) for scenario in SUITE for name in scenario["tests"]]


def zone_of(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The suite's records of type SPF are meant as TXT where a name has none."""
    found = {}
    for name, entries in rows.items():
        texts = any(isinstance(one, dict) and "TXT" in one for one in entries)
        found[name] = [{"TXT": one["SPF"]} if isinstance(one, dict) and "SPF" in one and not texts else one
                       for one in entries]
    return found


@pytest.mark.parametrize(("scenario", "name"), CASES, ids=[f"{one['scenario']}: {name}" for one, name in CASES])
async def test_suite_of_rfc_7208(scenario: dict[str, Any], name: str) -> None:
    case = scenario["tests"][name]
    names = Zones(zone_of(scenario["zone"]))
    found = await spf.check(names, case["host"], case["mailfrom"], case["helo"])
    assert found.result in case["result"], (found, case)


# -- pyspf on the other side

ZONE: dict[str, list[Any]] = {
    "a.example": [{"A": "192.0.2.1"}, {"A": "192.0.2.7"}, {"AAAA": "2001:db8::1"}, {"MX": [10, "m.example"]},
                  {"TXT": "v=spf1 a -all"}],
    "m.example": [{"A": "192.0.2.9"}], "no.example": [{"TXT": "other"}], "late.example": ["TIMEOUT"],
    "soft.example": [{"TXT": "v=spf1 ip4:192.0.2.0/29 ~all"}],
    "1.2.0.192.in-addr.arpa": [{"PTR": "a.example"}], "loop.example": [{"TXT": "v=spf1 include:loop.example"}],
}
TERMS = st.sampled_from([
    "a", "a:a.example", "a:none.example", "a/24", "a:a.example/28", "a:a.example//64", "mx", "mx:a.example", "ptr",
    "ptr:a.example", "ip4:192.0.2.1", "ip4:192.0.2.0/24", "ip4:300.1.1.1", "ip6:2001:db8::/32", "ip6:::1",
    "include:soft.example", "include:no.example", "include:a.example", "include:late.example", "include:loop.example",
    "exists:%{i}.none.example", "exists:%{d2}", "exists:a.example", "exists:%{l}.%{o}", "redirect=soft.example",
    "redirect=no.example", "redirect=a.example", "exp=a.example", "moo=%{x}", "moo=1", "all", "a:%{h}", "all:x", "A",
    "a:%{p}", "foo", "a/33", "mx//129", "ip4:192.0.2.1/0", "a:a.example/", "include:"])


@given(st.lists(st.tuples(st.sampled_from(["", "+", "-", "~", "?"]), TERMS), max_size=12),
       st.sampled_from(["192.0.2.1", "192.0.2.9", "198.51.100.1", "2001:db8::1"]))
@settings(max_examples=300, deadline=None)
async def test_pyspf_says_the_same(terms: list[tuple[str, str]], ip: str) -> None:
    oracle = pytest.importorskip("spf")
    text = " ".join(["v=spf1", *("".join(one) for one in terms)])
    zone = {**ZONE, "x.example": [{"TXT": text}]}

    def look_up(name: str, kind: str, strict: bool = True, timeout: float = 20) -> list[Any]:
        found = []
        for row in zone.get(name.lower().rstrip("."), []):
            if row == "TIMEOUT":
                raise oracle.TempError("DNS timeout")
            if kind in row:
                value = row[kind]
                value = (value.encode(),) if kind == "TXT" else tuple(value) if kind == "MX" else value
                value = ipaddress.ip_address(value).packed if kind == "AAAA" else value
                found.append(((name, kind), value))
        return found

    oracle.DNSLookup = look_up
    oracle.MAX_VOID_LOOKUPS = spf.VOID = 1000  # it counts questions, we count terms
    expected = oracle.query(i=ip, s="u@x.example", h="a.example", strict=True).check()[0]
    try:
        found = await spf.check(Zones(zone), ip, "u@x.example", "a.example")
    finally:
        spf.VOID = 2
    assert found.result == expected, (text, found)
