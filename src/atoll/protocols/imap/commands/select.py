"""SELECT and EXAMINE [RFC 9051 §6.3.2], [RFC 3501 §6.3.1]; CONDSTORE and QRESYNC parameters [RFC 7162 §3.1.8, §3.2.5].
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from atoll.mailbox import Access, Folder, Right, Row, UidMap
from atoll.protocols.imap import names
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.errors import Bad
from atoll.protocols.imap.selected import FLAG_NAMES, Selected
from atoll.protocols.imap.types import Qresync, Ranges, Select, ranges_of
from atoll.protocols.imap.wire import response
from atoll.protocols.imap.wire.cursor import MAX_MOD_SEQUENCE, Cursor

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session

MAX_MATCHES = 10_000
CHANGES = Right.SEEN | Right.WRITE | Right.DELETE_ITEMS | Right.EXPUNGE | Right.INSERT
"""Who has one of these changes what all readers see. Others have \\Seen of their own, and that only."""


def parse(cur: Cursor) -> Select:
    """SP mailbox [SP "(" select-param *(SP select-param) ")"]"""
    cur.space()
    mailbox = cur.mailbox()
    condstore, qresync = False, None
    if cur.skip(b" ("):
        while True:
            name = cur.word()
            if name == "CONDSTORE":
                condstore = True
            elif name == "QRESYNC":
                cur.space()
                qresync = _qresync(cur)
            else:
                raise Bad("Unknown parameter of SELECT")
            if cur.skip(b")"):
                break
            cur.space()
    cur.end()
    return Select(mailbox, condstore, qresync)


def _qresync(cur: Cursor) -> Qresync:
    """(uidvalidity SP modseq [SP known-uids] [SP (known-seqs SP known-uids)])"""
    cur.expect(b"(")
    uid_validity = cur.nonzero()
    cur.space()
    modseq = cur.number(MAX_MOD_SEQUENCE)
    known, match = None, None
    if cur.skip(b" "):
        if cur.peek() != b"(":
            known = cur.sequence_set(saved=False)
        if known is None or cur.skip(b" "):
            cur.expect(b"(")
            seqs = cur.sequence_set(saved=False)
            cur.space()
            match = (seqs, cur.sequence_set(saved=False))
            cur.expect(b")")
    cur.expect(b")")
    return Qresync(uid_validity, modseq, known, match)


async def run(session: Session, args: Select, tag: bytes) -> Ok:
    return await _open(session, args, examine=False)


async def run_examine(session: Session, args: Select, tag: bytes) -> Ok:
    return await _open(session, args, examine=True)


async def _open(session: Session, args: Select, *, examine: bool) -> Ok:
    if args.qresync is not None and not session.enabled.qresync:
        raise Bad("ENABLE QRESYNC first")  # [RFC 7162 §3.2.5]
    if args.condstore or args.qresync:
        session.enabled.condstore = True
    had = session.has_selected
    session.deselect()  # [RFC 9051 §6.3.2] also when what follows is refused
    if had:
        session.write(b"* OK [CLOSED] Previous mailbox is closed\r\n")
    access, folder = await names.open_folder(session, args.mailbox)
    takes_recent = not examine and bool(folder.rights & CHANGES)
    told = await access.select(folder, read_write=takes_recent)
    # No await from here to select(): map and number are of one moment.
    uids, folder = access.uid_map(told), access.folder_by_id(told.fid)
    selected = Selected(access, folder, uids, read_only=examine, takes_recent=takes_recent)
    if not session.enabled.rev2 and told.recent_uid < told.uidnext:  # [RFC 9051 §2.3.2] a rev2 client knows no \Recent
        selected.add_recent(((told.recent_uid, told.uidnext - 1),))
    session.select(selected)
    session.write(_lines(session, args, selected))
    if args.qresync is not None and args.qresync.uid_validity == folder.uidv:
        await _resync(session, selected, args.qresync)
    return Ok("Selected", "READ-ONLY" if examine else "READ-WRITE")


def _lines(session: Session, args: Select, selected: Selected) -> bytes:
    folder, access, rev2 = selected.folder, selected.access, session.enabled.rev2
    keywords = " ".join([name for _, name in FLAG_NAMES] + list(access.keyword_names()))
    name = response.mailbox(args.mailbox, utf8=rev2)
    lines = [f"* FLAGS ({keywords})".encode("ascii", "replace"), b"* %d EXISTS" % len(selected.uids)]
    if rev2:
        lines.append(b'* LIST () "/" ' + name)
    else:
        lines.append(b"* %d RECENT" % selected.recent_count)
        if unseen := selected.uids.seq(access.first_unseen(folder)):
            lines.append(b"* OK [UNSEEN %d] First unseen" % unseen)
    lines += [
        f"* OK [PERMANENTFLAGS ({_permanent(selected, keywords)})] Kept flags".encode("ascii", "replace"),
        b"* OK [UIDVALIDITY %d] Good" % folder.uidv,
        b"* OK [UIDNEXT %d] Next" % folder.uidnext,
        b"* OK [HIGHESTMODSEQ %d] Highest" % selected.cn,
        b"* OK [MAILBOXID (%b)] Id" % folder.object_id.encode("ascii"),
    ]
    return b"\r\n".join(lines) + b"\r\n"


def _permanent(selected: Selected, keywords: str) -> str:
    rights = selected.folder.rights
    if selected.read_only:
        return ""
    if rights & Right.WRITE and rights & Right.DELETE_ITEMS:
        return keywords + " \\*"
    kept = ["\\Seen"]
    kept += ["\\Deleted"] if rights & Right.DELETE_ITEMS else []
    if rights & Right.WRITE:
        kept += [word for word in keywords.split() if word not in ("\\Seen", "\\Deleted")] + ["\\*"]
    return " ".join(kept)


async def _resync(session: Session, selected: Selected, args: Qresync) -> None:
    """VANISHED (EARLIER) and the changed flags since the client was here [RFC 7162 §3.2.5.1]."""
    access, folder, uids = selected.access, selected.folder, selected.uids
    asked: Ranges | None = None
    if args.known_uids is not None:
        asked = args.known_uids.resolve(max(folder.uidnext - 1, 1))
    vanished, changed = changes(access, folder, uids, args.modseq, asked, beyond=True)
    if args.seq_match is not None:
        low = _first_difference(uids, args.seq_match[0].ranges, args.seq_match[1].ranges)
        vanished = [uid for uid in vanished if uid >= low]
    if vanished:
        session.write(b"* VANISHED (EARLIER) " + response.ranges(ranges_of(vanished)) + b"\r\n")
    for start in range(0, len(changed), 200):
        lines = [selected.fetch_line(row, seq, modseq=True) for row, seq in changed[start : start + 200]]
        session.write(b"".join(lines))
        await session.breathe()


def changes(access: Access, folder: Folder, uids: UidMap, modseq: int, asked: Ranges | None, *, beyond: bool = False,
            ) -> tuple[list[int], list[tuple[Row, int]]]:
    """(vanished uids, changed rows with their positions) since modseq, among the asked uids (None: all).

    beyond: rows that were not asked for, too, when nobody knows what changed since: the client may have seen them go.
    """
    last = folder.uidnext - 1
    pairs = ((1, last),) if asked is None else tuple((low, min(high, last)) for low, high in asked if low <= last)
    known = UidMap((low, high - low + 1) for low, high in pairs)
    found = access.changes(folder, modseq, known)
    return sorted(found.vanished), [(row, seq) for row in found.changed
                                    if (seq := uids.seq(row[0])) and ((beyond and found.whole) or known.seq(row[0]))]


def _first_difference(uids: UidMap, seqs: Ranges, known: Ranges) -> int:
    """Up to which uid the client's positions are ours: nothing below it can have vanished [RFC 7162 §3.2.5.2]."""
    low = 1
    pairs = zip(_numbers(seqs), _numbers(known), strict=False)
    for seq, uid in itertools.islice(pairs, MAX_MATCHES):
        if seq > len(uids) or uids.uid(seq) != uid:
            break
        low = uid + 1
    return low


def _numbers(ranges: Ranges) -> Iterator[int]:
    for low, high in ranges:
        yield from range(low, high + 1)
