"""What is known of mailboxes in memory: the writer's counters, and the committed view that everybody reads.

In     rows of mailbox, folder, folder_user, keyword, mailbox_epoch.
Out    MailboxMemory. The writer's own may be ahead of the disk inside a group; `clone` makes a committed view of it.
Spec   STORE 0.5 (counters live in the writer's memory, written once per group).
Not    truth: dropped at any failure and read again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec import Struct

from atoll.base.ids import MailboxId, UserId
from atoll.mailbox.model import MailboxState, Right, WellKnown
from atoll.sql import Connection

FOLDER_COLUMNS = ("fid, mid, fno, parent, name, class, wellknown, hidden, own_seen, gone, uidv, uidnext, recent_uid,"
                  " cn_born, cn_props, cn_high, trim_cn, total, unread, bytes, deleted")
GRANT_COLUMNS = "fid, who, address, rights, cn_rights, cn_seen, subscribed, cn_sub, seen_items"
MAILBOX_COLUMNS = ("mid, guid, cn, uidv, uidv_base, fno_next, items, bytes, bytes_recoverable, state, conv_trim,"
                   " token_key")


class FolderState(Struct):
    """A row of `folder`. A Struct, because it is copied for the view after every commit that touched it."""

    fid: int
    mid: int
    fno: int
    parent: int
    name: str
    kind: str
    wellknown: int
    hidden: int
    own_seen: int
    gone: int
    uidv: int
    uidnext: int
    recent_uid: int
    cn_born: int
    cn_props: int
    cn_high: int
    trim_cn: int
    total: int
    unread: int
    octets: int
    deleted: int


class Grant(Struct):
    """A row of `folder_user`: what one person may, has read and is subscribed to."""

    fid: int
    who: UserId
    address: str
    rights: int
    cn_rights: int
    cn_seen: int
    subscribed: int
    cn_sub: int
    seen_items: int


@dataclass(slots=True)
class MailboxMemory:
    """A row of `mailbox` with its folders, grants and keywords."""

    mid: int
    guid: MailboxId
    cn: int
    uidv: int
    uidv_base: int
    fno_next: int
    items: int
    octets: int
    bytes_recoverable: int
    state: int
    conv_trim: int
    token_key: bytes
    folders: dict[int, FolderState] = field(default_factory=dict)
    grants: dict[int, dict[UserId, Grant]] = field(default_factory=dict)
    keywords: list[str] = field(default_factory=list)
    keyword_numbers: dict[str, int] = field(default_factory=dict)
    epochs: list[tuple[int, int]] = field(default_factory=list)
    _paths: dict[int, str] | None = None
    _by_path: dict[str, int] = field(default_factory=dict)

    def clone(self) -> MailboxMemory:
        """A copy that later changes of this one do not reach."""
        other = copy.copy(self)
        other.folders = {fid: copy.copy(folder) for fid, folder in self.folders.items()}
        other.grants = {fid: {who: copy.copy(grant) for who, grant in grants.items()}
                        for fid, grants in self.grants.items()}
        other.keywords = self.keywords.copy()
        other.keyword_numbers = self.keyword_numbers.copy()
        other.epochs = self.epochs.copy()
        other._paths = None
        other._by_path = {}
        return other

    def refreshed(self, newer: MailboxMemory, fids: set[int]) -> None:
        """Take over counters and these folders from the writer's memory, after its commit."""
        self.cn, self.uidv, self.fno_next = newer.cn, newer.uidv, newer.fno_next
        self.items, self.octets, self.bytes_recoverable = newer.items, newer.octets, newer.bytes_recoverable
        self.state = newer.state
        for fid in fids:
            if fid in newer.folders:
                told = self.folders[fid].recent_uid if fid in self.folders else 0
                self.folders[fid] = folder = copy.copy(newer.folders[fid])
                folder.recent_uid = max(folder.recent_uid, told)

    # -- folders ------------------------------------------------------------------------------------------------
    def restructured(self) -> None:
        """A folder was made, renamed or removed."""
        self._paths = None

    def _index(self) -> dict[int, str]:
        if self._paths is None:
            paths: dict[int, str] = {}
            live = {fid: folder for fid, folder in self.folders.items() if not folder.gone}
            for fid in live:
                self._path_into(paths, live, fid)
            self._paths = paths
            self._by_path = {path: fid for fid, path in paths.items()}
        return self._paths

    @staticmethod
    def _path_into(paths: dict[int, str], live: dict[int, FolderState], fid: int) -> str:
        chain: list[int] = []
        while fid in live and fid not in paths and fid not in chain:
            chain.append(fid)
            fid = live[fid].parent
        path = paths.get(fid, "")
        for child in reversed(chain):
            path = f"{path}/{live[child].name}" if path else live[child].name
            paths[child] = path
        return path

    def path_of(self, fid: int) -> str:
        """"Archive/2025"; "" for one that is gone."""
        return self._index().get(fid, "")

    def at(self, path: str) -> FolderState | None:
        """The live folder of a path."""
        self._index()
        fid = self._by_path.get(path)
        return self.folders[fid] if fid is not None else None

    def paths(self) -> dict[str, int]:
        """path -> fid of the live folders."""
        self._index()
        return self._by_path

    def children(self, fid: int) -> Iterator[FolderState]:
        """Live folders directly below."""
        return (folder for folder in self.folders.values() if folder.parent == fid and not folder.gone)

    def wellknown(self, which: WellKnown) -> FolderState | None:
        """The folder with this meaning."""
        return next((folder for folder in self.folders.values() if folder.wellknown == which and not folder.gone), None)

    # -- people -------------------------------------------------------------------------------------------------
    def grant(self, fid: int, who: UserId) -> Grant | None:
        return self.grants.get(fid, {}).get(who)

    def rights(self, fid: int, who: UserId, anyone: UserId) -> Right:
        """Own and everybody's together; the owner is not asked here."""
        grants = self.grants.get(fid)
        if not grants:
            return Right.NONE
        mine, all_ = grants.get(who), grants.get(anyone)
        return Right((mine.rights if mine else 0) | (all_.rights if all_ else 0))

    # -- keywords -----------------------------------------------------------------------------------------------
    def names_of(self, kw: bytes | None) -> tuple[str, ...]:
        """The keywords of a packed column."""
        return tuple(self.keywords[number - 1] for number in unpack(kw)) if kw else ()

    @property
    def writable(self) -> bool:
        return self.state in (MailboxState.ACTIVE, MailboxState.ARRIVING)


def pack(numbers: set[int]) -> bytes | None:
    """Keyword numbers as the column holds them: sorted, two octets each; NULL when there are none."""
    return b"".join(number.to_bytes(2, "big") for number in sorted(numbers)) or None


def unpack(kw: bytes | None) -> set[int]:
    """The numbers of a packed column."""
    return {int.from_bytes(kw[at:at + 2], "big") for at in range(0, len(kw), 2)} if kw else set()


def load(connection: Connection, guid: MailboxId) -> MailboxMemory | None:
    """From one snapshot or the writer's own transaction; None when there is no such mailbox."""
    row = connection.one(f"SELECT {MAILBOX_COLUMNS} FROM mailbox WHERE guid = ?", (guid,))
    if row is None:
        return None
    memory = MailboxMemory(*row)
    mid = memory.mid
    for values in connection.all(f"SELECT {FOLDER_COLUMNS} FROM folder WHERE mid = ? ORDER BY fno", (mid,)):
        memory.folders[values[0]] = FolderState(*values)
    for values in connection.all(f"SELECT {GRANT_COLUMNS} FROM folder_user WHERE fid IN"
                                 " (SELECT fid FROM folder WHERE mid = ?) ORDER BY fid, who", (mid,)):
        memory.grants.setdefault(values[0], {})[values[1]] = Grant(*values)
    for number, name in connection.all("SELECT no, name FROM keyword WHERE mid = ? ORDER BY no", (mid,)):
        memory.keywords.append(name)
        memory.keyword_numbers[name.lower()] = number
    memory.epochs = [(epoch, fork) for epoch, fork in connection.all(
        "SELECT epoch, fork_cn FROM mailbox_epoch WHERE mid = ? ORDER BY epoch", (mid,))]
    return memory
