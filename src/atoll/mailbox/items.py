"""Units of work on items: append, flags, copy, move, expunge, purge.

In     folders by fid, uid sets.
Out    generators for GroupWriter: a slice handles SLICE rows, then the loop gets its turn.
Spec   STORE 1 and 4; RFC 9051 §6.4.6 to §6.4.8; soft delete = a move into a hidden folder, where the id is reborn.
Fails  StoreError.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import msgspec

from atoll.base.ids import MailboxId, UserId
from atoll.directory.client.model import Quota
from atoll.mailbox.blobs import Prepared, RecentDigests
from atoll.mailbox.errors import no_folder
from atoll.mailbox.memory import FolderState, Grant, MailboxMemory, pack, unpack
from atoll.mailbox.model import FlagsDone, Placed, Row, Want
from atoll.mailbox.place import (
    DELETED,
    SEEN,
    Threads,
    check_room,
    check_uids,
    keyword_numbers,
    kw_column,
    place,
    thread_hashes,
)
from atoll.mailbox.query import email_parts, tag_of
from atoll.mailbox.reading import SELECT_RANGE, seen_rows, spans
from atoll.mailbox.tx import INSERT_TOMB, PUT_SEEN, SWEEP, Tx
from atoll.mailbox.uidls import PUT_UIDL
from atoll.mailbox.uidset import UidSet
from atoll.sql.engine import Record

SLICE = 100
"""Rows changed before the loop gets its turn."""
MOVE_ITEM = ("UPDATE item SET fid = ?, uid = ?, id = ?, cn = ?, cn_item = ?, flags = ?"
             " WHERE fid = ? AND uid = ?")
MOVE_META = "UPDATE item_meta SET place = ? WHERE place = ?"
MOVE_META_PROPS = "UPDATE item_meta SET place = ?, props = ? WHERE place = ?"
COPY_META = ("INSERT INTO item_meta (place, envelope, structure, preview, sort, props)"
             " SELECT place + ?, envelope, structure, preview, sort, props FROM item_meta"
             " WHERE place BETWEEN ? AND ? ORDER BY place")
"""For a run of uids, which become a run: half the price of one by one."""
COPY_ITEM = ("INSERT INTO item (fid, uid, mid, id, cn, cn_item, cn_body, flags, received, size, blob, conv, kw, email,"
             " email_of) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
SET_EMAIL = "UPDATE item SET email = ?, email_of = ? WHERE fid = ? AND uid = ?"
COPIES = ("SELECT uid, email, email_of FROM item WHERE fid = ? AND uid BETWEEN ? AND ? AND email IS NOT NULL"
          " ORDER BY uid")
SET_FLAGS = "UPDATE item SET flags = ?, kw = ?, cn = ?, cn_item = ? WHERE fid = ? AND uid = ?"
SET_READ = "UPDATE item SET flags = ?, cn = ? WHERE fid = ? AND uid = ?"

Steps = Generator[None, None, None]
encode = msgspec.msgpack.encode


def folder_of(mailbox: MailboxMemory, fid: int) -> FolderState:
    """The live folder in the writer's memory; NO_FOLDER."""
    folder = mailbox.folders.get(fid)
    if folder is None or folder.gone:
        raise no_folder()
    return folder


def slices(tx: Tx, fid: int, uids: UidSet, uidnext: int) -> Iterator[list[Record]]:
    """Hot rows of a set, SLICE by SLICE, as they are when each slice is read; uids from uidnext on are not read."""
    read = spans(uids)
    exact = read is uids.ranges
    for first, last in read:
        last = min(last, uidnext - 1)
        while first <= last:
            found = tx.all(SELECT_RANGE[Want.HOT], (fid, first, last, SLICE))
            wanted = found if exact else [record for record in found if record[0] in uids]
            if wanted:
                yield wanted
            if len(found) < SLICE:
                break
            first = found[-1][0] + 1


@dataclass(frozen=True, slots=True)
class Fresh:
    """A message to append. email: the EMAILID that it keeps; uidl: the unique id of POP3 or ""."""

    prepared: Prepared
    received: int
    flags: int
    keywords: frozenset[str]
    email: str = ""
    uidl: str = ""


def append(guid: MailboxId, fid: int, messages: list[Fresh], quota: Quota,
           recent: RecentDigests) -> Callable[[Tx], Generator[None, None, list[Placed]]]:
    """All or none."""
    def work(tx: Tx) -> Generator[None, None, list[Placed]]:
        mailbox = tx.mailbox(guid)
        folder = folder_of(mailbox, fid)
        check_room(mailbox, quota, sum(one.prepared.size for one in messages))
        check_uids(folder, len(messages))
        threads = Threads(mailbox)
        threads.prefetch(tx, [value for one in messages for value in thread_hashes(one.prepared.content.scanned)])
        done: list[Placed] = []
        for at, one in enumerate(messages, 1):
            kw = kw_column(tx, mailbox, one.keywords)
            uid, id_ = place(tx, mailbox, folder, threads, recent, one.prepared, one.received, one.flags, kw)
            email = email_parts(one.email)
            if email is not None:
                number, home = email
                tx.add(SET_EMAIL, (number, None if home == tag_of(guid) else home, fid, uid))
            if one.uidl:
                tx.run(PUT_UIDL, (mailbox.mid, one.uidl, id_))
            done.append(Placed(uid, id_))
            if at % SLICE == 0:
                tx.write_out()
                yield
        threads.write(tx)
        return done
    return work


@dataclass(frozen=True, slots=True)
class FlagChange:
    """op "+", "-", "="; may: bits that this person may change; may_keywords likewise; own: whose read state it is;
    stand: the number up to which the caller knows."""

    op: str
    flags: int
    keywords: frozenset[str]
    may: int
    may_keywords: bool
    own: UserId | None
    unchanged_since: int | None
    stand: int


def set_flags(guid: MailboxId, fid: int, uids: UidSet,
              change: FlagChange) -> Callable[[Tx], Generator[None, None, FlagsDone]]:
    """Rows that do not change keep their number."""
    def work(tx: Tx) -> Generator[None, None, FlagsDone]:
        mailbox = tx.mailbox(guid)
        folder = folder_of(mailbox, fid)
        numbers = keyword_numbers(tx, mailbox, change.keywords) if change.may_keywords and change.op != "-" else {
            mailbox.keyword_numbers[name.lower()] for name in change.keywords
            if name.lower() in mailbox.keyword_numbers}
        done: list[Row] = []
        modified: list[int] = []
        foreign: list[int] = []
        for found in slices(tx, fid, uids, folder.uidnext):
            done += _flag_slice(tx, mailbox, folder, found, change, numbers, modified, foreign)
            yield
        return FlagsDone(done, UidSet.of(modified), frozenset(foreign))
    return work


def _flag_slice(tx: Tx, mailbox: MailboxMemory, folder: FolderState, found: list[Record], change: FlagChange,
                numbers: set[int], modified: list[int], foreign: list[int]) -> list[Row]:
    fid = folder.fid
    own = change.own
    mine = seen_rows_in(tx, fid, own, found) if own is not None else {}
    grant = own_grant(mailbox, fid, own) if own is not None else None
    items: list[tuple[object, ...]] = []
    reads: list[tuple[object, ...]] = []
    seen: list[tuple[object, ...]] = []
    done: list[Row] = []
    for record in found:
        uid, old, kw, cn = record[0], record[1], record[2], record[3]
        shown, shown_cn = old, cn
        if own is not None:
            read, read_cn = mine.get(uid, (0, 0))
            shown, shown_cn = (old & ~SEEN) | (SEEN if read else 0), max(cn, read_cn)
        if change.unchanged_since is not None and shown_cn > change.unchanged_since:
            modified.append(uid)
            continue
        if shown_cn > change.stand:
            foreign.append(uid)
        wanted = _combined(change, shown)
        new_kw = _combined_kw(change, kw, numbers)
        stored = wanted if own is None else (wanted & ~SEEN) | (old & SEEN)
        if grant is not None and (wanted ^ shown) & SEEN:
            cn = tx.number(mailbox)
            seen.append((fid, own, uid, cn, wanted & SEEN))
            grant.seen_items += 1 if wanted & SEEN else -1
            grant.cn_seen = cn
        if stored != old or new_kw != kw:
            cn = tx.number(mailbox)
            if new_kw == kw and stored ^ old == SEEN:
                reads.append((stored, cn, fid, uid))
            else:
                items.append((stored, new_kw, cn, cn, fid, uid))
            folder.cn_high = cn
            folder.unread += (1 if old & SEEN else -1) if (stored ^ old) & SEEN else 0
            folder.deleted += (-1 if old & DELETED else 1) if (stored ^ old) & DELETED else 0
        done.append(Row((uid, wanted, new_kw, max(cn, shown_cn), *record[4:])))
    if items or reads:
        tx.many(SET_FLAGS, items)  # type: ignore[arg-type]
        tx.many(SET_READ, reads)  # type: ignore[arg-type]
        tx.touch(mailbox, folder)
    if seen and grant is not None:
        tx.many(PUT_SEEN, seen)  # type: ignore[arg-type]
        tx.grant_changed(mailbox, grant)
    return done


def _combined(change: FlagChange, shown: int) -> int:
    asked = change.flags & change.may
    if change.op == "+":
        return shown | asked
    if change.op == "-":
        return shown & ~asked
    return (shown & ~change.may) | asked


def _combined_kw(change: FlagChange, kw: bytes | None, numbers: set[int]) -> bytes | None:
    if not change.may_keywords:
        return kw
    if change.op == "=":
        return pack(numbers)
    if not numbers:
        return kw
    old = unpack(kw)
    return pack(old | numbers if change.op == "+" else old - numbers)


def seen_rows_in(tx: Tx, fid: int, who: UserId, found: list[Record]) -> dict[int, tuple[int, int]]:
    """One person's read state for these records, this group's own changes included."""
    return seen_rows(tx, fid, who, found[0][0], found[-1][0])


def own_grant(mailbox: MailboxMemory, fid: int, who: UserId) -> Grant:
    """The person's row of folder_user; made (without rights) when there is none yet."""
    grants = mailbox.grants.setdefault(fid, {})
    if who not in grants:
        grants[who] = Grant(fid, who, "", 0, 0, 0, 0, 0, 0)
    return grants[who]


def copy(guid: MailboxId, fid: int, uids: UidSet, target_fid: int,
         quota: Quota) -> Callable[[Tx], Generator[None, None, list[tuple[int, int]]]]:
    """(uid, new uid), all or none. The copies are items of their own that share content and conversation."""
    def work(tx: Tx) -> Generator[None, None, list[tuple[int, int]]]:
        mailbox = tx.mailbox(guid)
        source, target = folder_of(mailbox, fid), folder_of(mailbox, target_fid)
        done: list[tuple[int, int]] = []
        for found in slices(tx, fid, uids, source.uidnext):
            check_room(mailbox, quota, sum(record[7] for record in found))
            check_uids(target, len(found))
            done += _copy_slice(tx, mailbox, source, target, found)
            yield
        return done
    return work


def _copy_slice(tx: Tx, mailbox: MailboxMemory, source: FolderState, target: FolderState,
                found: list[Record]) -> list[tuple[int, int]]:
    threads = Threads(mailbox)
    threads.load(tx, [record[5] for record in found])
    items: list[tuple[object, ...]] = []
    runs: list[list[int]] = []
    done: list[tuple[int, int]] = []
    emails = {uid: of for uid, *of in tx.all(COPIES, (source.fid, found[0][0], found[-1][0]))}
    for uid, flags, kw, _cn, id_, conv, received, size, blob in found:
        new, number = target.uidnext, tx.number(mailbox)
        target.uidnext += 1
        items.append((target.fid, new, mailbox.mid, number, number, number, number, flags, received, size, blob, conv,
                      kw, *emails.get(uid, (id_, None))))
        at = source.fid << 32 | uid
        if runs and at == runs[-1][-1] + 1:
            runs[-1][-1] = at
        else:
            runs.append([(target.fid << 32 | new) - at, at, at])
        count(target, flags, size, 1)
        threads.add(conv, 1, received)
        done.append((uid, new))
    mailbox.items += len(found)
    mailbox.octets += sum(record[7] for record in found)
    target.cn_high = mailbox.cn
    tx.many(COPY_ITEM, items)  # type: ignore[arg-type]
    tx.many(COPY_META, runs)
    threads.write(tx)
    tx.touch(mailbox, target)
    return done


def count(folder: FolderState, flags: int, size: int, sign: int) -> None:
    """One item came (+1) or went (-1)."""
    folder.total += sign
    folder.octets += sign * size
    if not flags & SEEN:
        folder.unread += sign
    if flags & DELETED:
        folder.deleted += sign


def move(guid: MailboxId, fid: int, uids: UidSet,
         target_fid: int) -> Callable[[Tx], Generator[None, None, list[tuple[int, int]]]]:
    """(uid, new uid), all or none; the item stays the same item."""
    def work(tx: Tx) -> Generator[None, None, list[tuple[int, int]]]:
        mailbox = tx.mailbox(guid)
        source, target = folder_of(mailbox, fid), folder_of(mailbox, target_fid)
        done: list[tuple[int, int]] = []
        for found in slices(tx, fid, uids, source.uidnext):
            check_uids(target, len(found))
            done += move_slice(tx, mailbox, source, target, found)
            yield
        return done
    return work


def move_slice(tx: Tx, mailbox: MailboxMemory, source: FolderState, target: FolderState, found: list[Record],
               deleted_at: int = 0) -> list[tuple[int, int]]:
    """Rows of one slice to another folder. Entering or leaving a hidden folder gives a new id (STORE 0.3)."""
    reborn = bool(source.hidden) != bool(target.hidden)
    threads = Threads(mailbox)
    if reborn:
        threads.load(tx, [record[5] for record in found])
    origin = encode((deleted_at, source.fno, mailbox.path_of(source.fid))) if target.hidden else None
    items: list[tuple[object, ...]] = []
    metas: list[tuple[object, ...]] = []
    tombs: list[tuple[object, ...]] = []
    done: list[tuple[int, int]] = []
    for uid, flags, _kw, _cn, id_, conv, received, size, _blob in found:
        new, number = target.uidnext, tx.number(mailbox)
        target.uidnext += 1
        kept = flags & ~DELETED if target.hidden else flags
        items.append((target.fid, new, number if reborn else id_, number, number, kept, source.fid, uid))
        at, to = source.fid << 32 | uid, target.fid << 32 | new
        metas.append((to, origin, at) if reborn else (to, at))
        tombs.append((source.fid, tx.number(mailbox), uid, mailbox.mid, id_, received,
                      0 if target.hidden else target.fid, 0 if target.hidden else new, None))
        count(source, flags, size, -1)
        count(target, kept, size, 1)
        if reborn:
            threads.add(conv, -1 if target.hidden else 1, received)
        done.append((uid, new))
    octets = sum(record[7] for record in found)
    if reborn:
        sign = -1 if target.hidden else 1
        mailbox.items += sign * len(found)
        mailbox.octets += sign * octets
        mailbox.bytes_recoverable -= sign * octets
    drop_seen(tx, mailbox, source.fid, [record[0] for record in found])
    tx.many(MOVE_ITEM, items)  # type: ignore[arg-type]
    tx.many(MOVE_META_PROPS if reborn else MOVE_META, metas)  # type: ignore[arg-type]
    tx.many(INSERT_TOMB, tombs)  # type: ignore[arg-type]
    threads.write(tx)
    source.cn_high = target.cn_high = mailbox.cn
    tx.touch(mailbox, source)
    tx.touch(mailbox, target)
    return done


def expunge(guid: MailboxId, fid: int, uids: UidSet, deletions_fid: int, now: int, *,
            only_deleted: bool = True) -> Callable[[Tx], Generator[None, None, list[int]]]:
    """Soft delete: into recoverable items. only_deleted: those with \\Deleted."""
    def work(tx: Tx) -> Generator[None, None, list[int]]:
        mailbox = tx.mailbox(guid)
        source, target = mailbox.folders[fid], folder_of(mailbox, deletions_fid)
        done: list[int] = []
        if only_deleted and not source.deleted:
            return done
        for found in slices(tx, fid, uids, source.uidnext):
            if only_deleted:
                found = [record for record in found if record[1] & DELETED]
            if found:
                check_uids(target, len(found))
                done += [uid for uid, _ in move_slice(tx, mailbox, source, target, found, now)]
            yield
        return done
    return work


def purge(guid: MailboxId, fid: int, uids: UidSet, now: int) -> Callable[[Tx], Generator[None, None, int]]:
    """Out of a hidden folder for good; contents that nobody else names are swept later."""
    def work(tx: Tx) -> Generator[None, None, int]:
        mailbox = tx.mailbox(guid)
        folder = folder_of(mailbox, fid)
        total = 0
        for found in slices(tx, fid, uids, folder.uidnext):
            keys = [(fid, record[0]) for record in found]
            tx.many("DELETE FROM item WHERE fid = ? AND uid = ?", keys)
            tx.many("DELETE FROM item_meta WHERE place = ?", [(fid << 32 | uid,) for _, uid in keys])
            tx.many(INSERT_TOMB, [(fid, tx.number(mailbox), record[0], mailbox.mid, record[4], record[6], 0, 0, None)
                                  for record in found])
            tx.many(SWEEP, [(record[8], now) for record in found])
            for record in found:
                count(folder, record[1], record[7], -1)
            mailbox.bytes_recoverable -= sum(record[7] for record in found)
            folder.cn_high = mailbox.cn
            tx.touch(mailbox, folder)
            total += len(found)
            yield
        return total
    return work


def drop_seen(tx: Tx, mailbox: MailboxMemory, fid: int, uids: list[int]) -> None:
    """Own read state of items that leave a folder."""
    for grant in mailbox.grants.get(fid, {}).values():
        if grant.cn_seen:
            mine = seen_rows(tx, fid, grant.who, min(uids), max(uids))
            gone = [uid for uid in uids if uid in mine]
            if gone:
                tx.many("DELETE FROM seen WHERE fid = ? AND who = ? AND uid = ?",
                        [(fid, grant.who, uid) for uid in gone])
                grant.seen_items -= sum(mine[uid][0] for uid in gone)
                tx.grant_changed(mailbox, grant)
