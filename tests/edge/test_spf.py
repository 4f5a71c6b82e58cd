"""SPF against the test suite of RFC 7208 and against pyspf."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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
