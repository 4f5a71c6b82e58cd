"""Units of work on folders: make, rename, delete, subscribe, grant; and the mailbox's own birth.

In     paths ("Archive/2025"), ids of people.
Out    fids; hierarchy numbers (cn_props).
Spec   RFC 9051 §6.3.4 to §6.3.8, RFC 6154, RFC 4314; STORE 1 (FolderSync, LIST row).
Fails  StoreError.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable

from atoll.base.ids import MailboxId, UserId
from atoll.mailbox.errors import StoreCode, StoreError
from atoll.mailbox.items import folder_of, own_grant
from atoll.mailbox.memory import FolderState, Grant, MailboxMemory
from atoll.mailbox.model import EPOCH_SHIFT, Right, WellKnown
from atoll.mailbox.tx import Tx

MAX_NAME = 255
"""Octets of one component."""
MAX_DEPTH = 32
MAX_FOLDERS = 10_000
MAX_ROWS = 100_000
"""Folders of a mailbox with those that are gone: clients are told of them by their numbers."""
MAX_LOST = 1000
"""Subscribed names of a mailbox that are no folder any more; further ones are forgotten with their folder."""
EPOCH_UIDS = 20
"""Uids of a folder (and contents of a database) that one owner epoch has for itself after a fork, as a power of 2."""
EPOCH_FOLDERS = 10
"""The same for folder numbers and UIDVALIDITYs of a mailbox."""
RECOVERABLE = "Recoverable Items"
HIDDEN = ((WellKnown.DELETIONS, "Deletions"), (WellKnown.VERSIONS, "Versions"), (WellKnown.PURGES, "Purges"))
VISIBLE = ((WellKnown.INBOX, "INBOX"), (WellKnown.DRAFTS, "Drafts"), (WellKnown.SENT, "Sent"),
           (WellKnown.TRASH, "Trash"), (WellKnown.JUNK, "Junk"), (WellKnown.ARCHIVE, "Archive"))
KEEP_NAME = "INSERT INTO subscription (mid, who, name) VALUES (?, ?, ?) ON CONFLICT (mid, who, name) DO NOTHING"
LOST_NAMES = "SELECT who, name FROM subscription WHERE mid = ? ORDER BY who, name"
FORGET_NAME = "DELETE FROM subscription WHERE mid = ? AND who = ? AND name = ?"
INSERT_FOLDER = ("INSERT INTO folder (fid, mid, fno, parent, name, class, wellknown, hidden, own_seen, gone, uidv,"
                 " uidnext, recent_uid, cn_born, cn_props, cn_high, trim_cn, total, unread, bytes, deleted)"
                 " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 1, 1, ?, ?, ?, 0, 0, 0, 0, 0)")


def normal_path(path: str) -> str:
    """NFC, INBOX in capitals, no leading or trailing "/"; INVALID for what can be no name."""
    parts = unicodedata.normalize("NFC", path).strip("/").split("/")
    if parts[0].upper() == "INBOX":
        parts[0] = "INBOX"
    if len(parts) > MAX_DEPTH or not all(_good(part) for part in parts):
        raise StoreError(StoreCode.INVALID, "Not a folder name")
    return "/".join(parts)


def path_or_none(path: str) -> str:
    """The same, "" for what can be no name."""
    try:
        return normal_path(path)
    except StoreError:
        return ""


def in_order(entry: tuple[str, int]) -> tuple[bool, list[str]]:
    """Sorts (path, fid): INBOX first, parents before children."""
    path = entry[0]
    return not (path == "INBOX" or path.startswith("INBOX/")), path.casefold().split("/")


def _good(part: str) -> bool:
    if not part or part in (".", "..") or len(part.encode("utf-8", "replace")) > MAX_NAME:
        return False
    return not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in part)


def born(guid: MailboxId, epoch: int, now: int) -> Callable[[Tx], None]:
    """The mailbox with its well-known folders; nothing when it is there."""
    def work(tx: Tx) -> None:
        if tx.one("SELECT 1 FROM mailbox WHERE guid = ?", (guid,)) is not None:
            return
        mid = tx.local("mid")
        tx.run("INSERT INTO mailbox (mid, guid, cn, uidv, uidv_base, fno_next, items, bytes, bytes_recoverable, state,"
               " conv_trim, token_key) VALUES (?, ?, ?, ?, ?, 1, 0, 0, 0, 0, 0, ?)",
               (mid, guid, epoch << EPOCH_SHIFT, now // 1000, now // 1000, os.urandom(32)))
        tx.run("INSERT INTO mailbox_epoch (mid, epoch, fork_cn) VALUES (?, ?, 0)", (mid, epoch))
        mailbox = tx.mailbox(guid)
        for which, name in VISIBLE:
            folder = make(tx, mailbox, 0, name, which)
            tx.grant_changed(mailbox, _subscription(tx, mailbox, folder, UserId(b""), 1))
        root = make(tx, mailbox, 0, RECOVERABLE, WellKnown.RECOVERABLE, hidden=True)
        for which, name in HIDDEN:
            make(tx, mailbox, root.fid, name, which, hidden=True)
    return work


def make(tx: Tx, mailbox: MailboxMemory, parent: int, name: str, which: WellKnown, *, hidden: bool = False,
         own_seen: bool = False) -> FolderState:
    """One folder below `parent` (0: top); its rights are its parent's [RFC 4314 §3]."""
    folders = mailbox.folders
    if len(folders) >= MAX_FOLDERS and (len(folders) >= MAX_ROWS
                                        or sum(not one.gone for one in folders.values()) >= MAX_FOLDERS):
        raise StoreError(StoreCode.INVALID, "Too many folders")
    cn = tx.number(mailbox)
    mailbox.uidv += 1
    folder = FolderState(tx.local("fid"), mailbox.mid, mailbox.fno_next, parent, name, "IPF.Note", int(which),
                         int(hidden), int(own_seen), 0, mailbox.uidv, 1, 1, cn, cn, cn, 0, 0, 0, 0, 0)
    mailbox.fno_next += 1
    tx.run(INSERT_FOLDER, (folder.fid, folder.mid, folder.fno, parent, name, folder.kind, folder.wellknown,
                           folder.hidden, folder.own_seen, folder.uidv, cn, cn, cn))
    mailbox.folders[folder.fid] = folder
    for grant in list(mailbox.grants.get(parent, {}).values()):
        if grant.rights:
            mailbox.grants.setdefault(folder.fid, {})[grant.who] = inherited = Grant(
                folder.fid, grant.who, grant.address, grant.rights, tx.number(mailbox), 0, 0, 0, 0)
            tx.grant_changed(mailbox, inherited)
    tx.restructured(mailbox)
    tx.touch(mailbox, folder)
    return folder


def create(guid: MailboxId, path: str, which: WellKnown,
           may: Callable[[MailboxMemory, int], bool]) -> Callable[[Tx], int]:
    """fid. may(mailbox, parent fid): may the person create below?"""
    def work(tx: Tx) -> int:
        mailbox = tx.mailbox(guid)
        if mailbox.at(path) is not None:
            raise StoreError(StoreCode.EXISTS, "The folder exists")
        if which and mailbox.wellknown(which) is not None:
            raise StoreError(StoreCode.EXISTS, "There is a folder for this use")
        parts = path.split("/")
        parent = 0
        at = 0
        while at < len(parts) - 1 and (found := mailbox.at("/".join(parts[:at + 1]))) is not None:
            parent, at = found.fid, at + 1
        if parent and mailbox.folders[parent].hidden:
            raise StoreError(StoreCode.SYSTEM_FOLDER, "Not below this folder")
        if not may(mailbox, parent):
            raise StoreError(StoreCode.NO_RIGHT, "Permission denied")
        for last, name in enumerate(parts[at:], at + 1):
            parent = make(tx, mailbox, parent, name, which if last == len(parts) else WellKnown.NONE).fid
        _found_again(tx, mailbox)
        return parent
    return work


def rename(guid: MailboxId, fid: int, path: str, may: Callable[[MailboxMemory, int], bool]) -> Callable[[Tx], None]:
    """The folder and all below it go to `path`; missing parents are made."""
    def work(tx: Tx) -> None:
        mailbox = tx.mailbox(guid)
        folder = folder_of(mailbox, fid)
        if mailbox.at(path) is not None:
            raise StoreError(StoreCode.EXISTS, "The folder exists")
        old = mailbox.path_of(fid)
        if path.startswith(old + "/"):
            raise StoreError(StoreCode.INVALID, "A folder cannot go below itself")
        parent_path, _, name = path.rpartition("/")
        parent = 0
        if parent_path:
            found = mailbox.at(parent_path)
            if found is not None and found.hidden:
                raise StoreError(StoreCode.SYSTEM_FOLDER, "Not below this folder")
            parent = found.fid if found is not None else create(guid, parent_path, WellKnown.NONE, may)(tx)
        if not may(mailbox, parent):
            raise StoreError(StoreCode.NO_RIGHT, "Permission denied")
        folder.parent, folder.name = parent, name
        folder.cn_props = tx.number(mailbox)
        tx.restructured(mailbox)
        tx.touch(mailbox, folder)
        _found_again(tx, mailbox)
    return work


def mark_gone(guid: MailboxId, fid: int) -> Callable[[Tx], None]:
    """First step of a deletion: nobody finds it any more; its items are moved out afterwards, in batches."""
    def work(tx: Tx) -> None:
        mailbox = tx.mailbox(guid)
        folder = folder_of(mailbox, fid)
        if next(mailbox.children(fid), None) is not None:
            raise StoreError(StoreCode.NOT_EMPTY, "The folder has folders below it")
        name = mailbox.path_of(fid)
        for who in [one.who for one in mailbox.grants.get(fid, {}).values() if one.subscribed]:
            if len(tx.all(LOST_NAMES, (mailbox.mid,))) < MAX_LOST:  # the name stays subscribed [RFC 9051 §6.3.7]
                tx.run(KEEP_NAME, (mailbox.mid, who, name))
        folder.gone = 1
        folder.wellknown = int(WellKnown.NONE)
        folder.cn_props = tx.number(mailbox)
        tx.restructured(mailbox)
        tx.touch(mailbox, folder)
    return work


def _subscription(tx: Tx, mailbox: MailboxMemory, folder: FolderState, who: UserId, on: int) -> Grant:
    grant = own_grant(mailbox, folder.fid, who)
    grant.subscribed = on
    grant.cn_sub = tx.number(mailbox)
    return grant


def _found_again(tx: Tx, mailbox: MailboxMemory) -> None:
    """Names that people are subscribed to may be folders again."""
    for who, name in tx.all(LOST_NAMES, (mailbox.mid,)):
        folder = mailbox.at(name)
        if folder is not None:
            tx.grant_changed(mailbox, _subscription(tx, mailbox, folder, who, 1))
            tx.run(FORGET_NAME, (mailbox.mid, who, name))


def forget_name(guid: MailboxId, who: UserId, name: str) -> Callable[[Tx], bool]:
    """End the subscription to a name that is no folder any more; was there one?"""
    def work(tx: Tx) -> bool:
        return bool(tx.run(FORGET_NAME, (tx.mailbox(guid).mid, who, name)))
    return work


def subscribe(guid: MailboxId, fid: int, who: UserId, on: bool) -> Callable[[Tx], None]:
    """who: b"" stands for the owner."""
    def work(tx: Tx) -> None:
        mailbox = tx.mailbox(guid)
        tx.grant_changed(mailbox, _subscription(tx, mailbox, folder_of(mailbox, fid), who, int(on)))
    return work


def grant(guid: MailboxId, fid: int, who: UserId, address: str, rights: Right) -> Callable[[Tx], None]:
    """Exactly these rights."""
    def work(tx: Tx) -> None:
        mailbox = tx.mailbox(guid)
        folder_of(mailbox, fid)
        row = own_grant(mailbox, fid, who)
        row.address, row.rights = address, int(rights)
        row.cn_rights = tx.number(mailbox)
        tx.grant_changed(mailbox, row)
    return work


def told_recent(memories: Iterable[MailboxMemory | None], fid: int, uid: int) -> None:
    """A session was told of what is below uid: it is \\Recent to nobody else, also before that is durable."""
    for memory in memories:
        folder = memory.folders.get(fid) if memory is not None else None
        if folder is not None:
            folder.recent_uid = max(folder.recent_uid, uid)


def recent_taken(guid: MailboxId, fid: int, uid: int) -> Callable[[Tx], None]:
    """\\Recent was given to a session."""
    def work(tx: Tx) -> None:
        mailbox = tx.mailbox(guid)
        folder = mailbox.folders.get(fid)
        if folder is not None and folder.recent_uid < uid:
            folder.recent_uid = uid
            tx.touch(mailbox, folder)
    return work


def forked(epoch: int) -> Callable[[Tx], None]:
    """This copy does not know what was given out since: numbers go on where no earlier owner can have been.

    Everything is counted from the epoch, not from what the copy says: two restores of one backup would otherwise give
    the same uids to different messages (found by the state machine; STORE 1 had "+ 2^20"). A folder whose uids are
    above that already, or would leave 31 bits, gets a new UIDVALIDITY instead.
    """
    def work(tx: Tx) -> None:
        tx.skip_to("blob", epoch << EPOCH_UIDS)  # the search index may know documents of the lost future
        for (guid,) in tx.all("SELECT guid FROM mailbox ORDER BY mid"):
            mailbox = tx.mailbox(guid, any_state=True)
            if any(known == epoch for known, _ in mailbox.epochs):
                continue
            tx.run("INSERT INTO mailbox_epoch (mid, epoch, fork_cn) VALUES (?, ?, ?)", (mailbox.mid, epoch, mailbox.cn))
            mailbox.epochs.append((epoch, mailbox.cn))
            mailbox.cn = epoch << EPOCH_SHIFT
            mailbox.uidv = max(mailbox.uidv, mailbox.uidv_base + (epoch << EPOCH_FOLDERS))
            mailbox.fno_next = max(mailbox.fno_next, epoch << EPOCH_FOLDERS)
            for folder in mailbox.folders.values():
                first = epoch << EPOCH_UIDS
                if folder.uidnext <= first < 1 << 31:
                    folder.uidnext = first
                else:
                    mailbox.uidv += 1
                    folder.uidv = mailbox.uidv
                tx.touch(mailbox, folder)
            tx.restructured(mailbox)
    return work
