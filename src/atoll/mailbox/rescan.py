"""Contents that could not be looked into are looked at again, once by every version of the product.

In     the marks of place() and of the search index (table opaque); what the content role says today.
Out    a message whose listing is better now, as a new message: new uid, new id, at the end of its folder, with its
       flags, keywords, dates and read states; its text in the search index.
Spec   [RFC 9051 §2.3.1.1]: envelope and body structure of a uid never change; [RFC 8474 §5.1]: nor do those of an
       EMAILID. ADR 0016.
Fails  never: what is refused again keeps its mark, with the version that tried. The look is at one content at a time
       and only in the content role: what ends a process ends that one. After a refusal the rest waits for the next
       round, so that a role which died of it is not taken for one that crashes in a loop.
Not    contents that were looked into: a parser that reads them otherwise does not change what people have seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import groupby

from atoll.base.ids import MailboxId
from atoll.base.version import __version__
from atoll.content import ContentError, Scanner
from atoll.formats.mime import Scanned
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import StoreError
from atoll.mailbox.memory import MailboxMemory
from atoll.mailbox.model import WellKnown
from atoll.mailbox.opaque import LISTING, MARK, TEXT
from atoll.mailbox.place import Threads, check_uids, sort_keys
from atoll.mailbox.reading import seen_rows
from atoll.mailbox.search.feed import SearchFeed
from atoll.mailbox.tx import INSERT_TOMB, PUT_SEEN, Tx
from atoll.mailbox.uidls import PUT_UIDL

ROUND = 20
"""Contents of one round of the upkeep."""
SLICE = 100
NAMED = ("SELECT m.guid, i.fid, i.uid, i.id, i.conv, i.received FROM item i JOIN folder f ON f.fid = i.fid"
         " JOIN mailbox m ON m.mid = i.mid WHERE i.blob = ? AND f.gone = 0 ORDER BY i.mid, i.fid, i.uid")
RENEW_ITEM = ("UPDATE item SET uid = ?, id = ?, cn = ?, cn_item = ?, cn_body = ?, email = NULL, email_of = NULL"
              " WHERE fid = ? AND uid = ?")
RENEW_META = ("UPDATE item_meta SET place = ?, envelope = ?, structure = ?, preview = ?, sort = ? WHERE place = ?")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Found:
    """Contents of one round. left: not looked at, because the content role is away."""

    looked: int = 0
    mended: int = 0
    refused: int = 0
    left: int = 0


class Rescan:
    """One per mounted database."""

    def __init__(self, database: MailboxDatabase, feed: SearchFeed, scanner: Scanner,
                 version: str = __version__) -> None:
        self._database = database
        self._feed = feed
        self._scanner = scanner
        self._version = version
        self._lock = asyncio.Lock()

    async def due(self) -> Found:
        """Some of those that this version has not tried yet, until one is refused."""
        return await self._look(self._database.reader.all(
            "SELECT blob, what FROM opaque WHERE version <> ? ORDER BY blob LIMIT ?", (self._version, ROUND)),
            patient=False)

    async def all(self) -> Found:
        """Each, whoever tried it: somebody asked for it."""
        return await self._look(self._database.reader.all("SELECT blob, what FROM opaque ORDER BY blob"), patient=True)

    async def _look(self, marked: list[tuple[int, ...]], *, patient: bool) -> Found:
        found = Found()
        async with self._lock:
            for at, (blob, what) in enumerate(marked):
                try:
                    found.mended += await self._again(blob, what)
                except ContentError as error:
                    if error.reason != "refused":
                        found.left = len(marked) - at
                        break
                    found.refused += 1
                    await self._database.submit(_refused(blob, self._version))
                except StoreError as error:  # its content is damaged, which `database check` names
                    if self._database.closed:
                        raise
                    log.warning("not looked at again", extra={"f": {"blob": blob, "error": error.detail}})
                    await self._database.submit(_refused(blob, self._version))
                found.looked += 1
                if found.refused and not patient:
                    break
        if found.looked:
            log.info("contents that were opaque", extra={"f": {"database": self._database.name, "mended": found.mended,
                                                               "refused": found.refused}})
        return found

    async def _again(self, blob: int, what: int) -> int:
        """1: nothing of it is opaque any more; 0: it is no longer here. ContentError."""
        row = self._database.reader.one("SELECT size FROM blob WHERE blob = ?", (blob,))
        if row is None:
            await self._database.submit(_seen_through(blob))
            return 0
        data = await self._feed.read(blob, row[0])
        if what & LISTING:
            scanned = await self._scanner.scan_again(data)
            await self._database.submit(renew(blob, scanned, self._version))
        text = await self._scanner.text_again(data)
        await self._feed.replace(blob, data, text)
        await self._database.submit(_seen_through(blob))
        return 1


def _refused(blob: int, version: str) -> Callable[[Tx], None]:
    def work(tx: Tx) -> None:
        tx.run("UPDATE opaque SET version = ? WHERE blob = ?", (version, blob))
    return work


def _seen_through(blob: int) -> Callable[[Tx], None]:
    def work(tx: Tx) -> None:
        tx.run("DELETE FROM opaque WHERE blob = ?", (blob,))
    return work


def renew(blob: int, scanned: Scanned, version: str) -> Callable[[Tx], Generator[None, None, int]]:
    """Every item of this content with this listing, as new ones; the mark of its listing goes with them. How many."""
    def work(tx: Tx) -> Generator[None, None, int]:
        count = 0
        for guid, rows in groupby(tx.all(NAMED, (blob,)), key=lambda row: row[0]):
            mailbox = tx.mailbox(MailboxId(guid), any_state=True)
            named = list(rows)
            for at in range(0, len(named), SLICE):
                _renew_slice(tx, mailbox, named[at:at + SLICE], scanned)
                yield
            count += len(named)
        tx.run(MARK, (blob, TEXT, version))
        return count
    return work


def _renew_slice(tx: Tx, mailbox: MailboxMemory, rows: list[tuple[bytes, int, int, int, int, int]],
                 scanned: Scanned) -> None:
    threads = Threads(mailbox)
    threads.load(tx, [row[4] for row in rows])
    keys = sort_keys(scanned)
    for _, fid, uid, id_, conv, received in rows:
        folder = mailbox.folders[fid]
        check_uids(folder, 1)
        new, number = folder.uidnext, tx.number(mailbox)
        folder.uidnext += 1
        tx.run(RENEW_ITEM, (new, number, number, number, number, fid, uid))
        tx.run(RENEW_META, (fid << 32 | new, scanned.envelope, scanned.structure, scanned.preview, keys,
                            fid << 32 | uid))
        tx.run(INSERT_TOMB, (fid, tx.number(mailbox), uid, mailbox.mid, id_, received, 0, 0, None))
        _keep_seen(tx, mailbox, fid, uid, new)
        if not tx.run("UPDATE uidl SET id = ? WHERE mid = ? AND id = ?", (number, mailbox.mid, id_)) \
                and folder.wellknown == WellKnown.INBOX:
            # the octets are the same: POP3 clients that have fetched them are not to fetch them again
            tx.run(PUT_UIDL, (mailbox.mid, f"{folder.uidv}.{uid}", number))
        if not folder.hidden:
            threads.add(conv, -1, received)
            threads.add(conv, 1, received)
        folder.cn_high = mailbox.cn
        tx.touch(mailbox, folder)
    threads.write(tx)


def _keep_seen(tx: Tx, mailbox: MailboxMemory, fid: int, uid: int, new: int) -> None:
    """Who has read it, has."""
    for grant in mailbox.grants.get(fid, {}).values():
        mine = seen_rows(tx, fid, grant.who, uid, uid) if grant.cn_seen else {}
        if mine:
            grant.cn_seen = tx.number(mailbox)
            tx.run("DELETE FROM seen WHERE fid = ? AND who = ? AND uid = ?", (fid, grant.who, uid))
            tx.run(PUT_SEEN, (fid, grant.who, new, grant.cn_seen, mine[uid][0]))
            tx.grant_changed(mailbox, grant)
