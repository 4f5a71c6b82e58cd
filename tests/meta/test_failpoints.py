"""Every failpoint of the code is described in docs/faults.md, and none is described that is not there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"^[a-z]+(\.[a-z_]+)+$")
REQUIRED = ("transport", "delivery", "mailbox")
"""At every commit, fsync and reply of these [issue 1, Faults]."""


def hit() -> set[str]:
    """Names given to FAILPOINTS.hit(...), whole or as the variable part's possible values."""
    names = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "hit" and \
                    node.args:
                if isinstance(node.args[0], ast.Constant):
                    names.add(str(node.args[0].value))
                elif isinstance(node.args[0], ast.JoinedStr):
                    names.add("".join(str(part.value) if isinstance(part, ast.Constant) else "*"
                                      for part in node.args[0].values))
    return names


def described() -> set[str]:
    text = (ROOT / "docs" / "faults.md").read_text("utf-8")
    return set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))


def matches(name: str, pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", r"[a-z_]+"), name) is not None


def test_each_failpoint_is_described() -> None:
    known = described()
    assert {name for name in hit() if not any(matches(other, name) for other in known)} == set()


def test_nothing_is_described_that_is_not_there() -> None:
    there = hit()
    assert {name for name in described() if not any(matches(name, other) for other in there)} == set()


def test_every_part_that_commits_has_some() -> None:
    names = described()
    assert all(NAME.match(name) for name in names)
    assert {part for part in REQUIRED if not any(name.startswith(part + ".") for name in names)} == set()
