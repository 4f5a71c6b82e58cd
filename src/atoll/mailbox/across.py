"""Messages on their way from one mailbox to another, of the same database or not.

In     an Access, a folder, uids.
Out    batches of what another mailbox needs to have them too; all through the public face of Access: rights are its.
Spec   RFC 9051 §6.4.7 (flags and internal date are kept), RFC 8474 §5.1 (so is the EMAILID).
Fails  StoreError.
Not    the other mailbox: Access.append takes them, here or at the end of a link to another process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from atoll.mailbox.access import Access
from atoll.mailbox.model import Flag, Folder, Row, Want
from atoll.mailbox.uidset import UidSet

BATCH = 200
BATCH_OCTETS = 16 << 20
"""A batch ends with the message that goes beyond this."""


@dataclass(frozen=True, slots=True)
class Carried:
    """One message. blob: the number of its content in its database."""

    uid: int
    data: bytes
    received: int
    flags: Flag
    keywords: frozenset[str]
    email: str
    blob: int


def carried(access: Access, folder: Folder, uids: UidSet) -> Iterator[list[Carried]]:
    """Those that are still there, in uid order."""
    while uids:
        rows = access.rows_of(folder, uids, Want.HOT, BATCH)
        if not rows:
            return
        copies = access.copies(folder, rows[0].uid, rows[-1].uid)
        batch: list[Carried] = []
        octets = 0
        for row in rows:
            batch.append(_carried(access, row, copies))
            octets += row.size
            if octets > BATCH_OCTETS:
                break
        last = batch[-1].uid
        uids = UidSet(tuple((max(low, last + 1), high) for low, high in uids.ranges if high > last))
        yield batch


def _carried(access: Access, row: Row, copies: dict[int, str]) -> Carried:
    return Carried(row.uid, access.row_blob(row), row.received, Flag(row.flags), frozenset(access.keywords(row)),
                   access.email_id(row, copies), row.blob)
