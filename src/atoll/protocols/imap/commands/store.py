"""STORE and UID STORE [RFC 9051 §6.4.6], UNCHANGEDSINCE [RFC 7162 §3.1.3]."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from atoll.mailbox import Flag, FlagsDone, UidSet
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.commands.fetch import number
from atoll.protocols.imap.errors import Bad, No
from atoll.protocols.imap.selected import FLAG_OF, Selected
from atoll.protocols.imap.types import Store, ranges_of
from atoll.protocols.imap.wire import response
from atoll.protocols.imap.wire.cursor import Cursor
from atoll.protocols.imap.wire.fetch import parse_store

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session

BATCH = 4000
"""Messages changed in one commit, some 20 ms of work: others write between two."""
LINES = 500
"""Answers of one write."""
MAX_KEYWORD = 100


def parse(cur: Cursor) -> Store:
    """SP sequence-set SP [modifier SP] flags"""
    cur.space()
    return parse_store(cur)


def split_flags(names: tuple[str, ...]) -> tuple[Flag, frozenset[str]]:
    """System flags and keywords. \\Recent cannot be set [RFC 3501 §2.3.2]; Bad for another flag that is none."""
    flags, keywords = Flag(0), set()
    for name in names:
        known = FLAG_OF.get(name.lower())
        if known is not None:
            flags |= known
        elif name.startswith("\\"):
            raise Bad("No such flag")
        elif len(name) > MAX_KEYWORD:
            raise No("LIMIT", "Keyword too long")
        else:
            keywords.add(name)
    return flags, frozenset(keywords)


async def run(session: Session, args: Store, tag: bytes, *, uid: bool) -> Ok:
    selected = session.box
    if selected.read_only:
        raise No("READ-ONLY", "The mailbox is open read-only")
    if args.unchanged_since is not None:
        session.use_condstore()
    flags, keywords = split_flags(args.flags)
    ranges = selected.asked(args.messages, uid=uid)
    modified: list[tuple[int, int]] = []
    for position, uids in enumerate(batches(selected, ranges, BATCH)):
        if position:
            await session.breathe()
        done = await selected.access.flags(selected.folder, uids, args.op, flags, keywords, args.unchanged_since,
                                           stand=selected.cn)
        modified.extend(done.modified.ranges)
        _tell(session, selected, args, done)
    if modified:
        numbers = modified if uid else list(ranges_of(_positions(selected, modified)))
        return Ok("Changed, but for some", "MODIFIED " + response.ranges(numbers).decode("ascii"))
    return Ok("Changed")


def batches(selected: Selected, ranges: list[tuple[int, int]], size: int) -> list[UidSet]:
    """The known messages of the ranges in sets of at most `size`."""
    sets: list[UidSet] = []
    pending: list[tuple[int, int]] = []
    room = size
    for low, high in ranges:
        for start, count in selected.uids.within(low, high):
            first = start
            while count:
                step = min(count, room)
                pending.append((first, first + step - 1))
                first, count, room = first + step, count - step, room - step
                if not room:
                    sets.append(UidSet.of_ranges(pending))
                    pending, room = [], size
    if pending:
        sets.append(UidSet.of_ranges(pending))
    return sets


def _positions(selected: Selected, ranges: list[tuple[int, int]]) -> list[int]:
    return [position for low, high in ranges for uid in range(low, high + 1)
            if (position := selected.uids.seq(uid))]


def _tell(session: Session, selected: Selected, args: Store, done: FlagsDone) -> None:
    told = selected.told = selected.told or {}
    # Silent is the change of this client only: what somebody else changed meanwhile is told [RFC 9051 §6.4.6].
    told.update((row[0], row[3]) for row in done.rows if not (args.silent and row[0] in done.foreign))
    condstore = session.enabled.condstore
    if args.silent and not condstore:
        return
    if args.silent:  # [RFC 7162 §3.1.3] the MODSEQ is told even then
        lines = [b"* %d FETCH (UID %d MODSEQ (%d))\r\n" % (seq, row[0], row[3])
                 for seq, row in number(selected, done.rows)]
        session.write(b"".join(lines))
        return
    numbered = list(number(selected, done.rows))
    for start in range(0, len(numbered), LINES):
        session.write(selected.fetch_lines(numbered[start : start + LINES], modseq=condstore))


run_store = partial(run, uid=False)
run_uid_store = partial(run, uid=True)
