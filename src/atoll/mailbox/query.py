"""What a search asks: a tree of frozen values, the same for every protocol.

In     built by a protocol (IMAP SEARCH [RFC 9051 §6.4.4], later JMAP and EWS).
Out    given to Access.search. Text is Unicode; dates are days or milliseconds as each node says.
Not    an engine: mailbox/search/ plans and runs it. Sequence numbers: the session turns them into uids first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from atoll.base.ids import MailboxId, to_text
from atoll.mailbox.model import Flag
from atoll.mailbox.uidset import UidSet

_EMAIL_ID = re.compile(r"M([0-9a-f]{1,15})-([a-z2-7]{8})")


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class And:
    terms: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Or:
    terms: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Not:
    term: Query


@dataclass(frozen=True, slots=True)
class Uids:
    """Messages whose uid is in the set (UID, sequence set, SEARCHRES' $)."""

    uids: UidSet


@dataclass(frozen=True, slots=True)
class HasFlag:
    """All bits of `flag` are set. UNSEEN is Not(HasFlag(SEEN))."""

    flag: Flag


@dataclass(frozen=True, slots=True)
class HasKeyword:
    """The keyword is set; case does not matter."""

    name: str


@dataclass(frozen=True, slots=True)
class Received:
    """INTERNALDATE as milliseconds UTC: since <= received < before (None: open). BEFORE, ON and SINCE look at
    days in the server's UTC [RFC 9051 §6.4.4: time and time zone disregarded]."""

    since: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """The Date: header as milliseconds, its wall-clock date read as UTC: since <= sent < before (None: open)."""

    since: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """size > larger, size < smaller (octets); None: no bound."""

    larger: int | None = None
    smaller: int | None = None


@dataclass(frozen=True, slots=True)
class ModSeq:
    """Changed at or after this change number [RFC 7162 §3.1.5]."""

    at_least: int


@dataclass(frozen=True, slots=True)
class Field:
    """Exact substring, case folded, of the decoded field. "" means: the field is there."""

    name: Literal["subject", "from", "to", "cc", "bcc"]
    text: str


@dataclass(frozen=True, slots=True)
class Header:
    """Exact substring, case folded, of the decoded value of any header field of this name; "" means: it is there."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Body:
    """The words of `text` stand in the body next to each other in this order; the last one may be cut short."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """As Body, in the header or the body."""

    text: str


@dataclass(frozen=True, slots=True)
class Ids:
    """EMAILID (object ids "M...") or THREADID ("T...") [RFC 8474 §6]."""

    kind: Literal["email", "thread"]
    object_id: str


def tag_of(mailbox: MailboxId) -> str:
    """What object ids of this mailbox end with: numbers alone are the same in every mailbox."""
    return to_text(mailbox)[:8]


def email_parts(object_id: str) -> tuple[int, str] | None:
    """The number and the mailbox's tag of an EMAILID; None when it is none."""
    found = _EMAIL_ID.fullmatch(object_id)
    return (int(found[1], 16), found[2]) if found else None


Query = (All | And | Or | Not | Uids | HasFlag | HasKeyword | Received | Sent | Size | ModSeq | Field | Header | Body
         | Text | Ids)
