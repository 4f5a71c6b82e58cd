"""FETCH and UID FETCH [RFC 9051 §6.4.5], [RFC 3501 §6.4.5], CHANGEDSINCE and VANISHED [RFC 7162 §3.1.4, §3.2.6].

What was computed at delivery (ENVELOPE, BODYSTRUCTURE, sizes) is copied from rows, some hundred rows a write; every
slice of rows is short, then others have their turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from atoll.mailbox import Block, Flag, Row, UidMap, UidSet, Want
from atoll.protocols.imap.bodies import Bodies
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.commands.select import changes
from atoll.protocols.imap.errors import Bad
from atoll.protocols.imap.items import Plan
from atoll.protocols.imap.selected import Selected
from atoll.protocols.imap.types import Fetch, ranges_of
from atoll.protocols.imap.wire import response
from atoll.protocols.imap.wire.cursor import Cursor
from atoll.protocols.imap.wire.fetch import parse_fetch

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session

SLICES = {Want.HOT: 500, Want.MARKS: 1000, Want.META: 250, Want.LISTED: 250}
"""Rows read and printed at once: about a millisecond."""
BODY_SLICE = 32
_UID_LINE = b"* %d FETCH (UID %d)\r\n"
SHORT = 50
"""Rows after which nobody else needs to have his turn first."""


def parse(cur: Cursor) -> Fetch:
    """SP sequence-set SP items"""
    cur.space()
    return parse_fetch(cur)


async def run(session: Session, args: Fetch, tag: bytes, *, uid: bool) -> Ok:
    selected = session.box
    if args.vanished and not (uid and session.enabled.qresync and args.changed_since is not None):
        raise Bad("VANISHED needs UID FETCH, CHANGEDSINCE and ENABLE QRESYNC")
    if args.changed_since is not None or "MODSEQ" in args.items:
        session.use_condstore()
    plan = Plan(args.items, selected, uid=uid, modseq=args.changed_since is not None)
    ranges = selected.asked(args.messages, uid=uid)
    if args.changed_since is not None:
        return await _changed(session, selected, plan, args, ranges)
    if plan.only_uids:
        return await _uids(session, selected, ranges)
    await _write_all(session, selected, plan, ranges)
    missed = not uid and sum(high - low + 1 for low, high in ranges) > plan.count
    return Ok("Fetched", "EXPUNGEISSUED" if missed else "")  # [RFC 5530 §3]


async def _uids(session: Session, selected: Selected, ranges: list[tuple[int, int]]) -> Ok:
    """Uids are told of all messages that the session knows, also of those that others have expunged meanwhile.

    The client learns of that by the EXPUNGE, and may use the numbers until then [RFC 2180 §4.1.2].
    """
    size, filled = SLICES[Want.MARKS], list[int]()
    for low, high in ranges:
        for first, count in selected.uids.within(low, high):
            number = selected.uids.seq(first)
            for done in range(0, count, size):
                some = min(size, count - done)
                pairs = [0] * (2 * some)
                pairs[::2] = range(number + done, number + done + some)
                pairs[1::2] = range(first + done, first + done + some)
                filled += pairs
                if len(filled) >= 2 * size:
                    session.write(_UID_LINE * (len(filled) // 2) % tuple(filled))
                    filled.clear()
                    await session.breathe()
    session.write(_UID_LINE * (len(filled) // 2) % tuple(filled))
    return Ok("Fetched")


async def _write_all(session: Session, selected: Selected, plan: Plan, ranges: list[tuple[int, int]]) -> None:
    asked = plan.marks_seen and not selected.read_only
    for rows in slices(selected, ranges, plan.want, SLICES.get(plan.want, BODY_SLICE)):
        if isinstance(rows, Block) and (text := plan.whole(rows, selected.uids)):
            session.write(text)
            await session.breathe()
            continue
        numbered = list(number(selected, rows))
        seen = await _mark_seen(selected, numbered) if asked else {}
        await _write(session, selected, plan, numbered, seen)


def slices(selected: Selected, ranges: list[tuple[int, int]], want: Want, size: int) -> Iterator[Sequence[Row]]:
    """Rows of the ranges, at most `size` at once. Many small ranges are read together."""
    access, folder = selected.access, selected.folder
    last = selected.uids.last_uid
    ranges = [(low, min(high, last)) for low, high in ranges if low <= last]
    if len(ranges) > 4:
        yield from _set_slices(selected, UidSet(tuple(ranges)), want, size)
        return
    for low, high in ranges:
        while low <= high:
            rows = (access.listed(folder, low, high) if want == Want.LISTED
                    else access.rows(folder, low, high, want, size))
            if not rows:
                break
            yield rows
            if len(rows) < size and want != Want.LISTED and not want & Want.BODY:
                break
            low = (rows.last if isinstance(rows, Block) else rows[-1][0]) + 1


def _set_slices(selected: Selected, uids: UidSet, want: Want, size: int) -> Iterator[Sequence[Row]]:
    while uids:
        rows = selected.access.rows_of(selected.folder, uids, want, size)
        if not rows:
            return
        yield rows
        last = rows[-1][0]
        uids = UidSet(tuple((max(low, last + 1), high) for low, high in uids.ranges if high > last))


def number(selected: Selected, rows: Sequence[Row]) -> Iterator[tuple[int, Row]]:
    """(position, row) of the rows that this session knows."""
    uids = selected.uids
    if rows:
        first, last = uids.seq(rows[0][0]), uids.seq(rows[-1][0])
        if first and last - first == len(rows) - 1 == rows[-1][0] - rows[0][0]:  # one run, all of it known
            return zip(range(first, last + 1), rows, strict=True)
    return _numbered(uids, rows)


def _numbered(uids: UidMap, rows: Sequence[Row]) -> Iterator[tuple[int, Row]]:
    position = uid = 0
    for row in rows:
        position = position + 1 if row[0] == uid + 1 and position else uids.seq(row[0])
        uid = row[0]
        if position:
            yield position, row


async def _mark_seen(selected: Selected, numbered: list[tuple[int, Row]]) -> dict[int, Row]:
    """Set \\Seen where it is not; the rows as they are now."""
    unseen = UidSet.of(row[0] for _, row in numbered if not row[1] & Flag.SEEN)
    if not unseen:
        return {}
    done = await selected.access.flags(selected.folder, unseen, "+", Flag.SEEN)
    told = selected.told = selected.told or {}
    told.update((row[0], row[3]) for row in done.rows)
    return {row[0]: row for row in done.rows}


async def _write(session: Session, selected: Selected, plan: Plan, numbered: list[tuple[int, Row]],
                 seen: dict[int, Row]) -> None:
    plan.count += len(numbered)
    if numbered:
        plan.ready(selected.folder, numbered[0][1][0], numbered[-1][1][0])
    if not plan.bodies:
        session.write(plan.lines(numbered))
        if len(numbered) < SHORT:  # no time was used up
            await session.drain()
            return
    else:
        bodies = Bodies(session, selected, plan)
        for position, row in numbered:
            await bodies.write(position, row, seen.get(row[0]))
        bodies.flush()
    await session.breathe()


async def _changed(session: Session, selected: Selected, plan: Plan, args: Fetch, ranges: list[tuple[int, int]]) -> Ok:
    """CHANGEDSINCE reads the change log, not the folder: its cost is that of the changes."""
    assert args.changed_since is not None
    now = selected.access.folder_by_id(selected.folder.fid)  # messages have arrived since it was selected
    vanished, changed = changes(selected.access, now, selected.uids, args.changed_since, tuple(ranges))
    if args.vanished and vanished:
        gone = [uid for uid in vanished if not selected.uids.seq(uid)]  # those of the map are told as news
        if gone:
            session.write(b"* VANISHED (EARLIER) " + response.ranges(ranges_of(gone)) + b"\r\n")
    if plan.want == Want.HOT:
        size = SLICES[Want.HOT]
        for start in range(0, len(changed), size):
            await _write(session, selected, plan, [(seq, row) for row, seq in changed[start : start + size]], {})
        return Ok("Fetched")
    wanted = list(ranges_of([row[0] for row, _ in changed]))
    await _write_all(session, selected, plan, wanted)
    return Ok("Fetched")


run_fetch = partial(run, uid=False)
run_uid_fetch = partial(run, uid=True)
