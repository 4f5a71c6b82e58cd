"""Answers a query on one folder: words by the index, the rest by rows.

In     a Query, a folder, whose read state counts.
Out    uids, ascending.
Spec   RFC 9051 §6.4.4; ARCHITECTURE "Search" (SUBJECT, FROM, HEADER: exact substrings; TEXT, BODY: word beginnings).
Fails  StoreError.

Plan: leaves that need the index become sets of blobs first. If these bound the answer and are few, the items of just
those contents are looked up: the cost is that of the hits. Otherwise what SQL can say of the hot row becomes the WHERE
of one scan in uid order (UNSEEN has a partial index). The rest is asked row by row, in slices that leave the loop its
turn.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from atoll.base.ids import UserId
from atoll.formats.mime import decoded, header_lines, search_text
from atoll.mailbox import blobs
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import StoreError
from atoll.mailbox.memory import MailboxMemory, unpack
from atoll.mailbox.model import Flag
from atoll.mailbox.place import in_list, read_sort_keys
from atoll.mailbox.query import (
    All,
    And,
    Body,
    Field,
    HasFlag,
    HasKeyword,
    Header,
    Ids,
    ModSeq,
    Not,
    Or,
    Query,
    Received,
    Sent,
    Size,
    Text,
    Uids,
    tag_of,
)
from atoll.mailbox.reading import HOT, spans, with_own_seen
from atoll.mailbox.search.feed import SearchFeed
from atoll.mailbox.search.index import expression, folded
from atoll.mailbox.uidset import UidSet
from atoll.sql.engine import Record, Value

SLICE_ROWS = 1000
SLOW_ROWS = 32
"""Rows of a slice when contents have to be read."""
FEW = 3
"""Contents are looked up one by one when there are less than a FEW-th as many as items in the folder."""
LOOKED_UP = 512
"""Contents of one statement."""
MAX_DEPTH = 64
_SENT = re.compile(rb"(\d{1,2})\s+(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\w*\s+(\d{4})", re.I)
_MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")

UNSEEN = "i.flags & 1 = 0"
"""In these words it is the condition of the partial index item_unseen."""
BY_UID = "i.fid = ? AND i.uid >= ?"
BY_UNSEEN = "i.mid = ? AND (i.fid, i.uid) >= (?, ?) AND (i.fid, i.uid) < (?, 0)"
"""The same so that the planner takes that index: with fid = ? it takes the primary key and reads the whole folder."""

Predicate = Callable[[Record], bool]


@dataclass(slots=True)
class Plan:
    """One search being answered."""

    database: MailboxDatabase
    feed: SearchFeed
    view: MailboxMemory
    fid: int
    own: UserId | None
    slow: bool = False
    _sets: dict[Query, set[int]] = field(default_factory=dict)
    _metas: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    _caught_up: bool = False

    # -- leaves that the index answers ----------------------------------------------------------------------------
    async def prepare(self, query: Query, depth: int = 0) -> None:
        """Ask the index for every leaf that it answers."""
        if depth > MAX_DEPTH:
            raise ValueError("query too deep")
        if isinstance(query, And | Or):
            for term in query.terms:
                await self.prepare(term, depth + 1)
        elif isinstance(query, Not):
            await self.prepare(query.term, depth + 1)
        elif isinstance(query, Field):
            self._sets[query] = await self._ask(
                lambda: self.feed.call(lambda: self.feed.index.containing(self.view.mid, query.name,
                                                                          folded(query.text))))
        elif isinstance(query, Text | Body):
            match = expression(query.text, "body" if isinstance(query, Body) else "")
            if match is not None:
                self._sets[query] = await self._ask(
                    lambda: self.feed.call(lambda: self.feed.index.matching(self.view.mid, match)))

    async def _ask(self, ask: Callable[[], Awaitable[set[int]]]) -> set[int]:
        if not self._caught_up:
            await self.feed.catch_up(self.view.guid)
            self._caught_up = True
        return await ask()

    # -- what SQL can say -------------------------------------------------------------------------------------------
    def where(self, query: Query) -> tuple[str, list[Value]] | None:
        """The query as a condition on item i, or None."""
        if isinstance(query, All):
            return "1 = 1", []
        if isinstance(query, And | Or):
            parts = [self.where(term) for term in query.terms]
            if any(part is None for part in parts) or not parts:
                return None
            word = " AND " if isinstance(query, And) else " OR "
            return (f"({word.join(part[0] for part in parts if part)})",
                    [value for part in parts if part for value in part[1]])
        if isinstance(query, Not):
            return self._where_not(query.term)
        if isinstance(query, HasFlag) and not (self.own is not None and query.flag & Flag.SEEN):
            return f"(i.flags & {int(query.flag)} = {int(query.flag)})", []
        if isinstance(query, Received):
            return _bounds("i.received", query.since, query.before)
        if isinstance(query, Size):
            return _bounds("i.size", None if query.larger is None else query.larger + 1, query.smaller)
        if isinstance(query, ModSeq) and self.own is None:
            return "i.cn >= ?", [query.at_least]
        if isinstance(query, Ids):
            return named(query, tag_of(self.view.guid))
        if isinstance(query, Uids) and len(query.uids.ranges) <= 8:
            ranges = query.uids.ranges
            return ("(" + " OR ".join(["i.uid BETWEEN ? AND ?"] * len(ranges)) + ")" if ranges else "1 = 0",
                    [number for pair in ranges for number in pair])
        return None

    def _where_not(self, term: Query) -> tuple[str, list[Value]] | None:
        if isinstance(term, HasFlag) and term.flag == Flag.SEEN and self.own is None:
            return UNSEEN, []
        inner = self.where(term)
        return None if inner is None else (f"NOT {inner[0]}", inner[1])

    # -- what is asked of each row ----------------------------------------------------------------------------------
    def predicate(self, query: Query) -> Predicate:
        """The query as a function of a hot row."""
        if isinstance(query, And):
            terms = [self.predicate(term) for term in query.terms]
            return lambda row: all(term(row) for term in terms)
        if isinstance(query, Or):
            choices = [self.predicate(term) for term in query.terms]
            return lambda row: any(choice(row) for choice in choices)
        if isinstance(query, Not):
            inner = self.predicate(query.term)
            return lambda row: not inner(row)
        if query in self._sets:
            found = self._sets[query]
            return lambda row: row[8] in found
        return self._leaf(query)

    def _leaf(self, query: Query) -> Predicate:
        if isinstance(query, HasFlag):
            bits = int(query.flag)
            return lambda row: row[1] & bits == bits
        if isinstance(query, HasKeyword):
            number = self.view.keyword_numbers.get(query.name.lower(), 0)
            return lambda row: row[2] is not None and number in unpack(row[2])
        if isinstance(query, Uids):
            uids = query.uids
            return lambda row: row[0] in uids
        if isinstance(query, Sent):
            return lambda row: _within(self._sent(row), query.since, query.before)
        if isinstance(query, Ids):
            condition, values = named(query, tag_of(self.view.guid))
            those = {uid for (uid,) in self.database.reader.all(
                f"SELECT i.uid FROM item i WHERE i.fid = ? AND {condition} ORDER BY i.uid", [self.fid, *values])}
            return lambda row: row[0] in those
        if isinstance(query, Header):
            return self._header(query)
        if isinstance(query, Text | Body):
            self.slow = True
            wanted, in_header = folded(query.text), isinstance(query, Text)
            return lambda row: self._holds(row, wanted, in_header)
        return _plain(query)

    def _sent(self, row: Record) -> int:
        envelope, sort = self._metas[row[0]]
        found = _SENT.search(envelope[:80])
        if found:
            try:
                day = datetime(int(found[3]), _MONTHS.index(found[2].lower()) + 1, int(found[1]), tzinfo=UTC)
                return int(day.timestamp() * 1000)
            except (ValueError, OverflowError):
                pass
        sent = read_sort_keys(sort)[4]
        return int(row[6]) if sent is None else sent

    def _header(self, query: Header) -> Predicate:
        name = query.name.lower().encode()
        wanted = folded(query.text)

        def in_block(row: Record) -> bool:
            data = self._content(row, header_only=True)
            return any(wanted in folded(decoded(raw.partition(b":")[2]).strip())
                       for field_name, raw in header_lines(data) if field_name.lower() == name)

        if name == b"message-id" and wanted:
            def by_key(row: Record) -> bool:
                known = read_sort_keys(self._metas[row[0]][1])[5]
                return wanted in folded(known.decode("utf-8", "replace")) if known else in_block(row)
            return by_key
        self.slow = True
        return in_block

    def _holds(self, row: Record, wanted: str, in_header: bool) -> bool:
        data = self._content(row, header_only=False)
        text = search_text(data).body
        if in_header:
            text = "\n".join([*(decoded(raw) for _, raw in header_lines(data)), text])
        return wanted in folded(text)

    def _content(self, row: Record, *, header_only: bool) -> bytes:
        try:
            if header_only and row[7] > blobs.CHUNK:
                return self.database.slices.read(row[8], 0, blobs.CHUNK)
            return blobs.read(self.database.reader, row[8])
        except StoreError:
            return b""

    # -- the items ----------------------------------------------------------------------------------------------
    def bound(self, query: Query) -> set[int] | None:
        """Contents without which nothing matches, if the index knows them."""
        if query in self._sets:
            return self._sets[query]
        if not isinstance(query, And | Or):
            return None
        parts = [self.bound(term) for term in query.terms]
        known = [part for part in parts if part is not None]
        if isinstance(query, And):
            return min(known, key=len, default=None)
        return set().union(*known) if len(known) == len(parts) else None

    async def run(self, query: Query) -> list[int]:
        """The uids."""
        await self.prepare(query)
        terms = query.terms if isinstance(query, And) else (query,)
        contents = self.bound(query)
        if contents is not None and len(contents) * FEW >= self.view.folders[self.fid].total:
            contents = None
        conditions: list[str] = []
        values: list[Value] = []
        rest: list[Query] = []
        for term in terms:
            part = self.where(term)
            if part is not None:
                conditions.append(part[0])
                values += part[1]
            elif contents is None or self._sets.get(term) is not contents:
                rest.append(term)
        predicates = [self.predicate(term) for term in rest]
        needs_meta = any(_needs_meta(term) for term in rest)
        columns = HOT if predicates or self.own is not None else "i.uid"
        found = (self._scan(columns, conditions, values) if contents is None
                 else self._look_up(columns, conditions, values, contents))
        uids: list[int] = []
        for number, rows in enumerate(found):
            if number:
                await self.database.turns.take()
            uids += self._picked(rows, predicates, needs_meta=needs_meta)
        return uids if contents is None else sorted(uids)

    def _scan(self, columns: str, conditions: list[str], values: list[Value]) -> Iterator[list[Record]]:
        """The folder's items in uid order, slice by slice."""
        of_folder = BY_UNSEEN if UNSEEN in conditions else BY_UID
        condition = " AND ".join([of_folder, *conditions])
        text = f"SELECT {columns} FROM item i WHERE {condition} ORDER BY i.fid, i.uid LIMIT ?"
        size = SLOW_ROWS if self.slow else SLICE_ROWS
        first = 1
        while True:
            where: list[Value] = [self.fid, first]
            if of_folder is BY_UNSEEN:
                where = [self.view.mid, self.fid, first, self.fid + 1]
            found = self.database.reader.all(text, [*where, *values, size])
            if found:
                yield found
            if len(found) < size:
                return
            first = found[-1][0] + 1

    def _look_up(self, columns: str, conditions: list[str], values: list[Value],
                 contents: set[int]) -> Iterator[list[Record]]:
        """The folder's items of these contents, slice by slice, each in uid order."""
        size = SLOW_ROWS if self.slow else LOOKED_UP
        ordered = sorted(contents)
        for at in range(0, len(ordered), size):
            marks, blobs_of_slice = in_list(ordered[at:at + size])
            # +: never by the folder's own key, which would read all of it
            condition = " AND ".join([f"i.blob IN ({marks})", "+i.fid = ?", *conditions])
            found = self.database.reader.all(f"SELECT {columns} FROM item i WHERE {condition} ORDER BY i.uid",
                                             [*blobs_of_slice, self.fid, *values])  # type: ignore[list-item]
            if found:
                yield found

    def _picked(self, found: list[Record], predicates: list[Predicate], *, needs_meta: bool) -> list[int]:
        if not predicates:
            return [row[0] for row in found]
        if self.own is not None:
            found = with_own_seen(self.database.reader, self.fid, self.own, found)
        if needs_meta:
            base = self.fid << 32
            self._metas = {place - base: (envelope, sort) for first, last in spans(UidSet.of(row[0] for row in found))
                           for place, envelope, sort in self.database.reader.all(
                               "SELECT place, substr(envelope, 1, 80), sort FROM item_meta WHERE place BETWEEN ? AND ?"
                               " ORDER BY place", (base | first, base | last))}
        return [row[0] for row in found if all(predicate(row) for predicate in predicates)]


def _needs_meta(query: Query) -> bool:
    if isinstance(query, And | Or):
        return any(_needs_meta(term) for term in query.terms)
    if isinstance(query, Not):
        return _needs_meta(query.term)
    return isinstance(query, Sent) or (isinstance(query, Header) and query.name.lower() == "message-id")


def _plain(query: Query) -> Predicate:
    if isinstance(query, Received):
        return lambda row: _within(row[6], query.since, query.before)
    if isinstance(query, Size):
        return lambda row: ((query.larger is None or row[7] > query.larger)
                            and (query.smaller is None or row[7] < query.smaller))
    if isinstance(query, ModSeq):
        return lambda row: bool(row[3] >= query.at_least)
    assert isinstance(query, All)
    return lambda _row: True


def _within(value: int, since: int | None, before: int | None) -> bool:
    return (since is None or value >= since) and (before is None or value < before)


def _bounds(column: str, since: int | None, before: int | None) -> tuple[str, list[Value]]:
    parts: list[str] = []
    values: list[Value] = []
    if since is not None:
        parts.append(f"{column} >= ?")
        values.append(since)
    if before is not None:
        parts.append(f"{column} < ?")
        values.append(before)
    return (f"({' AND '.join(parts)})" if parts else "1 = 1"), values


def named(query: Ids, tag: str) -> tuple[str, list[Value]]:
    """The condition on item i for "M1a2b-tag" or "T1a2b-tag"; what is no such id is no item's."""
    digits, _, home = query.object_id[1:].partition("-")
    letter = "M" if query.kind == "email" else "T"
    if not query.object_id.startswith(letter) or not re.fullmatch(r"[0-9a-f]{1,15}", digits):
        return "1 = 0", []
    number = int(digits, 16)
    if query.kind == "email" and home != tag:
        return "(i.email = ? AND i.email_of = ?)", [number, home]
    if home != tag:
        return "1 = 0", []
    if query.kind == "thread":
        return "i.conv = ?", [number]
    return "(i.email IS NULL AND i.id = ? OR i.email = ? AND i.email_of IS NULL)", [number, number]
