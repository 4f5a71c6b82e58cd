"""protocols.imap.across -- COPY and MOVE from one person's mailbox to another's, wherever it is.

In     a selected mailbox, uids, a target: a folder of another mailbox of this process, or a link to another process.
Out    COPYUID. Copied all or none; moved in batches, each durable in the target before it leaves the source.
Spec   [RFC 9051 §6.4.7, §6.4.8], [RFC 6851 §3.3, §4.3], [RFC 4315]. The far end takes APPEND [RFC 3502] with two words
       of our own, from mailbox processes only: FIRST, MORE, LAST (all is stored with the last), EMAILID.
Fails  No, StoreError. A death between the two halves of a move leaves a message in both mailboxes, never in none.
Not    rights: both mailboxes check their own, in the mailbox layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from atoll.base.failpoints import FAILPOINTS
from atoll.mailbox import Access, Carried, Content, Folder, NewMessage, Right, StoreError, UidSet, carried
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.errors import No, to_no
from atoll.protocols.imap.remote import Link
from atoll.protocols.imap.selected import FLAG_NAMES, Selected
from atoll.protocols.imap.types import ranges_of
from atoll.protocols.imap.wire import response

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session

_ANSWER = re.compile(rb"\S+ (OK|NO|BAD) (?:\[(\S+)(?: ([^\]]*))?\] )?([^\r\n]*)\r\n\Z")
_TAG = b"c"

Pairs = list[tuple[int, int]]


class Target(Protocol):
    """Where messages go."""

    async def put(self, session: Session, batch: list[Carried], *, last: bool) -> tuple[int, list[int]]:
        """Take them; with the last batch all that were taken since the last time are stored: (uidvalidity, uids)."""


class Here:
    """A folder of another mailbox of this process."""

    def __init__(self, source: Access, access: Access, folder: Folder) -> None:
        self._same = source.database == access.database
        self._access = access
        self._folder = folder
        self._waiting: list[NewMessage] = []

    async def put(self, session: Session, batch: list[Carried], *, last: bool) -> tuple[int, list[int]]:
        for one in batch:
            scanned = await session.server.scanner.scan(one.data)
            held = (one.blob, len(one.data)) if self._same else None
            self._waiting.append(NewMessage(Content(b"" if held else one.data, scanned), one.received, one.flags,
                                            one.keywords, one.email, held))
        if not last:
            return 0, []
        waiting, self._waiting = self._waiting, []
        try:
            placed = await self._access.append(self._folder, waiting)
        except StoreError as error:
            raise to_no(error, target=True) from None
        return self._folder.uidv, [one.uid for one in placed]


class Far:
    """A mailbox of another process, by the client's name for it."""

    def __init__(self, link: Link, name: bytes) -> None:
        self._link = link
        self._name = name
        self._begun = False

    async def put(self, session: Session, batch: list[Carried], *, last: bool) -> tuple[int, list[int]]:
        part = (b" LAST" if last else b" MORE") if self._begun else b"" if last else b" FIRST"
        self._begun = not last
        words = [b"%b APPEND %b%b" % (_TAG, self._name, part)]
        for one in batch:
            flags = [name for bit, name in FLAG_NAMES if one.flags & bit] + sorted(one.keywords)
            words.append(b" (%b) %b EMAILID %b %b{%d+}\r\n" % (
                " ".join(flags).encode("ascii"), response.internal_date(one.received), one.email.encode("ascii"),
                b"~" if b"\0" in one.data else b"", len(one.data)))
            words.append(one.data)
        answer = _ANSWER.match(await self._link.ask(_TAG, b"".join(words), quiet=True))
        if answer is None or answer[1] == b"BAD":
            raise No("UNAVAILABLE", "That mailbox is not available just now")
        code, rest, text = (answer[2] or b"").decode(), (answer[3] or b"").decode(), answer[4].decode()
        if answer[1] == b"NO":
            raise No(f"{code} {rest}".strip(), text)
        if not last:
            return 0, []
        uid_validity, _, uids = rest.partition(" ")
        return int(uid_validity), list(_numbers(uids))


def _numbers(text: str) -> Iterator[int]:
    for part in text.split(","):
        low, _, high = part.partition(":")
        yield from range(int(low), int(high or low) + 1)


async def copy(session: Session, selected: Selected, uids: UidSet, target: Target) -> Ok:
    """All or none."""
    limits = session.server.limits
    if len(uids) > limits.across_messages:
        raise No("LIMIT", "Too many messages at once from one person's mailbox to another's")
    pairs: Pairs = []
    octets = uid_validity = 0
    waiting: list[Carried] | None = None
    for batch in carried(selected.access, selected.folder, uids):
        octets += sum(len(one.data) for one in batch)
        if octets > limits.append_command:
            raise No("LIMIT", "Too much at once from one person's mailbox to another's")
        if waiting is not None:
            await target.put(session, waiting, last=False)
        waiting = batch
        pairs += [(one.uid, 0) for one in batch]
        await session.breathe()
    if waiting is None:
        return Ok("Nothing to do")
    uid_validity, placed = await target.put(session, waiting, last=True)
    return Ok("Copied", copyuid(uid_validity, [(old, new) for (old, _), new in zip(pairs, placed, strict=True)]))


async def move(session: Session, selected: Selected, uids: UidSet, target: Target) -> Ok:
    """Each batch is durable there before it leaves here; what was moved when something fails stays moved."""
    access, folder = selected.access, selected.folder
    access.check(folder, Right.READ | Right.DELETE_ITEMS | Right.EXPUNGE)
    pairs: Pairs = []
    uid_validity = 0
    try:
        for batch in carried(access, folder, uids):
            uid_validity, placed = await target.put(session, batch, last=True)
            pairs += zip([one.uid for one in batch], placed, strict=True)
            if FAILPOINTS.active:
                FAILPOINTS.hit("imap.move.copied")
            await access.expunge(folder, UidSet.of(one.uid for one in batch), only_deleted=False)
            await session.breathe()
    finally:
        if pairs:
            session.write(f"* OK [{copyuid(uid_validity, pairs)}] Moved\r\n".encode("ascii"))
    return session.moved_on("Moved")


def copyuid(uid_validity: int, placed: Pairs) -> str:
    """COPYUID uidvalidity source destination, in matching order [RFC 4315 §3]."""
    if not placed:
        return ""
    placed.sort()
    source = response.ranges(ranges_of([old for old, _ in placed])).decode("ascii")
    destination = response.ranges(ranges_of([new for _, new in placed])).decode("ascii")
    return f"COPYUID {uid_validity} {source} {destination}"
