"""One person on one mailbox: every method checks rights, once, for all protocols.

In     folders, uid sets, values of mailbox.model.
Out    rows, maps, change lists; writes resolve after their commit.
Spec   docs/seams.md 4; RFC 4314 (rights); STORE 1.
Fails  StoreError.
Not    a protocol: nothing here knows IMAP's words.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from atoll.base.ids import MailboxId, UserId
from atoll.mailbox.model import (
    Changes,
    Deleted,
    Flag,
    FlagsDone,
    Folder,
    Look,
    NewMessage,
    Notice,
    Placed,
    QuotaState,
    Right,
    Row,
    SortRow,
    Want,
    WellKnown,
)
from atoll.mailbox.query import Query
from atoll.mailbox.uidmap import UidMap
from atoll.mailbox.uidset import UidSet


class Access:
    """Made by Store.open."""

    mailbox: MailboxId
    who: UserId
    is_owner: bool

    def folders(self, *, hidden: bool = False) -> list[Folder]:
        """Those that may be looked up, parents before children, INBOX first."""
        raise NotImplementedError

    def folder(self, path: str) -> Folder:
        """By path, INBOX in any case; with fresh counters, from the folder row. NO_FOLDER."""
        raise NotImplementedError

    status = folder

    def folder_by_id(self, fid: int) -> Folder:
        """The same by its id. NO_FOLDER when it is gone."""
        raise NotImplementedError

    async def create(self, path: str, wellknown: WellKnown = WellKnown.NONE) -> Folder:
        """Missing parents are made too. EXISTS, NO_RIGHT, INVALID."""
        raise NotImplementedError

    async def delete(self, path: str) -> None:
        """Its messages go to recoverable items. NO_FOLDER, NO_RIGHT, SYSTEM_FOLDER, NOT_EMPTY (it has children)."""
        raise NotImplementedError

    async def rename(self, old: str, new: str) -> None:
        """Children follow; INBOX: its messages move to `new` [RFC 9051 §6.3.6]. EXISTS, NO_FOLDER, SYSTEM_FOLDER."""
        raise NotImplementedError

    async def subscribe(self, path: str, on: bool) -> None:
        """Remembered for this person. NO_FOLDER."""
        raise NotImplementedError

    async def select(self, folder: Folder, *, read_write: bool) -> Folder:
        """The folder fresh, as of before; read_write takes \\Recent for itself: uids >= result.recent_uid are recent."""
        raise NotImplementedError

    def uid_map(self, folder: Folder) -> UidMap:
        """As committed now; shared. Take `look` to move a session on."""
        raise NotImplementedError

    def rows(self, folder: Folder, lo: int, hi: int, want: Want, limit: int = 200) -> list[Row]:
        """Rows with lo <= uid <= hi in uid order, at most `limit` (continue at the last uid + 1); 50 rows take < 2 ms."""
        raise NotImplementedError

    def rows_of(self, folder: Folder, uids: UidSet, want: Want, limit: int = 200) -> list[Row]:
        """The same for a set."""
        raise NotImplementedError

    def keywords(self, row: Row) -> tuple[str, ...]:
        """The keywords of row.kw, as first written."""
        raise NotImplementedError

    def keyword_names(self) -> tuple[str, ...]:
        """All keywords of the mailbox."""
        raise NotImplementedError

    def row_blob(self, row: Row) -> bytes:
        """The whole content of a row (read large ones by blob_slice)."""
        raise NotImplementedError

    def blob_slice(self, blob: int, offset: int, size: int) -> bytes:
        """A piece of a content, at most 1 MiB a call."""
        raise NotImplementedError

    def changes(self, folder: Folder, since_cn: int, known: UidMap | None = None) -> Changes:
        """After `since_cn`: rows now (HOT, uid order) and uids that went (of `known` if given)."""
        raise NotImplementedError

    def look(self, folder: Folder, since_cn: int, uids: UidMap) -> Look:
        """What a session that stands at since_cn with `uids` has to be told. Nothing new: a few comparisons."""
        raise NotImplementedError

    async def append(self, folder: Folder, messages: Sequence[NewMessage]) -> list[Placed]:
        """All or none. OVER_QUOTA, NO_RIGHT, TOO_BIG."""
        raise NotImplementedError

    async def flags(self, folder: Folder, uids: UidSet, op: str, flags: Flag, keywords: frozenset[str] = frozenset(),
                    unchanged_since: int | None = None) -> FlagsDone:
        """op "+", "-" or "=". Flags that the person may not touch are left alone; NO_RIGHT if none may be touched."""
        raise NotImplementedError

    async def copy(self, folder: Folder, uids: UidSet, target: Folder) -> list[tuple[int, int]]:
        """(uid, uid in target) in uid order; all or none."""
        raise NotImplementedError

    async def move(self, folder: Folder, uids: UidSet, target: Folder) -> list[tuple[int, int]]:
        """The same; identity is kept."""
        raise NotImplementedError

    async def expunge(self, folder: Folder, uids: UidSet | None) -> list[int]:
        """The \\Deleted ones (of uids) go to recoverable items; what went."""
        raise NotImplementedError

    async def search(self, folder: Folder, query: Query) -> list[int]:
        """Matching uids, ascending. Catches the index up first."""
        raise NotImplementedError

    def sort_rows(self, folder: Folder, uids: UidSet) -> AsyncIterator[list[SortRow]]:
        """Sort keys in slices (yields to the loop between)."""
        raise NotImplementedError

    def acl(self, path: str) -> dict[str, Right]:
        """Address (or "anyone") -> rights, the owner not included. Needs ADMIN."""
        raise NotImplementedError

    async def set_acl(self, path: str, who: UserId, address: str, rights: Right) -> None:
        """Give exactly these rights (none: remove). who: from the directory; model.ANYONE with address "anyone"."""
        raise NotImplementedError

    def my_rights(self, path: str) -> Right:
        """NO_FOLDER when it may not be looked up."""
        raise NotImplementedError

    def quota(self) -> QuotaState:
        """Counters, no counting."""
        raise NotImplementedError

    def recoverable(self) -> list[Deleted]:
        """What can be got back, newest deletion first. Owner (or administrator) only."""
        raise NotImplementedError

    async def recover(self, ids: Iterable[int], target: Folder | None = None) -> list[Placed]:
        """Back to where it was, or to target."""
        raise NotImplementedError

    async def purge_recoverable(self, ids: Iterable[int] | None = None) -> int:
        """Gone for good; how many."""
        raise NotImplementedError

    def subscribe_changes(self, callback: Callable[[Notice], None]) -> Callable[[], None]:
        """Called after each commit that touched this mailbox; call the result to end it."""
        raise NotImplementedError
