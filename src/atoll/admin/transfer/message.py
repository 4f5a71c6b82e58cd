"""admin.transfer.message -- one message on its way, with what is known of it. Pure.

In     octets of files and other servers, flags in their spellings, dates in theirs.
Out    Item: CRLF octets, IMAP flags, an internal date.
Spec   RFC 9051 §2.3.2 (flags), §9 (date-time); Maildir's info letters; mbox Status headers.
Fails  never.
"""

from __future__ import annotations

import calendar
import re
import time
from dataclasses import dataclass

SYSTEM = ("\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft")
MAILDIR_LETTERS = {
    "S": "\\Seen",
    "R": "\\Answered",
    "F": "\\Flagged",
    "T": "\\Deleted",
    "D": "\\Draft",
    "P": "$Forwarded",
}
_KEYWORD = re.compile(r"[!#$&'+\-.0-9:;=?@A-Z^_`a-z|~]{1,64}\Z")
_UIDL = re.compile(r"[!-~]{1,70}\Z")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(rb"[ \d]\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d [+-]\d{4}\Z")


@dataclass(frozen=True, slots=True)
class Item:
    """A message to store. key: its name at the source, for the state file; where: for the report.

    uidl: the unique id that the source's POP3 server gave it; "": none is known.
    """

    key: str
    where: str
    data: bytes
    flags: tuple[str, ...]
    date: bytes
    """date-time without quotes; b"" when unknown."""
    uidl: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """A message that could not be read, and why."""

    key: str
    where: str
    reason: str


def crlf(data: bytes) -> tuple[bytes, bool]:
    """The message with CRLF line ends, and whether any had to be mended."""
    ends = data.count(b"\r\n")
    if data.count(b"\n") == ends and data.count(b"\r") == ends:
        return data, False
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n"), True


def flags_of(names: list[str]) -> tuple[str, ...]:
    """Flags that APPEND takes: system flags in their usual spelling, keywords of legal form, each once."""
    kept: dict[str, None] = {}
    for name in names:
        system = next((flag for flag in SYSTEM if flag.lower() == name.lower()), None)
        if system is not None:
            kept[system] = None
        elif not name.startswith("\\") and _KEYWORD.match(name):
            kept[name] = None
    return tuple(kept)[:100]


def checked_uidl(text: str) -> str:
    """A unique id if POP3 can show it [RFC 1939 §7], else ""."""
    return text if _UIDL.match(text) else ""


def date_time(seconds: float) -> bytes:
    """An internal date in UTC."""
    try:
        at = time.gmtime(seconds)
    except (OverflowError, ValueError, OSError):
        return b""
    if not 1900 < at.tm_year <= 9999:
        return b""
    text = f"{at.tm_mday:2d}-{_MONTHS[at.tm_mon - 1]}-{at.tm_year:04d} {at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d}"
    return text.encode("ascii") + b" +0000"


def checked_date(raw: bytes) -> bytes:
    """A server's INTERNALDATE if it is one, else b""."""
    return raw if _DATE.match(raw) else b""


def seconds_of(date: bytes) -> int | None:
    """Seconds since 1970 of a date-time; None when it is none."""
    if not _DATE.match(date):
        return None
    text = date.decode("ascii")
    try:
        month = _MONTHS.index(text[3:6]) + 1
    except ValueError:
        return None
    offset = (int(text[22:24]) * 60 + int(text[24:26])) * (-60 if text[21] == "-" else 60)
    clock = (int(text[7:11]), month, int(text[:2]), int(text[12:14]), int(text[15:17]), int(text[18:20]), 0, 0, 0)
    return calendar.timegm(clock) - offset
