"""SORT and UID SORT [RFC 5256 §3], ESORT [RFC 5267]: by keys that were computed at delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from atoll.mailbox import UidSet
from atoll.mailbox.model import SortRow
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.commands.search import extended_line, find, highest, save
from atoll.protocols.imap.query import has_modseq
from atoll.protocols.imap.types import Sort
from atoll.protocols.imap.wire.cursor import Cursor
from atoll.protocols.imap.wire.search import parse_sort

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session

COLUMN = {"ARRIVAL": 1, "SIZE": 2, "SUBJECT": 3, "FROM": 4, "TO": 5, "CC": 6, "DATE": 7}
TEXTS = ("SUBJECT", "FROM", "TO", "CC")
SORT_HERE = 20_000
"""Rows sorted on the loop (about 10 ms); more leave it."""


def parse(cur: Cursor) -> Sort:
    """SP criteria SP charset SP program"""
    cur.space()
    return parse_sort(cur)


async def sort_rows(session: Session, uids: list[int]) -> list[SortRow]:
    """The sort keys of these messages, ascending by uid."""
    selected = session.box
    rows: list[SortRow] = []
    async for part in selected.access.sort_rows(selected.folder, UidSet.of(uids)):
        rows.extend(part)
    return rows


def in_order(rows: list[SortRow], criteria: tuple[tuple[str, bool], ...]) -> list[int]:
    """Uids in the order of the criteria; equal ones by their position, REVERSE or not [RFC 5256 §3].

    Texts compare in capitals, as i;ascii-casemap and i;unicode-casemap do: "A" < "[" < "_" [RFC 4790 §9.2].
    """
    for name, reverse in reversed(criteria):
        key = itemgetter(COLUMN[name])
        rows.sort(key=partial(_in_capitals, key) if name in TEXTS else key, reverse=reverse)
    return [row[0] for row in rows]


def _in_capitals(key: Callable[[SortRow], Any], row: SortRow) -> str:
    return str(key(row)).upper()


async def run(session: Session, args: Sort, tag: bytes, *, uid: bool) -> Ok:
    selected, returns = session.box, args.search.returns
    if "SAVE" in returns:
        selected.saved = ()
    rows = await sort_rows(session, await find(session, args.search))
    if len(rows) > SORT_HERE:
        uids = await asyncio.to_thread(in_order, rows, args.criteria)
    else:
        uids = in_order(rows, args.criteria)
    if "SAVE" in returns:
        save(selected, returns, sorted(uids))
    numbers = uids if uid else [selected.uids.seq(one) for one in uids]
    modseq = await highest(session, selected, uids, returns) if has_modseq(args.search.key) else 0
    if not args.search.extended:
        words = [b"* SORT", *(b"%d" % number for number in numbers)]
        if modseq:
            words.append(b"(MODSEQ %d)" % modseq)  # [RFC 7162 §3.1.6]
        session.write(b" ".join(words) + b"\r\n")
    elif returns != {"SAVE"}:
        session.write(extended_line(tag, returns, numbers, modseq, uid=uid))
    return Ok("Sorted")


run_sort = partial(run, uid=False)
run_uid_sort = partial(run, uid=True)
