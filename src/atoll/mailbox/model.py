"""The values of the mailbox layer: what goes in and comes out of Store and Access.

Out    frozen dataclasses, flags and tuples. Times are milliseconds UTC, sizes octets; uid, cn, id, conv are integers
       scoped to a folder (uid) or a mailbox (the rest); fid is local to the mounted database and goes on no wire.
Spec   docs/seams.md 4, STORE 4 (names), RFC 4314 (rights), RFC 9051 §2.3.2 (flags), RFC 8474 (object ids).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NewType

from atoll.base.ids import MailboxId, UserId

if TYPE_CHECKING:
    from atoll.formats.mime import Scanned
    from atoll.mailbox.uidmap import UidMap
    from atoll.mailbox.uidset import UidSet

EPOCH_SHIFT = 40
"""A change number is epoch << 40 | counter (STORE 0.1)."""
ANYONE = UserId(bytes(16))
"""The identifier of rights given to every user of the island [RFC 4314 §2]."""


class Flag(IntFlag):
    """System flags and the keywords common enough for a bit. Every other keyword is text."""

    SEEN = 1
    ANSWERED = 2
    FLAGGED = 4
    DELETED = 8
    DRAFT = 16
    FORWARDED = 32
    MDNSENT = 64
    JUNK = 128
    NOTJUNK = 256


NO_FLAGS = Flag(0)


class WellKnown(IntEnum):
    """Folders with a meaning. INBOX to ARCHIVE are made with the mailbox, as are the hidden ones."""

    NONE = 0
    ROOT = 1
    INBOX = 2
    DRAFTS = 3
    SENT = 4
    TRASH = 5
    JUNK = 6
    ARCHIVE = 7
    OUTBOX = 8
    CALENDAR = 9
    CONTACTS = 10
    TASKS = 11
    NOTES = 12
    RECOVERABLE = 13
    DELETIONS = 14
    VERSIONS = 15
    PURGES = 16


class Right(IntFlag):
    """[RFC 4314 §2.1]"""

    NONE = 0
    LOOKUP = 1
    READ = 2
    SEEN = 4
    WRITE = 8
    INSERT = 16
    POST = 32
    CREATE = 64
    DELETE_FOLDER = 128
    DELETE_ITEMS = 256
    EXPUNGE = 512
    ADMIN = 1024

    @classmethod
    def all(cls) -> Right:
        return cls(2047)

    @classmethod
    def of(cls, letters: str) -> Right:
        """From "lrswipkxtea"; ValueError for another letter. c means k, d means x, t and e [RFC 4314 §2.1.1]."""
        rights = cls.NONE
        for letter in letters:
            if letter == "c":
                rights |= cls.CREATE
            elif letter == "d":
                rights |= cls.DELETE_FOLDER | cls.DELETE_ITEMS | cls.EXPUNGE
            else:
                rights |= cls(1 << RIGHT_LETTERS.index(letter))
        return rights

    @property
    def letters(self) -> str:
        """"lrswipkxtea" of those held."""
        return "".join(letter for bit, letter in enumerate(RIGHT_LETTERS) if self & (1 << bit))


RIGHT_LETTERS = "lrswipkxtea"


class Want(IntFlag):
    """Which parts of a row to read. Alone and cheap: MARKS (uid, flags, kw), LISTED (uid, envelope, structure)."""

    HOT = 0
    META = 1
    BODY = 2
    PREVIEW = 4
    LISTED = 8
    MARKS = 16


class MailboxState(IntEnum):
    """Who may write [ISLANDS 11.11]: only an active mailbox takes writes; an arriving one those of its move."""

    ACTIVE = 0
    LOCKED = 1
    ARRIVING = 2
    MOVED = 3
    SOFT_DELETED = 4


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder as one person sees it: `unread` and `subscribed` are theirs, `rights` what they may do."""

    fid: int
    fno: int
    path: str
    """"INBOX", "Archive/2025": components are joined by "/"."""
    wellknown: WellKnown
    uidv: int
    uidnext: int
    recent_uid: int
    """The first uid that no read-write session has been told of yet (rev1's \\Recent)."""
    cn_high: int
    """HIGHESTMODSEQ: the last change of any item in it."""
    total: int
    unread: int
    bytes: int
    deleted: int
    """How many carry \\Deleted."""
    hidden: bool
    own_seen: bool
    subscribed: bool
    has_children: bool
    rights: Right
    object_id: str


@dataclass(frozen=True, slots=True)
class Content:
    """A message as it is kept. One Content given to several deliveries is stored once.

    data: the bytes, or the path of a spooled file that stays until the call returns.
    """

    data: bytes | Path
    scanned: Scanned

    @property
    def size(self) -> int:
        return len(self.data) if isinstance(self.data, bytes) else self.data.stat().st_size


@dataclass(frozen=True, slots=True)
class Delivery:
    """One copy for one mailbox. key: network message id, recipient and hop, made by transport; b"" never repeats.

    limited: False for what the mailbox itself has to say to its owner: it comes in however full it is.
    junk: into the folder for junk, if the mailbox has one.
    """

    mailbox: MailboxId
    path: str
    content: Content
    received: int
    key: bytes = b""
    flags: Flag = NO_FLAGS
    keywords: frozenset[str] = frozenset()
    limited: bool = True
    junk: bool = False


@dataclass(frozen=True, slots=True)
class Delivered:
    """Committed. duplicate: the key had been delivered before; uid and id are those of that time."""

    uid: int
    id: int
    fid: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class NewMessage:
    """One message to append.

    email: the EMAILID that it keeps [RFC 8474 §5.1]. held: (number, octets) of the content, when it is in the same
    database already; content.data is not looked at then. uidl: the unique id that another POP3 server gave it.
    """

    content: Content
    received: int
    flags: Flag = NO_FLAGS
    keywords: frozenset[str] = frozenset()
    email: str = ""
    held: tuple[int, int] | None = None
    uidl: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an appended message stands."""

    uid: int
    id: int


class Row(tuple[Any, ...]):
    """One message: 9 hot columns; with META or BODY envelope, structure, preview behind (None unless asked for META,
    META | PREVIEW); with BODY the body last.

    A plain tuple underneath: hot paths unpack it. `kw` is opaque, Access.keywords(row) gives the names; `body` is
    None when the content is too large for one row (Access.blob_slice then).
    """

    __slots__ = ()
    uid: int = property(itemgetter(0))  # type: ignore[assignment]
    flags: int = property(itemgetter(1))  # type: ignore[assignment]
    kw: bytes | None = property(itemgetter(2))  # type: ignore[assignment]
    cn: int = property(itemgetter(3))  # type: ignore[assignment]
    id: int = property(itemgetter(4))  # type: ignore[assignment]
    conv: int = property(itemgetter(5))  # type: ignore[assignment]
    received: int = property(itemgetter(6))  # type: ignore[assignment]
    size: int = property(itemgetter(7))  # type: ignore[assignment]
    blob: int = property(itemgetter(8))  # type: ignore[assignment]
    envelope: bytes = property(itemgetter(9))  # type: ignore[assignment]
    structure: bytes = property(itemgetter(10))  # type: ignore[assignment]
    preview: str = property(itemgetter(11))  # type: ignore[assignment]
    body: bytes | None = property(itemgetter(12))  # type: ignore[assignment]


class SortRow(tuple[Any, ...]):
    """What SORT and THREAD need of one message [RFC 5256]. Text is decoded and case folded; sent falls back to
    received (ms); message_id and references are bytes with their angle brackets; is_reply: reply or forward."""

    __slots__ = ()
    uid: int = property(itemgetter(0))  # type: ignore[assignment]
    received: int = property(itemgetter(1))  # type: ignore[assignment]
    size: int = property(itemgetter(2))  # type: ignore[assignment]
    subject_base: str = property(itemgetter(3))  # type: ignore[assignment]
    from_: str = property(itemgetter(4))  # type: ignore[assignment]
    to: str = property(itemgetter(5))  # type: ignore[assignment]
    cc: str = property(itemgetter(6))  # type: ignore[assignment]
    sent: int = property(itemgetter(7))  # type: ignore[assignment]
    message_id: bytes = property(itemgetter(8))  # type: ignore[assignment]
    references: tuple[bytes, ...] = property(itemgetter(9))  # type: ignore[assignment]
    is_reply: bool = property(itemgetter(10))  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Changes:
    """All that happened in a folder after a number. cn: the folder's number now.

    Known numbers are enough for any answer; where the log does not reach back (or the number is of a lost future)
    `changed` holds every row and `vanished` every uid of `known` that is absent.
    """

    cn: int
    changed: list[Row]
    vanished: list[int]
    whole: bool = False
    """The log did not reach back: `changed` is everything, and may hold what the asker had seen vanish."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a session has to be told. changed: rows it knew; arrived: rows it did not; recent: uids new to everybody."""

    cn: int
    uids: UidMap
    vanished: list[int]
    changed: list[Row]
    arrived: list[Row]
    recent: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FlagsDone:
    """rows: the messages as they are now; modified: those left alone because they had changed [RFC 7162 §3.1.3];
    foreign: uids of rows that had changed since the number at which the caller stood."""

    rows: list[Row]
    modified: UidSet
    foreign: frozenset[int]


@dataclass(frozen=True, slots=True)
class QuotaState:
    """Octets and items in use; limits in octets, 0 = none: warn, then no sending, then no receiving either."""

    bytes: int
    items: int
    warn: int
    send: int
    receive: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """A recoverable item: where it was and when it was deleted."""

    uid: int
    id: int
    from_path: str
    deleted: int
    received: int
    size: int
    preview: str
    subject: str
    sender: str
    """The name before the @ of the first author, as SORT compares it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """After a commit: look again at these folders. Losing one or getting it twice does no harm.

    gone: the last one, the database is closed here; no folder: only the mailbox itself changed (a new keyword).
    """

    mailbox: MailboxId
    cn: int
    fids: frozenset[int]
    gone: bool = False


Listener = Callable[[Notice], None]
ObjectId = NewType("ObjectId", str)
