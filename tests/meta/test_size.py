"""Nothing grows past what one can read at a sitting: modules <= 500 lines, functions <= 60 [rule 24]."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_MODULE, MAX_FUNCTION = 500, 60
OVER: dict[str, str] = {}
"""Path -> why. May only shrink."""

FILES = sorted((ROOT / "src").rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_module_and_its_functions_are_short(path: Path) -> None:
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    if name(path) not in OVER:
        assert len(text.splitlines()) <= MAX_MODULE
    long = {node.name: size for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if (size := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION}
    assert long == {}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_module_opens_with_its_man_page(path: Path) -> None:
    text = path.read_text("utf-8")
    if not text.strip():
        assert [other for other in path.parent.iterdir() if other.suffix != ".pyc" and other != path], "empty package"
        return
    assert ast.get_docstring(ast.parse(text)), "no docstring"


def test_the_exceptions_are_still_needed() -> None:
    assert [path for path in OVER if len((ROOT / path).read_text("utf-8").splitlines()) <= MAX_MODULE] == []
