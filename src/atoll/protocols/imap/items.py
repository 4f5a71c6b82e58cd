"""protocols.imap.items -- a FETCH made ready: which columns to read, how a line of it is printed.

In     the items of a FETCH. Out  Plan: Want of the store, one format for all rows, the items that need the body.
Spec   [RFC 9051 §7.5.2] (order is free), [RFC 8474 §5], [RFC 7162 §3.1.4].
Not    bodies (bodies.py), which messages (commands/fetch.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter

from atoll.formats.mime import body_of
from atoll.mailbox import Block, Folder, Row, UidMap, Want
from atoll.protocols.imap.selected import Selected
from atoll.protocols.imap.types import BodyItem, FetchItem
from atoll.protocols.imap.wire import response

Value = Callable[[Row], bytes | int]
_LISTED: dict[str, Value] = {"UID": itemgetter(0), "ENVELOPE": itemgetter(1), "BODYSTRUCTURE": itemgetter(2),
                             "BODY": lambda row: body_of(row[2])}
"""Items that need no hot column, of rows (uid, envelope, structure)."""
_HOT = frozenset({"FLAGS", "INTERNALDATE", "RFC822.SIZE", "UID", "MODSEQ", "EMAILID", "THREADID"})
_MARKS = frozenset({"UID", "FLAGS"})
"""Items that need the first three columns only."""
_READY = frozenset({"ENVELOPE", "BODYSTRUCTURE"})
"""Items of the answers that lie ready (mailbox.block)."""
_COLUMNS: dict[str, tuple[bytes, Value]] = {
    "UID": (b"UID %d", itemgetter(0)),
    "INTERNALDATE": (b"INTERNALDATE %b", lambda row: response.internal_date(row[6])),
    "RFC822.SIZE": (b"RFC822.SIZE %d", itemgetter(7)),
    "MODSEQ": (b"MODSEQ (%d)", itemgetter(3)),
    "ENVELOPE": (b"ENVELOPE %b", itemgetter(9)),
    "BODYSTRUCTURE": (b"BODYSTRUCTURE %b", itemgetter(10)),
    "BODY": (b"BODY %b", lambda row: body_of(row[10])),
}


class Plan:
    """One FETCH, ready to be used for every row. count: how many messages were answered."""

    __slots__ = ("_access", "_copies", "_format", "_ids", "_ready", "_values", "bodies", "count", "has_flags",
                 "marks_seen", "only_uids", "want")

    def __init__(self, items: tuple[FetchItem, ...], selected: Selected, *, uid: bool, modseq: bool) -> None:
        names = dict.fromkeys(item for item in items if isinstance(item, str))
        if uid:
            names = {"UID": None} | names  # [RFC 9051 §6.4.9]
        if modseq:
            names["MODSEQ"] = None
        self.bodies = tuple(dict.fromkeys(item for item in items if isinstance(item, BodyItem)))
        self.marks_seen = any(not item.peek for item in self.bodies)
        self.has_flags = "FLAGS" in names
        self.only_uids = names.keys() == {"UID"} and not self.bodies  # the session knows them without a row
        self.count = 0
        self.want = Want.HOT
        if any(name not in _HOT for name in names):
            self.want |= Want.META
        if self.bodies:
            self.want |= Want.BODY
        elif names.keys() <= _MARKS:
            self.want = Want.MARKS
        elif self.want == Want.META and _LISTED.keys() >= names.keys():
            self.want = Want.LISTED
        self._ready = self.want == Want.LISTED and names.keys() - {"UID"} == _READY
        self._access = selected.access
        self._ids = "EMAILID" in names
        self._copies: dict[int, str] = {}
        columns = _COLUMNS | {
            "FLAGS": (b"FLAGS (%b)", selected.flags_of),
            "EMAILID": (b"EMAILID (%b)", lambda row: self._access.email_id(row, self._copies).encode("ascii")),
            "THREADID": (b"THREADID (%b)", lambda row: self._access.thread_id(row).encode("ascii")),
        }
        self._values: tuple[Value, ...] = tuple(
            _LISTED[name] if self.want == Want.LISTED else columns[name][1] for name in names)
        self._format = b"* %d FETCH (" + b" ".join(columns[name][0] for name in names)

    def ready(self, folder: Folder, lo: int, hi: int) -> None:
        """Read what is not in the rows of the uids lo..hi, which come next: which of them are copies."""
        if self._ids:
            self._copies = self._access.copies(folder, lo, hi)

    def whole(self, block: Block, uids: UidMap) -> bytes:
        """Answers that lie ready, if these are what is asked for and a session with these uids knows all; else b""."""
        number = uids.seq(block.first)
        if not self._ready or not number or uids.seq(block.last) - number != len(block) - 1:
            return b""
        self.count += len(block)
        return block.answers(number, uids=len(self._values) > len(_READY))

    def lines(self, numbered: Sequence[tuple[int, Row]]) -> bytes:
        """Whole answers, when no item needs the body. All of them by one format: a quarter of one for each."""
        step = 1 + len(self._values)
        filled: list[bytes | int] = [0] * (step * len(numbered))
        rows = [row for _, row in numbered]
        filled[::step] = [position for position, _ in numbered]
        for at, value in enumerate(self._values, 1):
            filled[at::step] = map(value, rows)
        return (self._format + b")\r\n") * len(numbered) % tuple(filled)

    def head(self, position: int, row: Row) -> bytes:
        """An answer without its bodies and its end."""
        return self._format % (position, *[value(row) for value in self._values])

    @property
    def has_items(self) -> bool:
        """Does head() hold an item, so that a space must follow?"""
        return bool(self._values)
