"""Putting new items into folders: append, delivery, and what both share.

In     prepared contents, a transaction.
Out    rows of item, item_meta, blob, conversation, thread_key; counters.
Spec   STORE 4 and 7 ("Group commit"); conversations by 64-bit hashes of Message-ID and References.
Fails  StoreError(OVER_QUOTA) by check_room.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from atoll.directory.client.model import Quota
from atoll.mailbox.blobs import Prepared, RecentDigests, put
from atoll.mailbox.errors import StoreCode, StoreError
from atoll.mailbox.memory import FolderState, MailboxMemory, pack
from atoll.mailbox.model import Flag, SortRow
from atoll.mailbox.opaque import LISTING, mark
from atoll.mailbox.tx import INSERT_ITEM, INSERT_META, INSERT_THREAD, PUT_CONVERSATION, Tx

if TYPE_CHECKING:
    from atoll.formats.mime import Scanned

MAX_UIDS = 1 << 32
MAX_KEYWORDS = 4096
"""Distinct keywords of one mailbox; the column has room for 65,535."""
MAX_KEYWORD = 255
SEEN, DELETED = int(Flag.SEEN), int(Flag.DELETED)
"""An operation of IntFlag costs ten times that of int."""
THREAD_REFERENCES = 32
"""So many of the last references take part in threading."""

MEMBERS = ("SELECT i.conv, count(*) FROM item i JOIN folder f ON f.fid = i.fid WHERE i.mid = ? AND i.conv IN ({})"
           " AND f.hidden = 0 GROUP BY i.conv ORDER BY i.conv")

_encode = msgspec.msgpack.Encoder().encode
SortKeys = tuple[str, str, str, str, int | None, bytes, tuple[bytes, ...], int, bool, bool]
_decode_sort: Callable[[bytes], SortKeys] = msgspec.msgpack.Decoder(SortKeys).decode


def sort_keys(scanned: Scanned) -> bytes:
    """item_meta.sort."""
    return _encode((scanned.subject_base, scanned.from_, scanned.to, scanned.cc, scanned.sent, scanned.message_id,
                    scanned.references, scanned.header_size, scanned.has_attachment, scanned.is_reply))


def read_sort_keys(packed: bytes) -> SortKeys:
    """(subject_base, from, to, cc, sent, message_id, references, header_size, has_attachment, is_reply)."""
    return _decode_sort(packed)


def sort_row(record: tuple[object, ...]) -> SortRow:
    """Of (uid, received, size, item_meta.sort)."""
    uid, received, size, packed = record
    base, from_, to, cc, sent, message_id, references, _, _, reply = read_sort_keys(packed)  # type: ignore[arg-type]
    return SortRow((uid, received, size, base, from_, to, cc, received if sent is None else sent, message_id,
                    references, reply))


def thread_hash(message_id: bytes) -> int:
    """64 bits, signed, as the databases have it."""
    return int.from_bytes(hashlib.blake2b(message_id, digest_size=8).digest(), "big", signed=True)


def thread_hashes(scanned: Scanned) -> list[int]:
    """The message's own first, then its references from the nearest on; no doubles."""
    names = [scanned.message_id] if scanned.message_id else []
    names += reversed(scanned.references[-THREAD_REFERENCES:])
    return list(dict.fromkeys(thread_hash(name) for name in names))


def check_room(mailbox: MailboxMemory, quota: Quota, size: int) -> None:
    """Third step of the quota: nothing more comes in (warn and send are others' business)."""
    if quota.receive and mailbox.octets + size > quota.receive:
        raise StoreError(StoreCode.OVER_QUOTA, "The mailbox is full")


def check_uids(folder: FolderState, count: int) -> None:
    if folder.uidnext + count > MAX_UIDS:
        raise StoreError(StoreCode.INVALID, "The folder can take no more messages")


def keyword_numbers(tx: Tx, mailbox: MailboxMemory, names: Iterable[str]) -> set[int]:
    """Numbers of keywords; new ones are entered. INVALID when there are too many."""
    numbers = set()
    for name in sorted(names):
        number = mailbox.keyword_numbers.get(name.lower())
        if number is None:
            if len(mailbox.keywords) >= MAX_KEYWORDS or not 0 < len(name) <= MAX_KEYWORD:
                raise StoreError(StoreCode.INVALID, "Too many or too long keywords")
            number = len(mailbox.keywords) + 1
            tx.run("INSERT INTO keyword (mid, no, name, colour) VALUES (?, ?, ?, 0)", (mailbox.mid, number, name))
            mailbox.keywords.append(name)
            mailbox.keyword_numbers[name.lower()] = number
            tx.restructured(mailbox)
        numbers.add(number)
    return numbers


def in_list(values: Sequence[object]) -> tuple[str, list[object]]:
    """("?, ?, ...", values): padded to a power of two, so that few statements are prepared. Not for empty ones."""
    wanted = 1 << (len(values) - 1).bit_length()
    return ", ".join("?" * wanted), [*values, *[values[-1]] * (wanted - len(values))]


@dataclass(slots=True)
class Threads:
    """Conversations of one mailbox while a batch is placed: read at once, written at once.

    A conversation gets a row with its second member: most never have one, and each row costs two trees a page.
    """

    mailbox: MailboxMemory
    known: dict[int, int] = field(default_factory=dict)
    """hash -> conversation"""
    rows: dict[int, list[int]] = field(default_factory=dict)
    """conversation that has a row -> [items, last received]"""
    _single: dict[int, list[int]] = field(default_factory=dict)
    """conversation begun in this batch -> [items, last received]"""
    _unsure: dict[int, int] = field(default_factory=dict)
    """older conversation without a row that got a member -> last received"""
    _new: list[tuple[int, int]] = field(default_factory=list)
    _changed: set[int] = field(default_factory=set)

    def prefetch(self, tx: Tx, hashes: Iterable[int]) -> None:
        wanted = [value for value in dict.fromkeys(hashes) if value not in self.known]
        for at in range(0, len(wanted), 512):
            marks, values = in_list(wanted[at:at + 512])
            self.known.update(tx.all(f"SELECT hash, conv FROM thread_key WHERE mid = ? AND hash IN ({marks})",
                                     [self.mailbox.mid, *values]))  # type: ignore[list-item]
        self.load(tx, self.known.values())

    def load(self, tx: Tx, convs: Iterable[int]) -> None:
        """Read the rows of these conversations."""
        wanted = list(dict.fromkeys(convs))
        for at in range(0, len(wanted), 512):
            marks, values = in_list(wanted[at:at + 512])
            for conv, items, last in tx.all(
                    f"SELECT conv, items, last_received FROM conversation WHERE mid = ? AND conv IN ({marks})",
                    [self.mailbox.mid, *values]):  # type: ignore[list-item]
                self.rows[conv] = [items, last]

    def join(self, tx: Tx, hashes: list[int], received: int) -> int:
        """The conversation of a message with these hashes: that of its nearest known relative, or a new one."""
        conv = next((self.known[value] for value in hashes if value in self.known), 0)
        if not conv:
            conv = tx.number(self.mailbox)
            self._single[conv] = [0, received]
        for value in hashes:
            if value not in self.known:
                self.known[value] = conv
                self._new.append((value, conv))
        self.add(conv, 1, received)
        return conv

    def add(self, conv: int, count: int, received: int = 0) -> None:
        """Members came (or went: negative)."""
        row = self.rows.get(conv) or self._single.get(conv)
        if row is not None:
            row[0] += count
            row[1] = max(row[1], received)
            if conv in self.rows:
                self._changed.add(conv)
        elif count > 0:
            self._unsure[conv] = max(self._unsure.get(conv, 0), received)

    def write(self, tx: Tx) -> None:
        """Buffer what changed; each row gets a number of its own. Items have been added before."""
        mid = self.mailbox.mid
        for value, conv in self._new:
            tx.add(INSERT_THREAD, (mid, value, conv))
        self._new = []
        for conv, (items, last) in self._single.items():
            if items > 1:
                self.rows[conv] = [items, last]
                self._changed.add(conv)
        unsure = list(self._unsure)
        for at in range(0, len(unsure), 512):
            marks, convs = in_list(unsure[at:at + 512])
            for conv, members in tx.all(MEMBERS.format(marks), [mid, *convs]):  # type: ignore[list-item]
                if members > 1:
                    self.rows[conv] = [int(members), self._unsure[conv]]
                    self._changed.add(conv)
        self._single, self._unsure = {}, {}
        for conv in sorted(self._changed):
            items, last = self.rows[conv]
            tx.add(PUT_CONVERSATION, (mid, conv, tx.number(self.mailbox), items, last))
        self._changed = set()


def place(tx: Tx, mailbox: MailboxMemory, folder: FolderState, threads: Threads, recent: RecentDigests,
          prepared: Prepared, received: int, flags: int, kw: bytes | None) -> tuple[int, int]:
    """One new item at the end of a folder; (uid, id). Room was checked before."""
    scanned = prepared.content.scanned
    blob = put(tx, prepared, recent)
    if scanned.opaque:
        mark(tx, blob, LISTING)
    uid = folder.uidnext
    folder.uidnext = uid + 1
    number = mailbox.cn = mailbox.cn + 1
    conv = threads.join(tx, prepared.hashes or thread_hashes(scanned), received)
    size = prepared.size
    tx.add(INSERT_ITEM, (folder.fid, uid, mailbox.mid, number, number, number, number, flags, received, size, blob,
                         conv, kw))
    tx.add(INSERT_META, (folder.fid << 32 | uid, scanned.envelope, scanned.structure, scanned.preview,
                         sort_keys(scanned)))
    folder.cn_high = mailbox.cn
    folder.total += 1
    folder.octets += size
    if not flags & SEEN:
        folder.unread += 1
    if flags & DELETED:
        folder.deleted += 1
    mailbox.items += 1
    mailbox.octets += size
    tx.touch(mailbox, folder)
    return uid, number


def kw_column(tx: Tx, mailbox: MailboxMemory, names: frozenset[str]) -> bytes | None:
    return pack(keyword_numbers(tx, mailbox, names)) if names else None
