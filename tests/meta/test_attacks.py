"""Each row of docs/attacks.tsv for what this version speaks has a test named by its id."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPOKEN = {"SMTP", "IMAP", "POP3", "MIME", "AUTH"}
NOT_YET = {
    "S010": "nothing is sent to other servers yet",
    "S034": "no API makes headers yet",
    "S046": "no MX is looked up yet",
    "S048": "no MTA-STS policy is fetched yet",
    "A007": "no HTTP service yet",
    "A008": "no self-service yet",
}
"""Row -> why it has nothing to be tried on in this version. May only shrink."""


def rows() -> dict[str, str]:
    lines = (ROOT / "docs" / "attacks.tsv").read_text("utf-8").splitlines()[1:]
    return {row[0]: row[2] for row in (line.split("\t") for line in lines) if row[1] in SPOKEN}


def with_tests() -> set[str]:
    names = set()
    for path in (ROOT / "tests" / "attacks").glob("*.py"):
        names |= set(re.findall(r"def test_([A-Z]+\d+)_", path.read_text("utf-8")))
        names |= set(re.findall(r'id="([A-Z]+\d+)', path.read_text("utf-8")))
    return names


def test_each_row_has_a_test() -> None:
    done = with_tests()
    assert {row: what for row, what in rows().items() if row not in done and row not in NOT_YET} == {}


def test_the_exceptions_are_still_needed() -> None:
    assert set(NOT_YET) <= set(rows())
    assert set(NOT_YET) & with_tests() == set()


def test_no_test_names_a_row_that_is_not_there() -> None:
    known = {line.split("\t")[0] for line in (ROOT / "docs" / "attacks.tsv").read_text("utf-8").splitlines()}
    assert {name for name in with_tests() if name not in known} == set()
