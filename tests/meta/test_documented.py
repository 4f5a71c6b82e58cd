"""What people can set, type or install is documented, and the page is what the code says [rule 13]."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import make_docs  # noqa: E402


@pytest.mark.parametrize("path", ["docs/reference/settings.md", "docs/reference/commands.md"])
def test_the_reference_is_what_the_code_says(path: str) -> None:
    assert (ROOT / path).read_text("utf-8") == make_docs.pages()[ROOT / path], "make docs"


def test_every_setting_has_a_description() -> None:
    rows = [line for line in make_docs.settings_page().splitlines() if line.startswith("| `")]
    assert len(rows) > 20
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_command_says_what_it_does() -> None:
    helps = make_docs.commands_page().split("\n## ")[1:]
    assert [text.splitlines()[0] for text in helps if len(text.split("Usage:")[1].splitlines()) < 3] == []


def test_every_library_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["postgresql"],
              *(one for group in project["dependency-groups"].values() for one in group)]
    names = {re.split(r"[\[><=]", one)[0] for one in wanted}
    text = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    assert {name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)} == set()


def test_the_locks_are_wheels_with_hashes_and_nothing_else() -> None:
    for path in (ROOT / "requirements").glob("*.lock"):
        for line in path.read_text("utf-8").replace("\\\n", "").splitlines():
            assert re.match(r"[a-z0-9-]+==\S+( ; [^-]+)? +--hash=sha256:[0-9a-f]{64}", line), line[:80]


def test_every_locked_library_is_of_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    run = (ROOT / "requirements" / "run.lock").read_text("utf-8")
    for one in project["project"]["dependencies"]:
        name = re.split(r"[\[><=]", one)[0]
        assert re.search(rf"^{re.escape(name)}==", run, re.MULTILINE), f"{one}: make lock"


def test_make_knows_what_the_readme_says() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    for target in set(re.findall(r"[`$] ?make ([a-z][a-z-]+)", readme)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_of_the_pages_lead_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if not (page.parent / link).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {link}")
    assert broken == []
