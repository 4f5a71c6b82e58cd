"""Rows of a damaged SQLite file, page by page: the page above theirs is broken, or one beside it, their own is whole.

In     a file with page checksums that nobody writes to; which trees it has (tables and indexes), where they begin.
Out    Row: of every whole page that no tree reaches and that is not free; of the whole pages that one tree reaches.
Spec   SQLite's file format, "B-tree Pages", "Record Format", "The Freelist", "Cell Payload Overflow Pages". A page
       does not say whose it is: its rows have to fit the columns of exactly one tree that misses pages.
Fails  nothing of what stands in the file: what does not read as it must is left out.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from atoll.sql.mend import CHECKSUM_BYTES

INNER_INDEX, INNER_TABLE, LEAF_INDEX, LEAF_TABLE = 2, 5, 10, 13
_MAX_DEPTH = 20
"""Levels of a tree; SQLite's own limit."""
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
"""Serial type -> octets."""
NULL, INTEGER, REAL, TEXT, BLOB = "null", "integer", "real", "text", "blob"


@dataclass(frozen=True, slots=True)
class Tree:
    """A table or an index. columns: (name, kinds of value that may stand there), in the order of a record."""

    name: str
    root: int
    clustered: bool
    """Rows are the keys of an index tree (WITHOUT ROWID, and every index); else they have a rowid."""
    columns: tuple[tuple[str, frozenset[str]], ...]
    rowid: str = ""
    """The column that stands for the rowid; NULL in the record."""
    table: str = ""
    """Of an index: whose."""
    required: int = 0
    """Columns of the first version of the table: a record may end before those that came later."""

    @property
    def is_table(self) -> bool:
        return not self.table

    def fits(self, values: Sequence[Any]) -> bool:
        """Could a record be of it?"""
        return self.required <= len(values) <= len(self.columns) and all(
            _kind(value) in kinds for value, (_, kinds) in zip(values, self.columns, strict=False))


class Row(NamedTuple):
    """One row that was found."""

    table: str
    values: dict[str, Any]


def _kind(value: Any) -> str:
    if value is None:
        return NULL
    return INTEGER if isinstance(value, int) else REAL if isinstance(value, float) \
        else TEXT if isinstance(value, str) else BLOB


def trees_of(connection: apsw.Connection) -> list[Tree]:
    """The tables and indexes of an open database, its own list of them among them."""
    found = [Tree("sqlite_master", 1, False, tuple((name, frozenset({kind, NULL})) for name, kind in (
        ("type", TEXT), ("name", TEXT), ("tbl_name", TEXT), ("rootpage", INTEGER), ("sql", TEXT))), required=5)]
    rows: list[tuple[Any, ...]] = connection.execute(
        "SELECT type, name, tbl_name, rootpage, coalesce(sql, '') FROM sqlite_master WHERE rootpage > 0").fetchall()
    for kind, name, table, root, sql in rows:
        made = _table(connection, name, root, sql) if kind == "table" else _index(connection, name, table, root)
        found.append(made)
    return found


def _columns(connection: apsw.Connection, table: str) -> list[tuple[str, str, bool, int]]:
    """(name, declared type, may be NULL, place in the primary key from 1)."""
    rows: list[tuple[Any, ...]] = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
    return [(str(row[1]), str(row[2]).upper(), not row[3], int(row[5])) for row in rows]


def _kinds(declared: str, *, null: bool) -> frozenset[str]:
    kind = INTEGER if "INT" in declared else TEXT if "TEXT" in declared else BLOB
    return frozenset({kind, NULL} if null else {kind})


def _table(connection: apsw.Connection, name: str, root: int, sql: str) -> Tree:
    columns = _columns(connection, name)
    keys = sorted((place, column) for column, _, _, place in columns if place)
    clustered = "WITHOUT ROWID" in sql.upper()
    if clustered:
        first = [column for _, column in keys]
        order = first + [column for column, _, _, place in columns if not place]
    else:
        order = [column for column, *_ in columns]
    facts = {column: (declared, null and not place) for column, declared, null, place in columns}
    single = keys[0][1] if not clustered and len(keys) == 1 and facts[keys[0][1]][0] == "INTEGER" else ""
    made = tuple((column, frozenset({NULL}) if column == single
                  else _kinds(facts[column][0], null=facts[column][1])) for column in order)
    later = 0
    for _, kinds in reversed(made):  # a column that was added later may be missing: it has to allow NULL
        if NULL not in kinds:
            break
        later += 1
    return Tree(name, root, clustered, made, single, required=max(len(made) - later, 1))


def _index(connection: apsw.Connection, name: str, table: str, root: int) -> Tree:
    facts = {column: _kinds(declared, null=null and not place)
             for column, declared, null, place in _columns(connection, table)}
    rows: list[tuple[Any, ...]] = connection.execute(f'PRAGMA index_xinfo("{name}")').fetchall()
    made = tuple((str(row[2] or "rowid"), facts.get(str(row[2]), frozenset({INTEGER}))) for row in rows)
    return Tree(name, root, True, made, table=table, required=len(made))


class Pages:
    """The pages of one file."""

    def __init__(self, path: Path, broken: Collection[int]) -> None:
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size = int.from_bytes(self._data[16:18], "big")
        self._size = 65536 if size == 1 else size
        self._usable = self._size - CHECKSUM_BYTES
        self._count = len(self._data) // self._size
        self._broken = frozenset(broken)

    def close(self) -> None:
        self._data.close()

    def lost(self, trees: Sequence[Tree]) -> Iterator[Row]:
        """Rows of tables that `trees` do not reach and once did."""
        taken = bytearray(self._count + 1)
        losing = [tree for tree in trees if not self._walk(tree, taken)]
        self._free(taken)
        for number in range(2, self._count + 1):
            if taken[number] or number in self._broken:
                continue
            kind = self._data[(number - 1) * self._size]
            if kind not in (INNER_INDEX, LEAF_INDEX, LEAF_TABLE):
                continue
            rows = self._rows(number, kind)
            clustered = kind != LEAF_TABLE
            fitting = [tree for tree in losing if tree.clustered == clustered
                       and rows and all(tree.fits(values) for _, values in rows if values is not None)]
            if len(fitting) == 1 and fitting[0].is_table:
                yield from _named(fitting[0], rows)

    def rows(self, tree: Tree, wanted: Callable[[int], bool] = lambda rowid: True) -> Iterator[Row]:
        """What stands on the whole pages that a tree leads to; of a table with rowids only those that are wanted."""
        reached = bytearray(self._count + 1)
        self._walk(tree, reached)
        for number in range(2, self._count + 1):
            if reached[number] and number not in self._broken and self._type(number) != INNER_TABLE:
                found = self._rows(number, self._type(number), wanted)
                yield from _named(tree, [row for row in found if row[1] is not None and tree.fits(row[1])])

    # -- which pages have an owner --------------------------------------------------------------------------------
    def _walk(self, tree: Tree, reached: bytearray) -> bool:
        """Is every leaf of it reached?"""
        level = [tree.root] if 0 < tree.root <= self._count else []
        whole = bool(level)
        for _ in range(_MAX_DEPTH):
            for number in level:
                reached[number] = 1
            sound = [number for number in level if number not in self._broken]
            if any(self._type(number) in (LEAF_INDEX, LEAF_TABLE) for number in sound):
                return whole  # all leaves of a tree are on one level: a broken page here is one
            whole = whole and len(sound) == len(level)
            level = [child for number in sound for child in self._children(number) if 0 < child <= self._count]
        return whole and not level

    def _free(self, taken: bytearray) -> None:
        """Mark the pages of the freelist, as far as it can be followed: what stands in them is of the past."""
        trunk = 0 if 1 in self._broken else int.from_bytes(self._data[32:36], "big")
        while 0 < trunk <= self._count and not taken[trunk] and trunk not in self._broken:
            taken[trunk] = 1
            page = self._page(trunk)
            following, count = struct.unpack_from(">II", page)
            for leaf in struct.unpack_from(f">{min(count, self._usable // 4 - 2)}I", page, 8):
                if leaf <= self._count:
                    taken[leaf] = 1
            trunk = following

    def _page(self, number: int) -> bytes:
        return self._data[(number - 1) * self._size:number * self._size - CHECKSUM_BYTES]

    def _type(self, number: int) -> int:
        return self._data[(number - 1) * self._size + (100 if number == 1 else 0)]

    def _children(self, number: int) -> list[int]:
        page, start = self._page(number), 100 if number == 1 else 0
        cells = [at for at in self._cells(page, start, 12) if at + 4 <= self._usable]
        return [*(int.from_bytes(page[at:at + 4], "big") for at in cells),
                int.from_bytes(page[start + 8:start + 12], "big")]

    def _cells(self, page: bytes, start: int, head: int) -> tuple[int, ...]:
        count = int.from_bytes(page[start + 3:start + 5], "big")
        if start + head + 2 * count > self._usable:
            return ()
        return struct.unpack_from(f">{count}H", page, start + head)

    # -- what stands in one ---------------------------------------------------------------------------------------
    def _rows(self, number: int, kind: int,
              wanted: Callable[[int], bool] = lambda rowid: True) -> list[tuple[int, list[Any] | None]]:
        """(rowid, values) of each cell; None for one whose further pages cannot be had. [] if it is no such page."""
        page = self._page(number)
        found = []
        try:
            for cell in self._cells(page, 0, 12 if kind == INNER_INDEX else 8):
                at = cell + 4 if kind == INNER_INDEX else cell
                size, at = _varint(page, at)
                rowid = 0
                if kind == LEAF_TABLE:
                    rowid, at = _varint(page, at)
                    if not wanted(_signed(rowid)):
                        continue
                payload = self._payload(page, at, size, table=kind == LEAF_TABLE)
                found.append((_signed(rowid), None if payload is None else _record(payload)))
        except (IndexError, ValueError, struct.error):
            return []
        return found

    def _payload(self, page: bytes, at: int, size: int, *, table: bool) -> bytes | None:
        usable = self._usable
        most = usable - 35 if table else (usable - 12) * 64 // 255 - 23
        if size <= most:
            if at + size > usable:
                raise ValueError("beyond the page")
            return page[at:at + size]
        least = (usable - 12) * 32 // 255 - 23
        here = least + (size - least) % (usable - 4)
        here = here if here <= most else least
        if at + here + 4 > usable or size > len(self._data):
            raise ValueError("beyond the page")
        pieces, left = [page[at:at + here]], size - here
        following = int.from_bytes(page[at + here:at + here + 4], "big")
        while left > 0:
            if not 1 < following <= self._count or following in self._broken:
                return None
            more = self._page(following)
            pieces.append(more[4:4 + left])
            left -= usable - 4
            following = int.from_bytes(more[:4], "big")
        return b"".join(pieces)


def _named(tree: Tree, rows: Sequence[tuple[int, list[Any] | None]]) -> Iterator[Row]:
    for rowid, values in rows:
        if values is not None:
            named = {name: value for (name, _), value in zip(tree.columns, values, strict=False)}
            if tree.rowid:
                named[tree.rowid] = rowid
            yield Row(tree.name, named)


def _varint(page: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends); as unsigned."""
    value = 0
    for count in range(9):
        octet = page[at + count]
        if count == 8:
            return value << 8 | octet, at + 9
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return value, at + count + 1
    raise ValueError


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _record(payload: bytes) -> list[Any]:
    """The values of a record; ValueError, IndexError if it is none."""
    head, at = _varint(payload, 0)
    if not at <= head <= len(payload):
        raise ValueError("no record")
    types = []
    while at < head:
        serial, at = _varint(payload, at)
        types.append(serial)
    values = []
    for serial in types:
        value, at = _value(payload, at, serial)
        values.append(value)
    if at != len(payload):
        raise ValueError("no record")
    return values


def _value(payload: bytes, at: int, serial: int) -> tuple[Any, int]:
    size = _INTEGERS.get(serial, 0)
    if size:
        value: Any = int.from_bytes(payload[at:at + size], "big", signed=True)
    elif serial == 0:
        value = None
    elif serial in (8, 9):
        value = serial - 8
    elif serial == 7:
        size = 8
        (value,) = struct.unpack_from(">d", payload, at)
    elif serial >= 12:
        size = (serial - 12) // 2
        raw = payload[at:at + size]
        value = raw if serial % 2 == 0 else raw.decode("utf-8")
    else:
        raise ValueError("a serial type that is not in use")
    if at + size > len(payload):
        raise ValueError("beyond the record")
    return value, at + size
