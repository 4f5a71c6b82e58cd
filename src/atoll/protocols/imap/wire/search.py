"""protocols.imap.wire.search -- the arguments of SEARCH, SORT and THREAD, read and printed.

In     wire.cursor.Cursor after the command's name and its space. Out  types.Search, Sort, Thread, and their bytes.
Spec   [RFC 9051 §6.4.4], [RFC 3501 §6.4.4] (NEW, OLD, RECENT), [RFC 7162 §3.1.5] MODSEQ, [RFC 8474 §5.3],
       [RFC 4731] ESEARCH, [RFC 5182] SEARCHRES, [RFC 5256] SORT and THREAD.
Fails  Bad; BadCharset for a charset other than US-ASCII and UTF-8. Depth and number of keys are bounded.
"""

from __future__ import annotations

from collections.abc import Callable

from atoll.protocols.imap.types import (
    All,
    And,
    HasFlag,
    Header,
    Messages,
    ModSeq,
    Not,
    ObjectId,
    OnDate,
    Or,
    Search,
    SearchKey,
    Size,
    Sort,
    Text,
    Thread,
)
from atoll.protocols.imap.wire.cursor import MAX_MOD_SEQUENCE, MONTHS, Cursor, as_text
from atoll.protocols.imap.wire.errors import Bad, BadCharset
from atoll.protocols.imap.wire.response import quoted, sequence_set

RETURNS = frozenset({"MIN", "MAX", "ALL", "COUNT", "SAVE"})
TEXT_FIELDS = frozenset({"BCC", "BODY", "CC", "FROM", "SUBJECT", "TEXT", "TO"})
FLAG_KEYS = {"ANSWERED": "\\Answered", "DELETED": "\\Deleted", "DRAFT": "\\Draft", "FLAGGED": "\\Flagged",
             "SEEN": "\\Seen"}
SORT_KEYS = frozenset({"ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO"})
ALGORITHMS = frozenset({"REFERENCES", "ORDEREDSUBJECT"})
MAX_KEYS = 2000
MAX_MODSEQ_ENTRY = 200


def _simple_keys() -> dict[str, SearchKey]:
    keys: dict[str, SearchKey] = {"ALL": All(), "RECENT": HasFlag("\\Recent"), "OLD": Not(HasFlag("\\Recent")),
                                  "NEW": And((HasFlag("\\Recent"), Not(HasFlag("\\Seen"))))}
    for name, flag in FLAG_KEYS.items():
        keys[name] = HasFlag(flag)
        keys["UN" + name] = Not(HasFlag(flag))
    return keys


SIMPLE = _simple_keys()


class _Keys:
    """Reads search keys; counts them, so that neither depth nor number is without bound."""

    def __init__(self, cur: Cursor) -> None:
        self.cur = cur
        self.count = 0

    def all(self, depth: int, stop: bytes = b"") -> SearchKey:
        """key *(SP key), to the end or to `stop`."""
        keys = [self.key(depth)]
        while self.cur.skip(b" "):
            keys.append(self.key(depth))
        if stop:
            self.cur.expect(stop)
        return keys[0] if len(keys) == 1 else And(tuple(keys))

    def key(self, depth: int) -> SearchKey:
        cur = self.cur
        self.count += 1
        if depth > cur.depth:
            raise Bad("Search is nested too deep")
        if self.count > MAX_KEYS:
            raise Bad("Too many search keys")
        first = cur.peek()
        if first == b"(":
            cur.at += 1
            return self.all(depth + 1, b")")
        if first.isdigit() or first in (b"*", b"$"):
            return Messages(cur.sequence_set(), uids=False)
        name = cur.word()
        if name in SIMPLE:
            return SIMPLE[name]
        cur.space()
        if name == "NOT":
            return Not(self.key(depth + 1))
        if name == "OR":
            left = self.key(depth + 1)
            cur.space()
            return Or(left, self.key(depth + 1))
        if name in TEXT_FIELDS:
            return Text(name, cur.text())
        reader = _WITH_ARGUMENT.get(name)
        if reader is None:
            raise Bad("Unknown search key")
        return reader(cur, name)


def _header(cur: Cursor, _: str) -> SearchKey:
    name = as_text(cur.astring())
    cur.space()
    return Header(name, cur.text())


def _date(cur: Cursor, name: str) -> SearchKey:
    return OnDate(name.removeprefix("SENT"), cur.date(), name.startswith("SENT"))


def _keyword(cur: Cursor, name: str) -> SearchKey:
    key = HasFlag(cur.atom().decode("ascii"))  # [RFC 9051 §9] flag-keyword: system flags have keys of their own
    return Not(key) if name == "UNKEYWORD" else key


def _modseq(cur: Cursor, _: str) -> SearchKey:
    if cur.peek() == b'"':  # entry name and type: we keep one number for all flags [RFC 7162 §3.1.5]
        if len(cur.string()) > MAX_MODSEQ_ENTRY:
            raise Bad("Entry name too long")
        cur.space()
        if cur.word() not in ("PRIV", "SHARED", "ALL"):
            raise Bad("Expected priv, shared or all")
        cur.space()
    return ModSeq(cur.number(MAX_MOD_SEQUENCE))


_WITH_ARGUMENT: dict[str, Callable[[Cursor, str], SearchKey]] = {
    "HEADER": _header, "MODSEQ": _modseq, "KEYWORD": _keyword, "UNKEYWORD": _keyword,
    "UID": lambda cur, _: Messages(cur.sequence_set(), uids=True),
    "LARGER": lambda cur, name: Size(name, cur.number(2**63 - 1)),
    "SMALLER": lambda cur, name: Size(name, cur.number(2**63 - 1)),
    "EMAILID": lambda cur, name: ObjectId(name, cur.text()),
    "THREADID": lambda cur, name: ObjectId(name, cur.text()),
    **dict.fromkeys(("BEFORE", "ON", "SINCE", "SENTBEFORE", "SENTON", "SENTSINCE"), _date),
}


def _charset(cur: Cursor, returns: frozenset[str] = frozenset()) -> None:
    """charset SP: a command that ends here has no keys and is out of form, whatever its charset."""
    name = as_text(cur.astring()).upper()
    cur.space()
    if name not in ("UTF-8", "US-ASCII"):
        raise BadCharset(saves="SAVE" in returns)


def _returns(cur: Cursor) -> tuple[frozenset[str], bool]:
    if not cur.skip(b"RETURN ("):
        return frozenset(), False
    names: set[str] = set()
    while not cur.skip(b")"):
        if names:
            cur.space()
        name = cur.word()
        if name not in RETURNS:
            raise Bad("Unknown result option")
        names.add(name)
    cur.space()
    return frozenset(names or {"ALL"}), True


def parse_search(cur: Cursor) -> Search:
    """[RETURN (...) SP] [CHARSET name SP] key *(SP key)"""
    returns, extended = _returns(cur)
    if cur.skip(b"CHARSET "):
        _charset(cur, returns)
    key = _Keys(cur).all(1)
    cur.end()
    return Search(key, returns, extended)


def parse_sort(cur: Cursor) -> Sort:
    """[RETURN (...) SP] (criteria) SP charset SP key *(SP key) [RFC 5256 §5], [RFC 5267] ESORT"""
    returns, extended = _returns(cur)
    cur.expect(b"(")
    criteria: list[tuple[str, bool]] = []
    while not criteria or cur.skip(b" "):
        reverse = cur.skip(b"REVERSE ")
        name = cur.word()
        if name not in SORT_KEYS:
            raise Bad("Unknown sort key")
        criteria.append((name, reverse))
        if len(criteria) > 2 * len(SORT_KEYS):
            raise Bad("Too many sort keys")
    cur.expect(b") ")
    _charset(cur, returns)
    key = _Keys(cur).all(1)
    cur.end()
    return Sort(tuple(criteria), Search(key, returns, extended))


def parse_thread(cur: Cursor) -> Thread:
    """algorithm SP charset SP key *(SP key)"""
    algorithm = cur.word()
    if algorithm not in ALGORITHMS:
        raise Bad("Unknown threading algorithm")
    cur.space()
    _charset(cur)
    key = _Keys(cur).all(1)
    cur.end()
    return Thread(algorithm, Search(key))


# printing


def print_key(key: SearchKey) -> bytes:
    """A key as a client writes it; And in parentheses."""
    match key:
        case And(keys):
            return b"(" + b" ".join(map(print_key, keys)) + b")"
        case Or(left, right):
            return b"OR " + print_key(left) + b" " + print_key(right)
        case Not(inner):
            return b"NOT " + print_key(inner)
        case Messages(messages, uids):
            return (b"UID " if uids else b"") + sequence_set(messages)
        case _:
            return _print_leaf(key)


def _print_leaf(key: SearchKey) -> bytes:
    match key:
        case HasFlag(flag):
            names = {flag: name for name, flag in FLAG_KEYS.items()} | {"\\Recent": "RECENT"}
            return names[flag].encode("ascii") if flag in names else b"KEYWORD " + flag.encode("ascii")
        case Text(name, value):
            return name.encode("ascii") + b" " + quoted(value.encode("utf-8"))
        case Header(name, value):
            return b"HEADER " + quoted(name.encode("utf-8")) + b" " + quoted(value.encode("utf-8"))
        case OnDate(op, day, sent):
            word = ("SENT" if sent else "") + op
            return f"{word} {day.day}-{MONTHS[day.month - 1]}-{day.year:04d}".encode("ascii")
        case Size(op, size):
            return f"{op} {size}".encode("ascii")
        case ModSeq(number):
            return b"MODSEQ %d" % number
        case ObjectId(kind, value):
            return kind.encode("ascii") + b" " + quoted(value.encode("utf-8"))
        case _:
            return b"ALL"


def print_search(search: Search) -> bytes:
    returns = b"RETURN (" + " ".join(sorted(search.returns)).encode("ascii") + b") " if search.extended else b""
    return returns + b"CHARSET UTF-8 " + print_key(search.key)
