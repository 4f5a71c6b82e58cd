"""Copy out of a damaged SQLite file every row that can still be read.

In     the path of a file with page checksums, nobody writing to it; a new file with the same schema, empty.
Out    the rows; Lost: stretches of keys that could not be read; Fragment: what indexes know of a row that is lost.
       Indexes are made anew by being filled.
Spec   ARCHITECTURE "Integrity": what is derivable is repaired, the rest named. A page whose checksum is wrong is never
       read from: a row that arrives here is the row that was written.
Fails  Broken: the file cannot be opened at all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import apsw

from atoll.sql.engine import Fragment, Lost, Salvaged
from atoll.sql.errors import Broken
from atoll.sql.leaves import Pages, Tree, trees_of

ROWS = 200
FURTHEST = 1 << 62
MASTER = "sqlite_master"
KEPT = (MASTER, "schema_version")
"""Tables of the new file that stay as they are."""
DAMAGE = (apsw.IOError, apsw.CorruptError)


def salvage(source: Path, target: Path, vfs: str, broken_pages: Callable[[Path], list[int]]) -> Salvaged:
    """Fill `target` from `source`. Runs in a helper thread.

    First table by table, as far as the way to the rows is whole; then the rows that stand on whole pages beside it;
    then what indexes know of rows whose own page is lost.
    """
    damaged = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    fresh = apsw.Connection(str(target), vfs=vfs)
    pages: Pages | None = None
    try:
        with suppress(apsw.Error):  # what is in the log only is in the file then
            damaged.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        try:
            trees, usable = trees_of(damaged), True
        except apsw.Error:
            pages, usable = Pages(source, broken_pages(source)), False
            trees = _trees(pages, trees_of(fresh))
        fresh.execute("PRAGMA synchronous=FULL; BEGIN IMMEDIATE")
        lost: list[Lost] = []
        for tree in trees:
            if tree.is_table and tree.name not in KEPT:
                fresh.execute(f'DELETE FROM "{tree.name}"')
                lost += _Table(damaged, fresh, tree.name).copy() if usable else [Lost(tree.name, (), None)]
        fragments: list[Fragment] = []
        if lost:
            pages = pages or Pages(source, broken_pages(source))
            fragments = _Missing(fresh, trees, lost).find(pages)
        fresh.execute("COMMIT")  # failpoint: mailbox.rebuild.salvaged
        return Salvaged(lost, fragments)
    finally:
        if pages is not None:
            pages.close()
        damaged.close(True)
        fresh.close(True)


def _trees(pages: Pages, ours: Sequence[Tree]) -> list[Tree]:
    """Tables and indexes of a file whose own list of them is damaged: as new, and where what is left of it says."""
    (master,) = (tree for tree in ours if tree.name == MASTER)
    known = {row.values["name"]: int(row.values["rootpage"] or 0)
             for row in chain(pages.lost([master]), pages.rows(master))}
    return [tree if tree is master else replace(tree, root=known.get(tree.name, 0)) for tree in ours]


def unreadable(source: Path, vfs: str) -> list[Lost]:
    """What no way leads to in a file that is in use."""
    damaged = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        return [one for tree in trees_of(damaged) if tree.is_table and tree.name not in KEPT
                for one in _Table(damaged, None, tree.name).copy()]
    except apsw.Error as error:
        raise Broken(f"{source.name} cannot be read: {error}") from error
    finally:
        damaged.close(True)


class _Missing:
    """Rows whose keys are among those that could not be read."""

    def __init__(self, fresh: apsw.Connection, trees: Sequence[Tree], lost: Sequence[Lost]) -> None:
        self._fresh = fresh
        self._trees = trees
        self._lost: dict[str, list[Lost]] = {}
        for one in lost:
            self._lost.setdefault(one.table, []).append(one)
        self._keys = {name: _Table(fresh, None, name).keys for name in self._lost}

    def find(self, pages: Pages) -> list[Fragment]:
        """Put what is whole into the new file; the rest."""
        beside = (pages.rows(tree, partial(self._misses, tree)) for tree in self._trees if tree.name in self._lost)
        for table, values in chain(pages.lost(self._trees), *beside):
            if self._key(table, values) is not None:
                named = ", ".join(f'"{name}"' for name in values)
                marks = ", ".join("?" * len(values))
                self._fresh.execute(f'INSERT OR IGNORE INTO "{table}" ({named}) VALUES ({marks})',
                                    tuple(values.values()))
        found: dict[tuple[str, tuple[Any, ...]], dict[str, Any]] = {}
        rowids = {tree.name: tree.rowid for tree in self._trees}
        for index in self._trees:
            if index.table in self._lost:
                for _, entry in pages.rows(index):
                    values = {rowids[index.table] if name == "rowid" else name: value for name, value in entry.items()}
                    key = self._key(index.table, values)
                    if key is not None and not self._there(index.table, key):
                        found.setdefault((index.table, key), {}).update(values)
        return [Fragment(table, values) for (table, _), values in found.items()]

    def _misses(self, table: Tree, rowid: int) -> bool:
        return not table.rowid or self._within(table.name, (rowid,))

    def _within(self, table: str, key: tuple[Any, ...]) -> bool:
        """Is it a key that could not be read? One that could would have been found: it is of the past."""
        lost = self._lost[table]  # in the order of their keys, one after another
        at = bisect_left(lost, key, key=lambda one: one.after) - 1
        if at < 0:
            return False
        before = lost[at].before
        return before is None or key <= before

    def _key(self, table: str, values: dict[str, Any]) -> tuple[Any, ...] | None:
        names = self._keys.get(table, ())
        key = tuple(values[name] for name in names if name in values)
        return key if names and len(key) == len(names) and self._within(table, key) else None

    def _there(self, table: str, key: tuple[Any, ...]) -> bool:
        names = " AND ".join(f'"{name}" = ?' for name in self._keys[table])
        return bool(self._fresh.execute(f'SELECT 1 FROM "{table}" WHERE {names}', key).fetchall())


class _Table:
    """One table on its way."""

    def __init__(self, damaged: apsw.Connection, fresh: apsw.Connection | None, name: str) -> None:
        self._damaged = damaged
        self._fresh = fresh
        self._name = name
        columns: list[tuple[Any, ...]] = damaged.execute(f'PRAGMA table_info("{name}")').fetchall()
        keys = sorted((column[5], column[1], str(column[2])) for column in columns if column[5])
        self.keys = [str(key) for _, key, _ in keys]
        self._numeric = all("INT" in kind for _, _, kind in keys)
        self._places = [[column[1] for column in columns].index(key) for key in self.keys]
        self._key_text = "(" + ", ".join(f'"{key}"' for key in self.keys) + ")"
        self._order = ", ".join(f'"{key}"' for key in self.keys)
        marks = ", ".join("?" * len(columns))
        # By name: the target may have columns that came with a later schema.
        named = ", ".join(f'"{column[1]}"' for column in columns)
        self._insert = f'INSERT OR IGNORE INTO "{name}" ({named}) VALUES ({marks})'

    def copy(self) -> list[Lost]:
        """Row by row in the order of the key; over what cannot be read in the shortest step that succeeds."""
        if not self._numeric:
            return self._from_both_ends()
        lost: list[Lost] = []
        after: tuple[int, ...] = (-1,) * len(self.keys)
        word = ">"
        while True:
            try:
                rows = self._rows(word, after, ROWS)
            except DAMAGE:
                rows = self._before_damage(word, after)
                if not rows:
                    found = self._beyond(after)
                    lost.append(Lost(self._name, after, found))
                    if found is None:
                        return lost
                    after, word = found, ">="
                    continue
            if not rows:
                return lost
            self._keep(rows)
            after, word = tuple(rows[-1][place] for place in self._places), ">"

    def _keep(self, rows: list[tuple[Any, ...]]) -> None:
        if self._fresh is not None:
            self._fresh.executemany(self._insert, rows)

    def _select(self, word: str, start: tuple[int, ...]) -> str:
        marks = "(" + ", ".join("?" * len(start)) + ")"
        return f'SELECT * FROM "{self._name}" WHERE {self._key_text} {word} {marks} ORDER BY {self._order}'

    def _rows(self, word: str, start: tuple[int, ...], limit: int) -> list[tuple[Any, ...]]:
        return self._damaged.execute(f"{self._select(word, start)} LIMIT {limit}", start).fetchall()

    def _before_damage(self, word: str, start: tuple[int, ...]) -> list[tuple[Any, ...]]:
        """The rows up to the first one that cannot be read."""
        rows: list[tuple[Any, ...]] = []
        try:
            for row in self._damaged.execute(self._select(word, start), start):
                rows.append(row)
                if len(rows) >= ROWS:
                    break
        except DAMAGE:
            pass
        return rows

    def _beyond(self, after: tuple[int, ...]) -> tuple[int, ...] | None:
        """The smallest key from which reading works again, None when there is none.

        From it, not behind it: the way to what lies behind a key leads to the page where that key would stand, which
        may be the broken one, while the next key begins another page.
        """
        for place in range(len(after) - 1, -1, -1):
            step = 1
            while step < FURTHEST:
                start = (*after[:place], after[place] + step, *(-1,) * (len(after) - place - 1))
                if self._readable(start):
                    return self._nearest(start, place, step)
                step *= 2
        return None

    def _readable(self, start: tuple[int, ...]) -> bool:
        try:
            return bool(self._rows(">=", start, 1))
        except DAMAGE:
            return False

    def _nearest(self, start: tuple[int, ...], place: int, step: int) -> tuple[int, ...]:
        """Between half a step and a step: where reading begins to work."""
        low, high = start[place] - step // 2, start[place]
        while high - low > 1:
            middle = (low + high) // 2
            if self._readable((*start[:place], middle, *start[place + 1:])):
                high = middle
            else:
                low = middle
        return (*start[:place], high, *start[place + 1:])

    def _from_both_ends(self) -> list[Lost]:
        """A table whose key cannot be counted through: forwards to the damage, backwards to it."""
        try:
            for row in self._damaged.execute(f'SELECT * FROM "{self._name}" ORDER BY {self._order}'):
                self._keep([row])
        except DAMAGE:
            backwards = ", ".join(f'"{key}" DESC' for key in self.keys)
            try:
                for row in self._damaged.execute(f'SELECT * FROM "{self._name}" ORDER BY {backwards}'):
                    self._keep([row])
            except DAMAGE:
                pass
            return [Lost(self._name, (), None)]
        return []
