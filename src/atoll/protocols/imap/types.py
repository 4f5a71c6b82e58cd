"""protocols.imap.types -- the values of IMAP: no parser, no socket, no store.

In     nothing. Out  frozen values that wire/ reads and prints and commands/ act on.
Spec   [RFC 9051 §9], [RFC 3501 §9]; names are the RFCs'.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field

STAR = 2**32
"""The "*" of a sequence set: above every 32-bit number."""
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """Numbers of messages or uids: sorted, disjoint, never empty; STAR stands for "*". saved: the "$" of SEARCHRES."""

    ranges: Ranges = ()
    saved: bool = False

    def resolve(self, highest: int) -> Ranges:
        """The ranges with "*" made `highest` [RFC 9051 §9 seq-range]: "5:*" of a folder that ends at 3 is 3:5."""
        if not self.ranges or self.ranges[-1][1] != STAR:
            return self.ranges
        fixed = []
        for low, high in self.ranges:
            first = highest if low == STAR else low
            last = highest if high == STAR else high
            fixed.append((min(first, last), max(first, last)))
        return merge(fixed)


def merge(ranges: list[tuple[int, int]]) -> Ranges:
    """Sorted and disjoint; touching ranges become one."""
    ranges.sort()
    merged: list[tuple[int, int]] = []
    for low, high in ranges:
        if merged and low <= merged[-1][1] + 1:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return tuple(merged)


def ranges_of(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Runs of numbers that follow each other, in the order of the list: 3, 4, 5, 2, 1 is (3, 5), (2, 2), (1, 1)."""
    if not numbers:
        return
    start = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield start, last
            start = number
        last = number
    yield start, last


@dataclass(frozen=True, slots=True)
class Partial:
    """<offset.size> of a FETCH."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Section:
    """BODY[...]: part numbers, then "", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or MIME."""

    part: tuple[int, ...] = ()
    specifier: str = ""
    fields: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class BodyItem:
    """A FETCH item that reads the body. kind: BODY, BINARY, BINARY.SIZE, RFC822, RFC822.HEADER, RFC822.TEXT."""

    kind: str = "BODY"
    section: Section = Section()
    peek: bool = False
    partial: Partial | None = None


FetchItem = str | BodyItem
"""A simple item by its name (FLAGS, UID, ENVELOPE ...) or a BodyItem."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH and UID FETCH."""

    messages: SequenceSet
    items: tuple[FetchItem, ...]
    changed_since: int | None = None
    vanished: bool = False


@dataclass(frozen=True, slots=True)
class Store:
    """STORE and UID STORE. op: "+", "-", "="."""

    messages: SequenceSet
    op: str
    silent: bool
    flags: tuple[str, ...]
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of APPEND. at: milliseconds since 1970, None for now. email: the EMAILID that it keeps (across);
    uidl: what an import says of POP3, else ""."""

    data: bytes
    flags: tuple[str, ...] = ()
    at: int | None = None
    binary: bool = False
    email: str = ""
    uidl: str = ""


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND; several messages are MULTIAPPEND [RFC 3502]. part: of what comes in several commands
    (across): FIRST, MORE, LAST."""

    mailbox: str
    messages: tuple[Message, ...]
    part: str = ""


@dataclass(frozen=True, slots=True)
class Qresync:
    """The QRESYNC parameter of SELECT [RFC 7162 §3.2.5]."""

    uid_validity: int
    modseq: int
    known_uids: SequenceSet | None = None
    seq_match: tuple[SequenceSet, SequenceSet] | None = None


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT and EXAMINE."""

    mailbox: str
    condstore: bool = False
    qresync: Qresync | None = None


@dataclass(frozen=True, slots=True)
class ListCommand:
    """LIST and LSUB. returns: SUBSCRIBED CHILDREN SPECIAL-USE MYRIGHTS; status: the items of RETURN (STATUS (...))."""

    reference: str
    patterns: tuple[str, ...]
    select: frozenset[str] = frozenset()
    returns: frozenset[str] = frozenset()
    status: tuple[str, ...] = ()
    extended: bool = False


# Search keys [RFC 9051 §6.4.4]


@dataclass(frozen=True, slots=True)
class And:
    keys: tuple[SearchKey, ...]


@dataclass(frozen=True, slots=True)
class Or:
    left: SearchKey
    right: SearchKey


@dataclass(frozen=True, slots=True)
class Not:
    key: SearchKey


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class HasFlag:
    """flag: "\\Seen", "\\Recent" or a keyword."""

    flag: str


@dataclass(frozen=True, slots=True)
class Text:
    """field: BCC BODY CC FROM SUBJECT TEXT TO."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Header:
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class OnDate:
    """op: BEFORE, ON, SINCE. sent: by the Date header, else by the time of arrival."""

    op: str
    day: dt.date
    sent: bool


@dataclass(frozen=True, slots=True)
class Size:
    """op: LARGER or SMALLER; bytes."""

    op: str
    size: int


@dataclass(frozen=True, slots=True)
class Messages:
    """A sequence set among the keys; uids: after UID."""

    messages: SequenceSet
    uids: bool


@dataclass(frozen=True, slots=True)
class ModSeq:
    at_least: int


@dataclass(frozen=True, slots=True)
class ObjectId:
    """kind: EMAILID or THREADID [RFC 8474 §5.3]."""

    kind: str
    value: str


SearchKey = (And | Or | Not | All | HasFlag | Text | Header | OnDate | Size | Messages | ModSeq | ObjectId)


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH. returns: of MIN MAX ALL COUNT SAVE; extended: RETURN was given [RFC 9051 §6.4.4]."""

    key: SearchKey
    returns: frozenset[str] = frozenset()
    extended: bool = False


@dataclass(frozen=True, slots=True)
class Sort:
    """SORT [RFC 5256 §3]. criteria: (name, reverse)."""

    criteria: tuple[tuple[str, bool], ...]
    search: Search


@dataclass(frozen=True, slots=True)
class Thread:
    """THREAD [RFC 5256 §3]. algorithm: REFERENCES or ORDEREDSUBJECT."""

    algorithm: str
    search: Search


@dataclass(frozen=True, slots=True)
class ClientId:
    """ID [RFC 2971]."""

    fields: dict[str, str] = field(default_factory=dict)
