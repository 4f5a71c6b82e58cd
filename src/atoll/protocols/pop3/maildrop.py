"""protocols.pop3.maildrop -- the INBOX as one POP3 session sees it: numbered once, marked, updated at QUIT.

In     an Access, the INBOX.
Out    numbers 1..n with uid and size; message octets; the changes of the UPDATE state.
Spec   [RFC 1939 §5, §6]: numbers do not move while the session lasts, DELE takes effect at QUIT only.
Fails  Gone: another client expunged the message meanwhile; StoreError from the mailbox layer.
Not    the wire.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterator
from contextlib import suppress

from atoll.formats.mime import header_end
from atoll.mailbox import Access, Flag, Folder, Right, Row, StoreError, UidSet, Want
from atoll.protocols.pop3.limits import Limits

_MAX_HEADER = 10 * 1024 * 1024
_AHEAD = 16
_AHEAD_OCTETS = 256 * 1024


class Gone(Exception):
    """The message was expunged by another client of the same mailbox."""


class Maildrop:
    """Made by `open_maildrop`."""

    def __init__(self, access: Access, folder: Folder, uids: array[int], sizes: array[int], limits: Limits,
                 uidls: dict[int, str]) -> None:
        """uidls: uid -> the unique id of those that brought one from another server."""
        self._access = access
        self._folder = folder
        self._uids = uids
        self._sizes = sizes
        self._limits = limits
        self._uidls = uidls
        self._octets = sum(sizes)
        self._deleted: set[int] = set()
        self._seen: set[int] = set()
        self._ahead: dict[int, Row] = {}  # clients take messages in order: the next ones are read with one look
        self._last = 0

    def __len__(self) -> int:
        return len(self._uids)

    def stat(self) -> tuple[int, int]:
        """(messages, octets) that are not marked deleted."""
        return len(self._uids) - len(self._deleted), self._octets - sum(self._sizes[at - 1] for at in self._deleted)

    def has(self, number: int) -> bool:
        """Is there such a message, not marked deleted?"""
        return 0 < number <= len(self._uids) and number not in self._deleted

    def numbers(self) -> Iterator[int]:
        """Those not marked deleted."""
        deleted = self._deleted
        return (number for number in range(1, len(self._uids) + 1) if number not in deleted)

    def size(self, number: int) -> int:
        """Octets of a message as it is stored."""
        return self._sizes[number - 1]

    def unique_id(self, number: int) -> str:
        """The same in every session [RFC 1939 §7]."""
        uid = self._uids[number - 1]
        return self._uidls.get(uid) or f"{self._folder.uidv}.{uid}"

    def delete(self, number: int) -> None:
        """Mark."""
        self._deleted.add(number)

    def reset(self) -> None:
        """Take all marks away."""
        self._deleted.clear()

    def _row(self, number: int) -> Row:
        uid = self._uids[number - 1]
        row = self._ahead.pop(uid, None)
        in_order, self._last = number == self._last + 1, number
        if row is not None:
            return row
        last = self._window(number) if in_order else number
        rows = self._access.rows(self._folder, uid, self._uids[last - 1], Want.BODY, last - number + 1)
        self._ahead = {row.uid: row for row in rows}
        row = self._ahead.pop(uid, None)
        if row is None:
            raise Gone
        return row

    def _window(self, number: int) -> int:
        """The last of the messages that are read together with this one."""
        octets, last = self._sizes[number - 1], number
        while last < min(len(self._uids), number + _AHEAD - 1) and octets + self._sizes[last] <= _AHEAD_OCTETS:
            octets += self._sizes[last]
            last += 1
        return last

    def pieces(self, number: int) -> Iterator[bytes]:
        """The octets of a message; large ones by slices. It is marked seen when the session ends well."""
        row = self._row(number)
        self._seen.add(number)
        return self._pieces(row)

    def _pieces(self, row: Row) -> Iterator[bytes]:
        if row.body is not None:
            yield row.body
            return
        for offset in range(0, row.size, self._limits.piece):
            yield self._access.blob_slice(row.blob, offset, min(self._limits.piece, row.size - offset))

    def top(self, number: int, lines: int) -> Iterator[bytes]:
        """The header, the blank line and so many lines of the body."""
        return _top(self._pieces(self._row(number)), lines)

    async def update(self) -> bool:
        """The UPDATE state: carry out the marks. False when some deleted messages may still be there."""
        seen = UidSet.of(self._uids[at - 1] for at in self._seen - self._deleted)
        if seen and self._folder.rights & Right.SEEN:
            with suppress(StoreError):  # our own mark: [RFC 1939 §6] has an error for messages that are not removed
                await self._access.flags(self._folder, seen, "+", Flag.SEEN)
        if not self._deleted:
            return True
        gone = UidSet.of(self._uids[at - 1] for at in self._deleted)
        try:
            await self._access.flags(self._folder, gone, "+", Flag.DELETED)
            await self._access.expunge(self._folder, gone)
        except StoreError:
            return False
        return True


def _top(pieces: Iterator[bytes], lines: int) -> Iterator[bytes]:
    head = bytearray()
    end = 0
    for piece in pieces:
        head += piece
        end = header_end(bytes(head))
        if end < len(head) or len(head) > _MAX_HEADER:  # a longer header is sent as it stands
            break
    yield bytes(head[:end])
    piece = bytes(head[end:])
    while lines:
        at = 0
        while lines and (found := piece.find(b"\n", at)) >= 0:
            at = found + 1
            lines -= 1
        yield piece[:at] if not lines else piece
        if not lines:
            return
        following = next(pieces, None)
        if following is None:
            return
        piece = following


async def open_maildrop(access: Access, limits: Limits) -> Maildrop:
    """Number the messages of the INBOX, in slices."""
    folder = access.folder("INBOX")
    uids, sizes = array("L"), array("Q")
    kept = await access.uidls()
    uidls: dict[int, str] = {}
    at = 1
    while True:
        rows = access.rows(folder, at, folder.uidnext - 1, Want.HOT, limits.rows) if at < folder.uidnext else []
        for row in rows:
            uids.append(row.uid)
            sizes.append(row.size)
            if row.id in kept:
                uidls[row.uid] = kept[row.id]
        if len(rows) < limits.rows:
            return Maildrop(access, folder, uids, sizes, limits, uidls)
        at = rows[-1].uid + 1
        await asyncio.sleep(0)
