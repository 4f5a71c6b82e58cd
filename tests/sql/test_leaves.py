"""Rows page by page: the same that SQLite reads; found without the pages above them; nothing of the past."""

from __future__ import annotations

import random
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.sql.leaves import Pages, Tree, trees_of
from atoll.sql.sqlite import CHECKED_VFS, SqliteEngine

SCHEMA = """
CREATE TABLE letter (id INTEGER PRIMARY KEY, name TEXT NOT NULL, body BLOB, size BIGINT NOT NULL);
CREATE TABLE place (folder INTEGER NOT NULL, uid BIGINT NOT NULL, word TEXT NOT NULL, note BLOB,
    PRIMARY KEY (folder, uid)) WITHOUT ROWID;
CREATE INDEX place_word ON place (word, folder);
CREATE UNIQUE INDEX letter_name ON letter (name);
"""
PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three levels of pages, long rows, negative and large numbers, text that is not ASCII, a later column."""
    chance = random.Random(1)
    made = tmp_path / "a.sqlite"
    database = SqliteEngine().open(made)
    writer = database.writer
    writer.script(SCHEMA)
    writer.begin()
    for n in range(1500):
        key = n if n % 3 else -n * 10**12
        writer.run("INSERT INTO letter VALUES (?, ?, ?, ?)", (key, f"Müller {n}", chance.randbytes(
            chance.choice((0, 10, 3000, 4046, 4047, 9000))), chance.choice((0, 1, -1, 127, 128, 2**31, 2**47, -2**60))))
        writer.run("INSERT INTO place VALUES (?, ?, ?, ?)", (n % 7, n, f"w{n}" * (n % 100 + 1),
                                                            None if n % 2 else chance.randbytes(n % 1500)))
    writer.commit()
    writer.script("ALTER TABLE place ADD COLUMN colour TEXT")
    writer.run("UPDATE place SET colour = 'red' WHERE uid % 5 = 0")
    database.close()
    return made


def trees(path: Path) -> dict[str, Tree]:
    connection = apsw.Connection(str(path), vfs=CHECKED_VFS)
    found = {tree.name: tree for tree in trees_of(connection)}
    connection.close()
    return found


def select(path: Path, table: str) -> set[tuple[object, ...]]:
    connection = apsw.Connection(str(path), vfs=CHECKED_VFS)
    found = set(connection.execute(f"SELECT * FROM {table}").fetchall())
    connection.close()
    return found


def rows(found: object, columns: int) -> set[tuple[object, ...]]:
    order = {"letter": ("id", "name", "body", "size"), "place": ("folder", "uid", "word", "note", "colour")}
    return {tuple(row.values.get(name) for name in order[row.table][:columns]) for row in found}  # type: ignore[attr-defined]


@pytest.mark.parametrize("table", ["letter", "place"])
def test_the_same_that_sqlite_reads(path: Path, table: str) -> None:
    pages = Pages(path, ())
    assert rows(pages.rows(trees(path)[table]), 5) == select(path, table)
    assert list(pages.lost(list(trees(path).values()))) == []
    pages.close()


def test_an_index_says_what_it_is_of(path: Path) -> None:
    pages = Pages(path, ())
    found = {(row.values["word"], row.values["folder"], row.values["uid"]) for row in
             pages.rows(trees(path)["place_word"])}
    assert found == {(row[2], row[0], row[1]) for row in select(path, "place")}
    assert {(row.values["name"], row.values["rowid"]) for row in pages.rows(trees(path)["letter_name"])} == {
        (row[1], row[0]) for row in select(path, "letter")}
    pages.close()


@pytest.mark.parametrize("table", ["letter", "place"])
def test_without_the_pages_above_them(path: Path, table: str) -> None:
    connection = apsw.Connection(str(path), vfs=CHECKED_VFS)
    inner = dict(connection.execute(
        "SELECT pageno, ncell FROM dbstat WHERE name = ? AND pagetype = 'internal'", (table,)).fetchall())
    connection.close()
    broken = list(inner)
    assert broken
    known = trees(path)
    pages = Pages(path, broken)
    found = rows(pages.lost(list(known.values())), 5)
    pages.close()
    whole = select(path, table)
    assert found <= whole
    assert len(found) == len(whole) - (0 if table == "letter" else sum(inner.values()))  # those have rows themselves
    without = [tree for tree in known.values() if tree.name != table]
    nobody = Pages(path, broken)
    assert list(nobody.lost(without)) == []  # a page is of nobody who misses none
    nobody.close()


def test_what_was_deleted_stays_away(path: Path) -> None:
    database = SqliteEngine().open(path)
    database.writer.script("DELETE FROM letter WHERE id > 300; DELETE FROM place WHERE folder < 5")
    database.close()
    connection = apsw.Connection(str(path), vfs=CHECKED_VFS)
    broken = [page for (page,) in connection.execute("SELECT pageno FROM dbstat WHERE pagetype = 'internal'"
                                                     " AND name IN ('letter', 'place')")]
    (free,), = connection.execute("PRAGMA freelist_count").fetchall()
    connection.close()
    assert free > 100
    pages = Pages(path, broken)
    found = list(pages.lost(list(trees(path).values())))
    pages.close()
    assert found
    assert rows([row for row in found if row.table == "letter"], 4) <= select(path, "letter")
    assert rows([row for row in found if row.table == "place"], 5) <= select(path, "place")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([2, 5, 10, 13]), st.binary(min_size=7, max_size=400), st.integers(0, 4000),
       st.binary(max_size=200))
def test_garbage_is_no_row(tmp_path_factory: pytest.TempPathFactory, kind: int, head: bytes, at: int,
                           more: bytes) -> None:
    page = bytearray(PAGE)
    page[:1 + len(head)] = bytes([kind]) + head
    page[at:at + len(more)] = more
    first = bytearray(b"SQLite format 3\0" + (PAGE).to_bytes(2, "big") + bytes(PAGE - 18))
    path = tmp_path_factory.getbasetemp() / "garbage"
    path.write_bytes(first + page[:PAGE] + page[:PAGE])
    pages = Pages(path, ())
    tree = Tree("t", 0, kind != 13, (("a", frozenset({"integer", "null", "text", "blob"})),), required=1)
    for row in pages.lost([tree]):
        assert row.table == "t"
    list(pages.rows(Tree("t", 2, True, tree.columns, required=1)))
    pages.close()
