"""Each cited RFC and [MS-*] document is in docs/standards.tsv, and each "Yes" there is cited by code [rule 4]."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CITED = re.compile(r"\[(RFC \d+|MS-[A-Z]+)(?: §[^\]]*)?[\],;]")
LOOSE = re.compile(r"\bRFC ?\d{3,5}\b")
TABLE = [line.split("\t") for line in (ROOT / "docs" / "standards.tsv").read_text("utf-8").splitlines()]


def cited() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        for document in CITED.findall(path.read_text("utf-8")):
            found.setdefault(document, set()).add(str(path.relative_to(ROOT)))
    return found


def test_the_table_is_well_formed_and_sorted() -> None:
    head, *rows = TABLE
    assert head == ["document", "title", "status", "where"]
    assert [row for row in rows if len(row) != 4 or row[2] not in ("Yes", "Partial", "Roadmap", "No")] == []
    names = [row[0] for row in rows]
    assert names == sorted(set(names), key=lambda name: (name.split()[0], name.split()[-1].zfill(5)))


def test_what_is_cited_is_in_the_table() -> None:
    known = {row[0] for row in TABLE[1:]}
    assert {document: sorted(where)[0] for document, where in cited().items() if document not in known} == {}


def test_a_citation_names_its_section_in_one_greppable_form() -> None:
    wrong = {}
    for path in (ROOT / "src").rglob("*.py"):
        for document in re.findall(r"\[RFC(\d+)|\[rfc ?(\d+)", path.read_text("utf-8")):
            wrong[str(path.relative_to(ROOT))] = document
    assert wrong == {}
