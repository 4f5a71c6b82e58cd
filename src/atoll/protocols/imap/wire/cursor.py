"""protocols.imap.wire.cursor -- read the words of one command.

In     a whole command as wire.reader gives it (literals inside).
Out    atoms, strings, numbers, sets, dates, flags, mailbox names, by methods that move the cursor.
Spec   [RFC 9051 §9], [RFC 3501 §9].
Fails  Bad, always at a named expectation. Not  the grammar of a command (the files of commands/ and fetch, search).
"""

from __future__ import annotations

import datetime as dt
import re

from atoll.protocols.imap.types import STAR, Ranges, SequenceSet, merge
from atoll.protocols.imap.wire import utf7
from atoll.protocols.imap.wire.errors import Bad

_ATOM = re.compile(rb"[^\x00-\x20(){%*\"\\\]\x7f-\xff]+")
_ASTRING = re.compile(rb"[^\x00-\x20(){%*\"\\\x7f-\xff]+")
_LIST_MAILBOX = re.compile(rb"[^\x00-\x20(){\"\\\x7f]+")
_TAG = re.compile(rb"[^\x00-\x20(){%*\"\\\x7f-\xff+]{1,64}")  # [RFC 9051 §9] "]" may stand in it
_QUOTED = re.compile(rb'"((?:[^"\\\r\n\x00]|\\["\\])*)"')
_LITERAL = re.compile(rb"(~?)\{(\d{1,20})\+?\}\r\n")
_NUMBER = re.compile(rb"\d{1,19}")
_SET = re.compile(rb"[0-9:,*]+")
_FLAG = re.compile(rb"\\?[^\x00-\x20(){%*\"\\\]\x7f-\xff]+")
_DATE = re.compile(rb'(\d{1,2})-([A-Za-z]{3})-(\d{4})')
_DATE_TIME = re.compile(rb'"([ \d]\d)-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)"')
_ESCAPED = re.compile(rb"\\(.)")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = {name.lower().encode(): number for number, name in enumerate(MONTHS, 1)}
MAX_RANGES = 100_000
MAX_NUMBER = 2**32 - 1
MAX_MOD_SEQUENCE = 2**63 - 1  # [RFC 7162 §7]
MAX_FLAGS = 100


class Cursor:
    """A place in a command. utf8_names: mailbox names are UTF-8, not modified UTF-7 (after ENABLE IMAP4rev2)."""

    __slots__ = ("at", "data", "depth", "utf8_names")

    def __init__(self, data: bytes, *, utf8_names: bool = False, depth: int = 100) -> None:
        self.data = data
        self.at = 0
        self.utf8_names = utf8_names
        self.depth = depth

    # words

    def more(self) -> bool:
        return self.at < len(self.data)

    def end(self) -> None:
        """Nothing may follow."""
        if self.at != len(self.data):
            raise Bad("Unexpected text at the end of the command")

    def peek(self) -> bytes:
        """The next octet, b"" at the end."""
        return self.data[self.at : self.at + 1]

    def space(self) -> None:
        self.expect(b" ")

    def expect(self, word: bytes) -> None:
        if not self.skip(word):
            raise Bad(f"Expected {'a space' if word == b' ' else word.decode('ascii')}")

    def skip(self, word: bytes) -> bool:
        """Step over `word` (already in capitals) if it is next."""
        stop = self.at + len(word)
        if self.data[self.at : stop].upper() != word:
            return False
        self.at = stop
        return True

    def match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        found = pattern.match(self.data, self.at)
        if found is None:
            raise Bad(f"Expected {what}")
        self.at = found.end()
        return found

    def tag(self) -> bytes:
        return self.match(_TAG, "a tag").group()

    def atom(self) -> bytes:
        return self.match(_ATOM, "an atom").group()

    def word(self) -> str:
        """An atom in capitals: a name of the protocol."""
        return self.atom().decode("ascii").upper()

    def number(self, largest: int = MAX_NUMBER) -> int:
        value = int(self.match(_NUMBER, "a number").group())
        if value > largest:
            raise Bad("Number too big")
        return value

    def nonzero(self, largest: int = MAX_NUMBER) -> int:
        value = self.number(largest)
        if not value:
            raise Bad("Expected a number above 0")
        return value

    def string(self) -> bytes:
        """A quoted string or a literal."""
        first = self.peek()
        if first == b'"':
            text = self.match(_QUOTED, "the end of a quoted string").group(1)
            return _ESCAPED.sub(rb"\1", text) if b"\\" in text else text
        if first in (b"{", b"~"):
            return self.literal()[0]
        raise Bad("Expected a string")

    def literal(self) -> tuple[bytes, bool]:
        """A literal and whether it is a literal8 [RFC 3516 §4.1]."""
        found = self.match(_LITERAL, "a literal")
        stop = self.at + int(found.group(2))
        if stop > len(self.data):
            raise Bad("Literal too short")
        value = self.data[self.at : stop]
        self.at = stop
        binary = bool(found.group(1))
        if not binary and b"\0" in value:
            raise Bad("NUL in a literal")  # [RFC 9051 §4.3.1] only literal8 may hold it
        return value, binary

    def astring(self) -> bytes:
        return self.string() if self.peek() in (b'"', b"{") else self.match(_ASTRING, "a string").group()

    def nstring(self) -> bytes | None:
        return None if self.skip(b"NIL") else self.string()

    def text(self) -> str:
        """An astring as UTF-8."""
        return as_text(self.astring())

    # values

    def mailbox(self) -> str:
        """A mailbox name; any spelling of INBOX is INBOX [RFC 9051 §5.1]."""
        return self._mailbox(self.astring())

    def list_mailbox(self) -> str:
        """A LIST pattern: a mailbox name with wildcards."""
        raw = self.string() if self.peek() in (b'"', b"{") else self.match(_LIST_MAILBOX, "a mailbox pattern").group()
        return self._mailbox(raw)

    def _mailbox(self, raw: bytes) -> str:
        if self.utf8_names:
            name = as_text(raw)
            if any(char < " " or char == "\x7f" for char in name):
                raise Bad("Control character in a mailbox name")
        else:
            name = utf7.decode(raw)
        head, slash, rest = name.partition("/")
        return "INBOX" + slash + rest if head.upper() == "INBOX" else name

    def sequence_set(self, *, saved: bool = True) -> SequenceSet:
        """A set of numbers, or "$" [RFC 9051 §6.4.4.1] where `saved`."""
        if saved and self.skip(b"$"):
            return SequenceSet(saved=True)
        return SequenceSet(_ranges(self.match(_SET, "a sequence set").group()))

    def flag(self) -> str:
        return self.match(_FLAG, "a flag").group().decode("ascii")

    def flag_list(self) -> tuple[str, ...]:
        """(flag flag ...)"""
        self.expect(b"(")
        flags: list[str] = []
        while not self.skip(b")"):
            if flags:
                self.space()
            flags.append(self.flag())
            if len(flags) > MAX_FLAGS:
                raise Bad("Too many flags")
        return tuple(flags)

    def date(self) -> dt.date:
        """1-Feb-1994, with or without quotes."""
        quoted = self.skip(b'"')
        day, month, year = self.match(_DATE, "a date").groups()
        if quoted:
            self.expect(b'"')
        try:
            return dt.date(int(year), _MONTH[month.lower()], int(day))
        except (ValueError, KeyError):
            raise Bad("No such date") from None

    def date_time(self) -> int:
        """ "17-Jul-1996 02:44:25 -0700" as milliseconds since 1970."""
        day, month, year, hour, minute, second, sign, off_hour, off_minute = self.match(
            _DATE_TIME, "a date and time").groups()
        try:
            offset = dt.timedelta(hours=int(off_hour), minutes=int(off_minute))
            zone = dt.timezone(-offset if sign == b"-" else offset)
            moment = dt.datetime(int(year), _MONTH[month.lower()], int(day), int(hour), int(minute),
                                 min(int(second), 59), tzinfo=zone)
            return round(moment.timestamp()) * 1000
        except (ValueError, KeyError, OverflowError):
            raise Bad("No such date") from None


def as_text(raw: bytes) -> str:
    """UTF-8, without NUL."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Bad("Not UTF-8") from None
    if "\0" in text:
        raise Bad("NUL in a string")
    return text


def _ranges(text: bytes) -> Ranges:
    items = text.split(b",")
    if len(items) > MAX_RANGES:
        raise Bad("Too many numbers in a set")
    ranges = []
    for item in items:
        low, colon, high = item.partition(b":")
        first = _set_number(low)
        last = _set_number(high) if colon else first
        ranges.append((min(first, last), max(first, last)))
    return merge(ranges)


def _set_number(text: bytes) -> int:
    if text == b"*":
        return STAR
    if not text.isdigit() or len(text) > 10:
        raise Bad("Bad sequence set")
    number = int(text)
    if not 0 < number <= MAX_NUMBER:
        raise Bad("Number of a sequence set out of range")
    return number
