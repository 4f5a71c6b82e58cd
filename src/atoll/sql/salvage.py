"""Copy out of a damaged SQLite file every row that can still be read.

In     the path of a file with page checksums, nobody writing to it; a new file with the same schema, empty.
Out    the rows; Lost: stretches of keys that could not be read. Indexes are made anew by being filled.
Spec   ARCHITECTURE "Integrity": what is derivable is repaired, the rest named. A page whose checksum is wrong is never
       read from: a row that arrives here is the row that was written.
Fails  Broken: the file cannot be opened at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from atoll.sql.engine import Lost
from atoll.sql.errors import Broken

ROWS = 200
FURTHEST = 1 << 62
DAMAGE = (apsw.IOError, apsw.CorruptError)


def salvage(source: Path, target: Path | None, vfs: str) -> list[Lost]:
    """Fill `target` from `source`; None: only say what is lost. Runs in a helper thread."""
    try:
        damaged = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
        names = [str(name) for (name,) in damaged.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            " AND name <> 'schema_version' ORDER BY name").fetchall()]
    except apsw.Error as error:
        raise Broken(f"{source.name} cannot be opened: {error}") from error
    fresh = apsw.Connection(str(target) if target is not None else ":memory:", vfs=vfs)
    fresh.execute("PRAGMA synchronous=FULL; BEGIN IMMEDIATE")
    lost: list[Lost] = []
    try:
        for name in names:
            if target is not None:
                fresh.execute(f'DELETE FROM "{name}"')
            lost += _Table(damaged, fresh if target is not None else None, name).copy()
        fresh.execute("COMMIT")  # failpoint: mailbox.rebuild.salvaged
    finally:
        damaged.close(True)
        fresh.close(True)
    return lost


class _Table:
    """One table on its way."""

    def __init__(self, damaged: apsw.Connection, fresh: apsw.Connection | None, name: str) -> None:
        self._damaged = damaged
        self._fresh = fresh
        self._name = name
        columns: list[tuple[Any, ...]] = damaged.execute(f'PRAGMA table_info("{name}")').fetchall()
        keys = sorted((column[5], column[1], str(column[2])) for column in columns if column[5])
        self._keys = [str(key) for _, key, _ in keys]
        self._numeric = all("INT" in kind for _, _, kind in keys)
        self._places = [[column[1] for column in columns].index(key) for key in self._keys]
        self._key_text = "(" + ", ".join(f'"{key}"' for key in self._keys) + ")"
        self._order = ", ".join(f'"{key}"' for key in self._keys)
        marks = ", ".join("?" * len(columns))
        # By name: the target may have columns that came with a later schema.
        named = ", ".join(f'"{column[1]}"' for column in columns)
        self._insert = f'INSERT OR IGNORE INTO "{name}" ({named}) VALUES ({marks})'

    def copy(self) -> list[Lost]:
        """Row by row in the order of the key; over what cannot be read in the shortest step that succeeds."""
        if not self._numeric:
            return self._from_both_ends()
        lost: list[Lost] = []
        after: tuple[int, ...] = (-1,) * len(self._keys)
        while True:
            try:
                rows = self._rows(after, ROWS)
            except DAMAGE:
                rows = self._before_damage(after)
                if not rows:
                    found = self._beyond(after)
                    lost.append(Lost(self._name, after, found))
                    if found is None:
                        return lost
                    after = found
                    continue
            if not rows:
                return lost
            self._keep(rows)
            after = tuple(rows[-1][place] for place in self._places)

    def _keep(self, rows: list[tuple[Any, ...]]) -> None:
        if self._fresh is not None:
            self._fresh.executemany(self._insert, rows)

    def _rows(self, after: tuple[int, ...], limit: int) -> list[tuple[Any, ...]]:
        marks = "(" + ", ".join("?" * len(after)) + ")"
        return self._damaged.execute(
            f'SELECT * FROM "{self._name}" WHERE {self._key_text} > {marks} ORDER BY {self._order} LIMIT {limit}',
            after).fetchall()

    def _before_damage(self, after: tuple[int, ...]) -> list[tuple[Any, ...]]:
        """The rows up to the first one that cannot be read."""
        rows: list[tuple[Any, ...]] = []
        marks = "(" + ", ".join("?" * len(after)) + ")"
        try:
            for row in self._damaged.execute(
                    f'SELECT * FROM "{self._name}" WHERE {self._key_text} > {marks} ORDER BY {self._order}', after):
                rows.append(row)
                if len(rows) >= ROWS:
                    break
        except DAMAGE:
            pass
        return rows

    def _beyond(self, after: tuple[int, ...]) -> tuple[int, ...] | None:
        """The smallest key behind which reading works again, None when there is none."""
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
            return bool(self._rows(start, 1))
        except DAMAGE:
            return False

    def _nearest(self, start: tuple[int, ...], place: int, step: int) -> tuple[int, ...]:
        """Between half a step and a step: where reading begins to work."""
        low, high = start[place] - step // 2 - 1, start[place]
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
            backwards = ", ".join(f'"{key}" DESC' for key in self._keys)
            try:
                for row in self._damaged.execute(f'SELECT * FROM "{self._name}" ORDER BY {backwards}'):
                    self._keep([row])
            except DAMAGE:
                pass
            return [Lost(self._name, (), None)]
        return []
