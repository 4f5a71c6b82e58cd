"""SEARCH and UID SEARCH [RFC 9051 §6.4.4], ESEARCH [RFC 4731], SEARCHRES [RFC 5182], MODSEQ [RFC 7162 §3.1.5]."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from atoll.mailbox import UidSet, Want
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.commands.fetch import slices
from atoll.protocols.imap.query import has_modseq, to_query
from atoll.protocols.imap.selected import Selected
from atoll.protocols.imap.types import Search, ranges_of
from atoll.protocols.imap.wire import response
from atoll.protocols.imap.wire.cursor import Cursor
from atoll.protocols.imap.wire.search import parse_search

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session


def parse(cur: Cursor) -> Search:
    """SP program"""
    cur.space()
    return parse_search(cur)


async def run(session: Session, args: Search, tag: bytes, *, uid: bool) -> Ok:
    selected = session.box
    if "SAVE" in args.returns:
        selected.saved = ()  # [RFC 5182 §2.1] a search that fails leaves nothing
    uids = await find(session, args)
    numbers = uids if uid else [selected.uids.seq(one) for one in uids]
    modseq = await highest(session, selected, uids, args.returns) if has_modseq(args.key) and uids else 0
    if "SAVE" in args.returns:
        save(selected, args.returns, uids)
    if args.extended or session.enabled.rev2:
        if args.returns != {"SAVE"}:
            session.write(extended_line(tag, args.returns or frozenset({"ALL"}), numbers, modseq, uid=uid))
        return Ok("Searched")
    words = [b"* SEARCH", *(b"%d" % number for number in numbers)]
    if modseq:
        words.append(b"(MODSEQ %d)" % modseq)
    session.write(b" ".join(words) + b"\r\n")
    return Ok("Searched")


async def find(session: Session, args: Search) -> list[int]:
    """Matching uids that this session knows, ascending."""
    selected = session.box
    if has_modseq(args.key):
        session.use_condstore()
    found = await selected.access.search(selected.folder, to_query(args.key, selected))
    known = selected.uids
    return [uid for uid in found if known.seq(uid)]


def save(selected: Selected, returns: frozenset[str], uids: list[int]) -> None:
    """What "$" will be [RFC 5182 §2.1]: all, or with MIN and MAX only those."""
    if uids and returns & {"MIN", "MAX"} and not returns & {"ALL", "COUNT"}:
        uids = sorted({one for one, name in ((uids[0], "MIN"), (uids[-1], "MAX")) if name in returns})
    selected.saved = tuple(ranges_of(uids))


def extended_line(tag: bytes, returns: frozenset[str], numbers: list[int], modseq: int, *, uid: bool) -> bytes:
    """An ESEARCH answer. Sequences are written as sets, in the order of the numbers.

    MIN and MAX of sorted numbers are the first and the last in that order [RFC 5267 §3].
    """
    words = [b'* ESEARCH (TAG %b)' % response.quoted(tag)]
    if uid:
        words.append(b"UID")
    if numbers:
        if "MIN" in returns:
            words.append(b"MIN %d" % numbers[0])
        if "MAX" in returns:
            words.append(b"MAX %d" % numbers[-1])
        if "ALL" in returns:
            words.append(b"ALL " + response.ranges(ranges_of(numbers)))
    if "COUNT" in returns:
        words.append(b"COUNT %d" % len(numbers))
    if modseq:
        words.append(b"MODSEQ %d" % modseq)
    return b" ".join(words) + b"\r\n"


async def highest(session: Session, selected: Selected, uids: list[int], returns: frozenset[str]) -> int:
    """The highest MODSEQ of the found messages, of those that MIN and MAX tell where only they are [RFC 4731 §3.2]."""
    if uids and returns & {"MIN", "MAX"} and not returns & {"ALL", "COUNT"}:
        uids = sorted({one for one, name in ((uids[0], "MIN"), (uids[-1], "MAX")) if name in returns})
    top = 0
    for rows in slices(selected, list(UidSet.of(uids).ranges), Want.HOT, 200):
        top = max(top, max(row[3] for row in rows))
        await session.breathe()
    return top


run_search = partial(run, uid=False)
run_uid_search = partial(run, uid=True)
