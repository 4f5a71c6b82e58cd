"""One person on one mailbox: every method checks rights, once, for all protocols.

In     folders, uid sets, values of mailbox.model.
Out    rows, maps, change lists; writes resolve after their commit.
Spec   docs/seams.md 4; RFC 4314 §4 (which right for what); STORE 1.
Fails  StoreError. A database that was dismounted or went in doubt is UNAVAILABLE for good: open again.
Not    a protocol: nothing here knows IMAP's words.

Read state is common to all readers of a mailbox, as in Exchange. Two cases keep it per person: folders marked
own_seen, and every folder that somebody reads through an ACL without the right "s": he may not change the common
state, so he has his own [RFC 4314 §5.1.1].
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

from atoll.base.ids import MailboxId, UserId
from atoll.directory.client.model import MailboxInfo, Quota
from atoll.mailbox import blobs, change_log, folders, items, reading, recover, tokens, uidls
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import StoreCode, StoreError, no_folder, no_right, unavailable
from atoll.mailbox.home import Home
from atoll.mailbox.ingest import ingest
from atoll.mailbox.memory import FolderState, MailboxMemory
from atoll.mailbox.model import (
    ANYONE,
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
from atoll.mailbox.place import sort_row
from atoll.mailbox.query import Query, tag_of
from atoll.mailbox.search.run import Plan
from atoll.mailbox.tokens import OLDEST
from atoll.mailbox.uidmap import UidMap
from atoll.mailbox.uidset import UidSet

OWNER = UserId(b"")
"""Stands for the owner in rows of folder_user, whoever that is."""
SORT_SLICE = 250
MAX_CN = (1 << 63) - 1
UNDELETABLE = (WellKnown.INBOX, WellKnown.OUTBOX)
NO_COPIES: Mapping[int, str] = {}
OTHER_FLAGS = Flag(511) & ~(Flag.SEEN | Flag.DELETED)


class Access:
    """Made by Store.open."""

    def __init__(self, store: Home, database: MailboxDatabase, info: MailboxInfo, who: UserId, *,
                 is_owner: bool) -> None:
        self.mailbox = MailboxId(info.mailbox)
        self.who = who
        self.is_owner = is_owner
        self.address = info.address
        self._info = info
        self._store = store
        self._database = database
        self.tag = tag_of(self.mailbox)
        """What tells object ids of this mailbox from those of others."""

    @property
    def database(self) -> str:
        """The name of the database that this mailbox is in."""
        return self._database.name

    @property
    def is_open(self) -> bool:
        """False when the database was dismounted since: open again."""
        return not self._database.closed

    # -- who may what -------------------------------------------------------------------------------------------
    def _view(self) -> MailboxMemory:
        if self._database.closed:
            raise unavailable("the database was dismounted")
        return self._database.view(self.mailbox)

    def _rights(self, view: MailboxMemory, fid: int) -> Right:
        return Right.all() if self.is_owner else view.rights(fid, self.who, ANYONE)

    def _need(self, fid: int, right: Right) -> MailboxMemory:
        """The view, if the person has all of `right` there."""
        view = self._view()
        state = view.folders.get(fid)
        if state is None or state.gone:
            raise no_folder()
        rights = self._rights(view, fid)
        if not rights & Right.LOOKUP:
            raise no_folder()
        if rights & right != right:
            raise no_right()
        return view

    def _own(self, view: MailboxMemory, fid: int) -> UserId | None:
        """Whose read state this person sees: None = the common one."""
        if view.folders[fid].own_seen:
            return OWNER if self.is_owner else self.who
        if self.is_owner or self._rights(view, fid) & Right.SEEN:
            return None
        return self.who

    def _folder(self, view: MailboxMemory, state: FolderState) -> Folder:
        own = self._own(view, state.fid)
        grant = view.grant(state.fid, OWNER if self.is_owner else self.who)
        mine = view.grant(state.fid, own) if own is not None else None
        unread = state.unread if own is None else state.total - (mine.seen_items if mine else 0)
        return Folder(state.fid, state.fno, view.path_of(state.fid), WellKnown(state.wellknown), state.uidv,
                      state.uidnext, state.recent_uid, max(state.cn_high, mine.cn_seen if mine else 0), state.total,
                      unread, state.octets, state.deleted, bool(state.hidden), bool(state.own_seen),
                      bool(grant and grant.subscribed), next(view.children(state.fid), None) is not None,
                      self._rights(view, state.fid), f"F{state.fno:x}-{self.tag}")

    # -- folders ------------------------------------------------------------------------------------------------
    def folders(self, *, hidden: bool = False) -> list[Folder]:
        """Those that may be looked up, parents before children, INBOX first."""
        view = self._view()
        found = [self._folder(view, view.folders[fid])
                 for _, fid in sorted(view.paths().items(), key=folders.in_order)
                 if self._rights(view, fid) & Right.LOOKUP]
        return found if hidden else [folder for folder in found if not folder.hidden]

    def folder(self, path: str) -> Folder:
        """By path, INBOX in any case; with fresh counters, from the folder row. NO_FOLDER."""
        view = self._view()
        state = view.at(path) or view.at(folders.path_or_none(path))
        if state is None or not self._rights(view, state.fid) & Right.LOOKUP:
            raise no_folder()
        return self._folder(view, state)

    status = folder

    def folder_by_id(self, fid: int) -> Folder:
        """The same by its id. NO_FOLDER when it is gone."""
        view = self._need(fid, Right.LOOKUP)
        return self._folder(view, view.folders[fid])

    async def create(self, path: str, wellknown: WellKnown = WellKnown.NONE) -> Folder:
        """Missing parents are made too. EXISTS, NO_RIGHT, INVALID."""
        path = folders.normal_path(path)
        self._not_reserved(path)
        fid = await self._database.submit(folders.create(self.mailbox, path, wellknown, self._may_create))
        return self.folder_by_id(fid)

    def _may_create(self, mailbox: MailboxMemory, parent: int) -> bool:
        return self.is_owner or bool(parent and mailbox.rights(parent, self.who, ANYONE) & Right.CREATE)

    @staticmethod
    def _not_reserved(path: str) -> None:
        if path.split("/")[0] == folders.RECOVERABLE:
            raise StoreError(StoreCode.SYSTEM_FOLDER, "This name is the system's")

    async def delete(self, path: str) -> None:
        """Its messages go to recoverable items. NO_FOLDER, NO_RIGHT, SYSTEM_FOLDER, NOT_EMPTY (it has children)."""
        folder = self.folder(path)
        self._need(folder.fid, Right.DELETE_FOLDER)
        if folder.hidden or folder.wellknown in UNDELETABLE:
            raise StoreError(StoreCode.SYSTEM_FOLDER, "This folder stays")
        await self._database.submit(folders.mark_gone(self.mailbox, folder.fid))
        await recover.drain(self._database, self.mailbox, folder.fid)

    async def rename(self, old: str, new: str) -> None:
        """Children follow; INBOX: its messages move to `new` [RFC 9051 §6.3.6]. EXISTS, NO_FOLDER, SYSTEM_FOLDER."""
        folder = self.folder(old)
        self._need(folder.fid, Right.DELETE_FOLDER)
        new = folders.normal_path(new)
        self._not_reserved(new)
        if folder.wellknown is WellKnown.INBOX:
            target = await self.create(new)
            await self.move(folder, UidSet.all(), target)
            return
        if folder.hidden:
            raise StoreError(StoreCode.SYSTEM_FOLDER, "This folder stays")
        await self._database.submit(folders.rename(self.mailbox, folder.fid, new, self._may_create))

    async def subscribe(self, path: str, on: bool) -> None:
        """Remembered for this person; a name stays so when its folder goes [RFC 9051 §6.3.7]. NO_FOLDER."""
        who = OWNER if self.is_owner else self.who
        try:
            fid = self.folder(path).fid
        except StoreError:
            name = folders.path_or_none(path)
            if not on and name and await self._database.submit(folders.forget_name(self.mailbox, who, name)):
                return
            raise
        await self._database.submit(folders.subscribe(self.mailbox, fid, who, on))

    def subscribed_names(self) -> list[str]:
        """What this person is subscribed to and is no folder any more."""
        who = OWNER if self.is_owner else self.who
        return [name for (name,) in self._database.reader.all(
            "SELECT name FROM subscription WHERE mid = ? AND who = ? ORDER BY name", (self._view().mid, who))]

    async def select(self, folder: Folder, *, read_write: bool) -> Folder:
        """The folder as it is now. read_write takes \\Recent: uids from result.recent_uid on are new to everybody."""
        view = self._need(folder.fid, Right.READ)
        state = view.folders[folder.fid]
        fresh = self._folder(view, state)
        if read_write and state.recent_uid < state.uidnext:
            state.recent_uid = state.uidnext
            # lazily durable (STORE 1): nobody waits for it
            waiting = self._database.writer.submit(folders.recent_taken(self.mailbox, folder.fid, state.uidnext))
            waiting.add_done_callback(_ignore)
        return fresh

    # -- reading ------------------------------------------------------------------------------------------------
    def uid_map(self, folder: Folder) -> UidMap:
        """As committed now; shared. Take `look` to move a session on."""
        self._need(folder.fid, Right.READ)
        return reading.uid_map(self._database, folder.fid)

    def first_unseen(self, folder: Folder) -> int:
        """The lowest uid that nobody has read; 0: there is none, or this person's read state is his own."""
        view = self._need(folder.fid, Right.READ)
        if self._own(view, folder.fid) is not None:
            return 0
        return reading.first_unseen(self._database.reader, view.mid, folder.fid)

    def rows(self, folder: Folder, lo: int, hi: int, want: Want, limit: int = 200) -> list[Row]:
        """Rows with lo <= uid <= hi in uid order, at most `limit` (go on at the last uid + 1); 50 take < 2 ms."""
        return self.rows_of(folder, UidSet(((lo, hi),)), want, limit)

    def rows_of(self, folder: Folder, uids: UidSet, want: Want, limit: int = 200) -> list[Row]:
        """The same for a set."""
        view = self._need(folder.fid, Right.READ)
        return reading.rows(self._database, folder.fid, uids, want, limit, self._own(view, folder.fid))

    def listed(self, folder: Folder, lo: int, hi: int) -> Sequence[Row]:
        """The next rows (uid, envelope, structure) with lo <= uid <= hi, at most 256; none: there are no more."""
        view = self._need(folder.fid, Right.READ)
        return reading.listed(self._database, view, folder.fid, lo, hi)

    def keywords(self, row: Row) -> tuple[str, ...]:
        """The keywords of row.kw, as first written."""
        return self._view().names_of(row[2]) if row[2] else ()

    def keyword_names(self) -> tuple[str, ...]:
        """All keywords of the mailbox."""
        return tuple(self._view().keywords)

    def row_blob(self, row: Row) -> bytes:
        """The whole content of a row (read large ones by blob_slice)."""
        self._view()
        return blobs.read(self._database.reader, row.blob)

    def blob_slice(self, blob: int, offset: int, size: int) -> bytes:
        """A piece of a content named by a row that was read, at most 1 MiB a call."""
        self._view()
        return self._database.slices.read(blob, offset, size)

    def changes(self, folder: Folder, since_cn: int, known: UidMap | None = None) -> Changes:
        """After `since_cn`: rows now (HOT, uid order) and uids that went (of `known` if given)."""
        view = self._need(folder.fid, Right.READ)
        return reading.changes(self._database, view, folder.fid, since_cn, known, self._own(view, folder.fid))

    def look(self, folder: Folder, since_cn: int, uids: UidMap) -> Look:
        """What a session that stands at since_cn with `uids` has to be told. Nothing new: a few comparisons."""
        view = self._need(folder.fid, Right.READ)
        fid = folder.fid
        own = self._own(view, fid)
        mine = view.grant(fid, own) if own is not None else None
        if view.folders[fid].cn_high <= since_cn and (mine is None or mine.cn_seen <= since_cn):
            return Look(since_cn, uids, [], [], [])
        found = reading.look(self._database, view, fid, since_cn, uids, own)
        first_recent = view.folders[fid].recent_uid
        found.recent.extend(row.uid for row in found.arrived if row.uid >= first_recent)
        return found

    def take_recent(self, folder: Folder, uid: int) -> None:
        """A read-write session was told of what is up to uid: it is \\Recent to nobody else [RFC 3501 §2.3.2].

        In memory, and on disk with the next commit of this folder: nobody pays for a write of its own.
        """
        folders.told_recent((self._view(), self._database.memory.get(self.mailbox)), folder.fid, uid + 1)

    # -- clients that keep a copy by pages (STORE 2) --------------------------------------------------------------
    def page(self, folder: Folder, token: str, limit: int,
             edge: tuple[int, int] = OLDEST) -> tuple[list[change_log.Op], str, bool]:
        """(operations, next token, is there more). token "": from nothing, newest first. edge: the client wants what
        has (received, uid) >= edge. GONE: the token is of no use any more."""
        view = self._need(folder.fid, Right.READ)
        held = (change_log.first_token(view, folder.fid) if not token
                else change_log.opened(tokens.decode_folder, token, view))
        made = change_log.page(self._database, view, folder.fid, held, limit, edge)
        return made.ops, tokens.encode(made.token, view.token_key), made.more

    def email_changes(self, token: str, limit: int) -> tuple[change_log.EmailChanges, str]:
        """Changed ids of the whole mailbox and the next token; token "": everything is new. Owner only."""
        self._owner_only()
        view = self._view()
        held = (tokens.MailboxToken(view.cn, 0, view.cn) if not token
                else change_log.opened(tokens.decode_mailbox, token, view))
        found = change_log.email_changes(self._database, view, held, limit)
        return found, tokens.encode(found.token, view.token_key)

    def folder_changes(self, since: int) -> list[change_log.FolderChange]:
        """Folders made, renamed or removed after a number (Folder changes do not count: counters have their own)."""
        view = self._view()
        return [change for change in change_log.folder_changes(view, since)
                if self._rights(view, change.fid) & Right.LOOKUP]

    # -- items --------------------------------------------------------------------------------------------------
    async def append(self, folder: Folder, messages: Sequence[NewMessage]) -> list[Placed]:
        """All or none. OVER_QUOTA, NO_RIGHT, TOO_BIG. Flags that the person may not set are left out."""
        view = self._need(folder.fid, Right.INSERT)
        if view.folders[folder.fid].hidden:
            raise StoreError(StoreCode.SYSTEM_FOLDER, "Nothing can be put there")
        quota = await self._limits()
        may, may_keywords = self._may_flags(view, folder.fid)
        ready = [items.Fresh(await self._prepared(message), message.received, int(message.flags) & may,
                             message.keywords if may_keywords else frozenset(), message.email, message.uidl)
                 for message in messages]
        return await self._database.submit(items.append(self.mailbox, folder.fid, ready, quota,
                                                        self._database.recent))

    async def uidls(self) -> dict[int, str]:
        """id -> unique id of POP3, of the messages that brought one from another server. Owner only."""
        self._owner_only()
        return await uidls.kept_uidls(self._database, self._view().mid)

    async def _prepared(self, message: NewMessage) -> blobs.Prepared:
        if message.held is None:
            return await ingest(self._database, message.content)
        blob, size = message.held
        return blobs.Prepared(message.content, b"", size, blobs.RAW, None, blob)

    def _may_flags(self, view: MailboxMemory, fid: int) -> tuple[int, bool]:
        """The flag bits that this person may change there, and whether keywords too [RFC 4314 §4]."""
        rights = self._rights(view, fid)
        may = 0
        if rights & Right.SEEN or self._own(view, fid) is not None:
            may |= Flag.SEEN
        if rights & Right.DELETE_ITEMS:
            may |= Flag.DELETED
        if rights & Right.WRITE:
            may |= OTHER_FLAGS
        return int(may), bool(rights & Right.WRITE)

    async def flags(self, folder: Folder, uids: UidSet, op: str, flags: Flag, keywords: frozenset[str] = frozenset(),
                    unchanged_since: int | None = None, *, stand: int = MAX_CN) -> FlagsDone:
        """op "+", "-" or "=". Flags that the person may not touch are left alone; NO_RIGHT if none may be touched.

        stand: the change number up to which the caller knows the folder.
        """
        view = self._need(folder.fid, Right.READ)
        may, may_keywords = self._may_flags(view, folder.fid)
        if not may and not may_keywords:
            raise no_right()
        if (flags or keywords) and not int(flags) & may and not (keywords and may_keywords):
            raise no_right()
        change = items.FlagChange(op, int(flags), keywords, may, may_keywords, self._own(view, folder.fid),
                                  unchanged_since, stand)
        return await self._database.submit(items.set_flags(self.mailbox, folder.fid, uids, change))

    async def copy(self, folder: Folder, uids: UidSet, target: Folder) -> list[tuple[int, int]]:
        """(uid, uid in target) in uid order; all or none."""
        self._need(folder.fid, Right.READ)
        self._into(target)
        quota = await self._limits()
        return await self._database.submit(items.copy(self.mailbox, folder.fid, uids, target.fid, quota))

    def _into(self, target: Folder) -> None:
        view = self._need(target.fid, Right.INSERT)
        if view.folders[target.fid].hidden:
            raise StoreError(StoreCode.SYSTEM_FOLDER, "Nothing can be put there")

    async def move(self, folder: Folder, uids: UidSet, target: Folder) -> list[tuple[int, int]]:
        """The same; identity is kept (leaving recoverable items: a new one)."""
        self._need(folder.fid, Right.READ | Right.DELETE_ITEMS | Right.EXPUNGE)
        self._into(target)
        return await self._database.submit(items.move(self.mailbox, folder.fid, uids, target.fid))

    def check(self, folder: Folder, rights: Right) -> None:
        """NO_FOLDER, NO_RIGHT."""
        self._need(folder.fid, rights)

    async def expunge(self, folder: Folder, uids: UidSet | None, *, only_deleted: bool = True) -> list[int]:
        """The \\Deleted ones (of uids) go to recoverable items (from there: for good); what went."""
        view = self._need(folder.fid, Right.EXPUNGE | (Right.NONE if only_deleted else Right.DELETE_ITEMS))
        wanted = UidSet.all() if uids is None else uids
        now = self._database.clock.now_ms()
        if view.folders[folder.fid].hidden:
            gone = [row.uid for row in self.rows_of(folder, wanted, Want.HOT, 1 << 31)
                    if row.flags & Flag.DELETED or not only_deleted]
            await self._database.submit(items.purge(self.mailbox, folder.fid, UidSet.of(gone), now))
            return gone
        deletions = view.wellknown(WellKnown.DELETIONS)
        if deletions is None:
            raise no_folder()
        return await self._database.submit(items.expunge(self.mailbox, folder.fid, wanted, deletions.fid, now,
                                                         only_deleted=only_deleted))

    async def search(self, folder: Folder, query: Query) -> list[int]:
        """Matching uids, ascending. Catches the index up first."""
        view = self._need(folder.fid, Right.READ)
        feed = self._store.feed(self._database)
        return await Plan(self._database, feed, view, folder.fid, self._own(view, folder.fid)).run(query)

    async def sort_rows(self, folder: Folder, uids: UidSet) -> AsyncIterator[list[SortRow]]:
        """Sort keys in slices (the loop gets its turn between them)."""
        self._need(folder.fid, Right.READ)
        for first, last in reading.spans(uids):
            while True:
                found = reading.sort_records(self._database.reader, folder.fid, first, last, SORT_SLICE)
                if found:
                    yield [sort_row(record) for record in found if record[0] in uids]
                if len(found) < SORT_SLICE:
                    break
                first = found[-1][0] + 1
                await self._database.turns.take()

    # -- rights, quota, recoverable items -----------------------------------------------------------------------
    def acl(self, path: str) -> dict[str, Right]:
        """Address (or "anyone") -> rights, the owner not included. Needs ADMIN."""
        folder = self.folder(path)
        view = self._need(folder.fid, Right.ADMIN)
        return {grant.address: Right(grant.rights) for grant in view.grants.get(folder.fid, {}).values()
                if grant.rights}

    async def set_acl(self, path: str, who: UserId, address: str, rights: Right) -> None:
        """Give exactly these rights (none: remove). who: from the directory; model.ANYONE with address "anyone"."""
        folder = self.folder(path)
        self._need(folder.fid, Right.ADMIN)
        if folder.hidden or not who:
            raise StoreError(StoreCode.INVALID, "Rights cannot be given there")
        await self._database.submit(folders.grant(self.mailbox, folder.fid, who, address, rights))
        self._store.shared(self._database, self.mailbox)

    def my_rights(self, path: str) -> Right:
        """NO_FOLDER when it may not be looked up."""
        return self.folder(path).rights

    def quota(self) -> QuotaState:
        """Counters, no counting; limits as of the last time that the directory was asked."""
        view = self._view()
        limits = self._info.quota
        return QuotaState(view.octets, view.items, limits.warn, limits.send, limits.receive)

    async def _limits(self) -> Quota:
        self._info = await self._store.info(self.mailbox)
        return self._info.quota

    def recoverable(self) -> list[Deleted]:
        """What can be got back, newest deletion first. Owner (or administrator) only."""
        self._owner_only()
        return recover.listing(self._database, self._view())

    async def recover(self, ids: Iterable[int], target: Folder | None = None) -> list[Placed]:
        """Back to where it was (else to INBOX), or to target. ids: Deleted.id."""
        self._owner_only()
        quota = await self._limits()
        return await self._database.submit(recover.recover(self.mailbox, list(ids), target.fid if target else 0,
                                                           quota))

    async def purge_recoverable(self, ids: Iterable[int] | None = None) -> int:
        """Gone for good; how many. ids: Deleted.id; None: all."""
        self._owner_only()
        return await recover.purge(self._database, self.mailbox, None if ids is None else list(ids))

    def _owner_only(self) -> None:
        if not self.is_owner:
            raise no_right()

    def subscribe_changes(self, callback: Callable[[Notice], None]) -> Callable[[], None]:
        """Called after each commit that touched this mailbox, and once when the database goes; the result ends it."""
        self._view()
        return self._database.listen(self.mailbox, callback)

    # -- ids ----------------------------------------------------------------------------------------------------
    def copies(self, folder: Folder, lo: int, hi: int) -> dict[int, str]:
        """uid -> EMAILID of those of lo..hi that are copies: they keep that of their source [RFC 8474 §5.1]."""
        self._need(folder.fid, Right.READ)
        return {uid: f"M{email:x}-{of or self.tag}"
                for uid, email, of in self._database.reader.all(items.COPIES, (folder.fid, lo, hi))}

    def email_id(self, row: Row, copies: Mapping[int, str] = NO_COPIES) -> str:
        """EMAILID [RFC 8474 §5.1]; the same in all protocols. copies: see copies()."""
        return copies.get(row[0]) or f"M{row[4]:x}-{self.tag}"

    def thread_id(self, row: Row) -> str:
        """THREADID [RFC 8474 §5.2]."""
        return f"T{row[5]:x}-{self.tag}"


def _ignore(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
