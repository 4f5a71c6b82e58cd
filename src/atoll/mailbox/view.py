"""Who one person is to one mailbox: rights, whose read state counts, how its folders look to him.

In     a mounted database, what the directory says of the mailbox, a person.
Out    the base of Access: each of its methods asks here first.
Spec   RFC 4314 §4 and §5.1.1; RFC 8474 (object ids).
Fails  StoreError: "no right" and "no folder" read alike to whoever may not look.

Read state is common to all readers of a mailbox, as in Exchange. Two cases keep it per person: folders marked
own_seen, and every folder that somebody reads through an ACL without the right "s": he may not change the common
state, so he has his own [RFC 4314 §5.1.1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from atoll.base.ids import MailboxId, UserId
from atoll.directory.client.model import MailboxInfo
from atoll.mailbox import items
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import no_folder, no_right, unavailable
from atoll.mailbox.memory import FolderState, MailboxMemory
from atoll.mailbox.model import ANYONE, Folder, Right, Row, WellKnown
from atoll.mailbox.query import tag_of
from atoll.mailbox.search.feed import SearchFeed

OWNER = UserId(b"")
"""Stands for the owner in rows of folder_user, whoever that is."""
NO_COPIES: Mapping[int, str] = {}


class Home(Protocol):
    """What an Access asks of the Store that made it."""

    async def info(self, mailbox: MailboxId) -> MailboxInfo:
        """What the directory says now."""

    def feed(self, database: MailboxDatabase) -> SearchFeed:
        """The search index of a mounted database."""

    def shared(self, database: MailboxDatabase, mailbox: MailboxId) -> None:
        """Rights in a mailbox were given or taken."""


class Viewer:
    """One person on one mailbox; see Access."""

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
