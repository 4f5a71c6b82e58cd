"""protocols.imap.selected -- a selected mailbox as one session sees it, and what the session is told of changes.

In     Access.look: what happened since the change number that this session was told of.
Out    EXPUNGE or VANISHED, EXISTS, RECENT, FETCH lines, ready for the wire.
Spec   [RFC 9051 §5.2, §7.5.1] when sequence numbers may change; [RFC 7162 §3.2.10] VANISHED; STORE 1: MODSEQ = cn.
Fails  StoreError when the folder is gone; Bad for a message that is not there.
Not    when to look (session).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from atoll.mailbox import Access, Flag, Folder, Row, UidMap, UidSet
from atoll.mailbox.uidset import MAX_UID
from atoll.protocols.imap.types import STAR, Ranges, SequenceSet, merge, ranges_of
from atoll.protocols.imap.wire import response
from atoll.protocols.imap.wire.errors import Bad

FLAG_NAMES: tuple[tuple[int, str], ...] = (
    (Flag.SEEN, "\\Seen"), (Flag.ANSWERED, "\\Answered"), (Flag.FLAGGED, "\\Flagged"), (Flag.DELETED, "\\Deleted"),
    (Flag.DRAFT, "\\Draft"), (Flag.FORWARDED, "$Forwarded"), (Flag.MDNSENT, "$MDNSent"), (Flag.JUNK, "$Junk"),
    (Flag.NOTJUNK, "$NotJunk"),
)
FLAG_OF: dict[str, Flag] = {name.lower(): Flag(bit) for bit, name in FLAG_NAMES}
MAX_RENDERED = 4096

_rendered: dict[tuple[int, tuple[str, ...]], bytes] = {}


def flag_text(flags: int, keywords: tuple[str, ...], recent: bool) -> bytes:
    """"\\Seen $Junk work", without parentheses."""
    text = _rendered.get((flags, keywords))
    if text is None:
        names = [name for bit, name in FLAG_NAMES if flags & bit]
        text = " ".join([*names, *keywords]).encode("ascii", "replace")
        if len(_rendered) >= MAX_RENDERED:
            _rendered.clear()
        _rendered[flags, keywords] = text
    if recent:
        return b"\\Recent " + text if text else b"\\Recent"
    return text


class Selected:
    """One selected mailbox. The session knows the messages in `uids` as they were at `cn`."""

    __slots__ = ("access", "cn", "folder", "read_only", "recent", "recent_low", "saved", "takes_recent", "told",
                 "uids", "unsubscribe")

    def __init__(self, access: Access, folder: Folder, uids: UidMap, *, read_only: bool,
                 takes_recent: bool) -> None:
        self.access = access
        self.folder = folder
        self.uids = uids
        self.cn = folder.cn_high
        self.read_only = read_only
        self.takes_recent = takes_recent
        self.recent = UidSet()               # those that this session was told of first [RFC 3501 §2.3.2]
        self.recent_low = MAX_UID + 1        # the lowest of them
        self.saved: Ranges = ()              # "$" [RFC 5182], as uids
        self.told: dict[int, int] | None = None  # uid -> cn: what this command's own answers already said
        self.unsubscribe: Callable[[], None] = _nothing

    @property
    def recent_count(self) -> int:
        """How many messages are \\Recent in this session [RFC 3501 §7.3.2]."""
        return sum(count for first, last in self.recent.ranges for _, count in self.uids.within(first, last))

    def add_recent(self, ranges: Iterable[tuple[int, int]]) -> None:
        """These are \\Recent to this session."""
        self.recent = UidSet.of_ranges([*self.recent.ranges, *ranges])
        self.recent_low = self.recent.ranges[0][0]

    def flags_of(self, row: Row) -> bytes:
        """The flags of a row, without parentheses."""
        uid = row[0]
        recent = uid >= self.recent_low and uid in self.recent
        return flag_text(row[1], self.access.keywords(row) if row[2] else (), recent)

    def asked(self, messages: SequenceSet, *, uid: bool, search: bool = False) -> list[tuple[int, int]]:
        """The messages that a command names, as ranges of uids; "$" is resolved here [RFC 9051 §6.4.4.1].

        A sequence number beyond the end is Bad [RFC 9051 §9 seq-number], but "7:*" is the last message even in a folder
        of 5: clients that ask for what is new do so. A search finds nothing there. Uids that are not there do not
        matter.
        """
        if messages.saved:
            return [(start, start + count - 1) for low, high in self.saved  # [RFC 5182 §2.1] without those that went
                    for start, count in self.uids.within(low, high)]
        total = len(self.uids)
        if uid:
            return [(max(low, 1), high) for low, high in messages.resolve(self.uids.last_uid) if high >= 1]
        if total == 0 and messages.ranges[-1][1] == STAR:
            return []  # many clients ask for 1:* without a look at EXISTS
        found: list[tuple[int, int]] = []
        for low, high in merge([(min(low, total), total) if high == STAR else (low, high)
                                for low, high in messages.ranges]):
            if high > total:
                if not search:
                    raise Bad("No such message")
                high = total
            while low <= high:  # run by run: the numbers of a run are its uids, shifted
                run_end = self._run_end(low, high)
                found.append((self.uids.uid(low), self.uids.uid(run_end)))
                low = run_end + 1
        return found

    def _run_end(self, low: int, high: int) -> int:
        """The last position of low..high that is in one run with low."""
        first = self.uids.uid(low)
        if self.uids.uid(high) - first == high - low:
            return high
        left, right = low, high
        while left + 1 < right:
            middle = (left + right) // 2
            if self.uids.uid(middle) - first == middle - low:
                left = middle
            else:
                right = middle
        return left

    def fetch_line(self, row: Row, seq: int, *, modseq: bool) -> bytes:
        """An untagged FETCH of the flags."""
        return self.fetch_lines([(seq, row)], modseq=modseq)

    def fetch_lines(self, numbered: Sequence[tuple[int, Row]], *, modseq: bool) -> bytes:
        """The same of many, by one format."""
        step = 4 if modseq else 3
        filled: list[bytes | int] = [0] * (step * len(numbered))
        rows = [row for _, row in numbered]
        filled[::step] = [seq for seq, _ in numbered]
        filled[1::step] = [row[0] for row in rows]
        filled[2::step] = map(self.flags_of, rows)
        if modseq:
            filled[3::step] = [row[3] for row in rows]
        line = b"* %d FETCH (UID %d FLAGS (%b)" + (b" MODSEQ (%d))\r\n" if modseq else b")\r\n")
        return line * len(rows) % tuple(filled)

    def news(self, *, expunges: bool, modseq: bool, vanished: bool, recent: bool) -> list[bytes]:
        """What the client has to be told now; the state moves on by exactly that.

        expunges: may sequence numbers change now? If not and messages are gone, nothing is told and nothing moves on:
        no HIGHESTMODSEQ above an event that is held back. vanished: QRESYNC is on.
        """
        look = self.access.look(self.folder, self.cn, self.uids)
        told, self.told = self.told, None
        if look.cn == self.cn and not look.arrived:
            return []
        if look.vanished and not expunges:
            return []
        out: list[bytes] = []
        if look.vanished:
            out.extend(self._gone(look.vanished, vanished))
        if look.arrived:
            out.append(b"* %d EXISTS\r\n" % len(look.uids))
        before, self.uids, self.cn = self.cn, look.uids, look.cn
        if look.recent:
            if self.takes_recent:
                self.access.take_recent(self.folder, look.recent[-1])
            if recent:
                self.add_recent(ranges_of(look.recent))
        if look.arrived and recent:
            out.append(b"* %d RECENT\r\n" % self.recent_count)
        if vanished and look.cn != before and not look.changed and not look.vanished:
            # Nothing else of this says the new number: a client that keeps it need not select again to learn it.
            out.append(b"* OK [HIGHESTMODSEQ %d] Highest\r\n" % look.cn)
        for row in look.changed:
            if told is None or told.get(row[0]) != row[3]:
                out.append(self.fetch_line(row, self.uids.seq(row[0]), modseq=modseq))
        return out

    def _gone(self, uids: list[int], vanished: bool) -> list[bytes]:
        if vanished:
            return [b"* VANISHED " + response.ranges(ranges_of(sorted(uids))) + b"\r\n"]
        numbers = [self.uids.seq(uid) for uid in sorted(uids, reverse=True)]
        return [b"* %d EXPUNGE\r\n" % seq for seq in numbers if seq]


def _nothing() -> None:
    """Nothing to end."""
