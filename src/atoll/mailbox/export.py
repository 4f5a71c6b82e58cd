"""A mailbox whole, or what changed in it since a number: with ids, numbers, tombstones, keys, so that every client goes
on where it stood (moves between databases; not an archive for people).

In     a mounted database and a number (0: everything); records of an export.
Out    records in order; importing them is one unit of work each, and harmless to repeat.
Spec   ISLANDS 11.10 and 8 ("Move": snapshot, then "changes since N" until the rest is small); STORE 1: a move copies
       cn, ids, uids, fno and epochs. fid, mid and blob are local: records name folders by fno, contents by digest.
Fails  StoreError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from atoll.base.ids import MailboxId
from atoll.mailbox.blobs import CHUNK, encode
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import StoreCode, StoreError
from atoll.mailbox.folders import INSERT_FOLDER
from atoll.mailbox.memory import FOLDER_COLUMNS, MAILBOX_COLUMNS, MailboxMemory
from atoll.mailbox.model import MailboxState
from atoll.mailbox.tx import INSERT_BLOB, PUT_GRANT, Tx
from atoll.mailbox.uidls import PUT_UIDL
from atoll.sql.engine import Record

BATCH = 50
ITEM = ("i.uid, i.id, i.cn, i.cn_item, i.cn_body, i.flags, i.received, i.size, i.conv, i.kw, i.name,"
        " i.email, i.email_of")
META = "m.envelope, m.structure, m.preview, m.sort, m.props"
SMALL = {
    "epoch": "SELECT epoch, fork_cn FROM mailbox_epoch WHERE mid = ? ORDER BY epoch",
    "keyword": "SELECT no, name, colour FROM keyword WHERE mid = ? ORDER BY no",
    "subscription": "SELECT who, name FROM subscription WHERE mid = ? ORDER BY who, name",
}
LARGE = {
    "conversation": "SELECT conv, cn, items, last_received FROM conversation WHERE mid = ? AND conv > ? ORDER BY conv"
                    " LIMIT 500",
    "thread": "SELECT hash, conv FROM thread_key WHERE mid = ? AND hash > ? ORDER BY hash LIMIT 500",
    "uidl": "SELECT uidl, id FROM uidl WHERE mid = ? AND uidl > ? ORDER BY uidl LIMIT 500",
    "key": "SELECT k.key, f.fno, k.uid, k.id, k.at FROM delivery_key k JOIN folder f ON f.fid = k.fid WHERE k.mid = ?"
           " AND k.key > ? ORDER BY k.key LIMIT 500",
}
FIRST = {"conversation": -1, "thread": -(1 << 63), "uidl": "", "key": b""}
PUT = {
    "epoch": "INSERT INTO mailbox_epoch (mid, epoch, fork_cn) VALUES (?, ?, ?) ON CONFLICT (mid, epoch) DO NOTHING",
    "keyword": "INSERT INTO keyword (mid, no, name, colour) VALUES (?, ?, ?, ?) ON CONFLICT (mid, no) DO NOTHING",
    "subscription": "INSERT INTO subscription (mid, who, name) VALUES (?, ?, ?)"
                    " ON CONFLICT (mid, who, name) DO NOTHING",
    "uidl": PUT_UIDL,
    "conversation": "INSERT INTO conversation (mid, conv, cn, items, last_received) VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (mid, conv) DO UPDATE SET cn = excluded.cn, items = excluded.items,"
                    " last_received = excluded.last_received",
    "thread": "INSERT INTO thread_key (mid, hash, conv) VALUES (?, ?, ?) ON CONFLICT (mid, hash) DO NOTHING",
}


class Piece(msgspec.Struct, array_like=True):
    """One record of an export. kind: mailbox, folder, grant, seen, item, tomb, content, end, or a key of PUT."""

    kind: str
    rows: list[tuple[Any, ...]]
    fno: int = 0
    data: bytes = b""


async def export(database: MailboxDatabase, guid: MailboxId, since: int = 0) -> AsyncIterator[Piece]:
    """Everything, or what has a number above `since`. The number to go on from is in the last record ("end").

    Contents come before the items that name them. Each step is a short reading; what changes meanwhile has a number
    above the one at the beginning and comes with the next round.
    """
    reader = database.reader
    row = reader.one(f"SELECT {MAILBOX_COLUMNS} FROM mailbox WHERE guid = ?", (guid,))
    if row is None:
        raise StoreError(StoreCode.NO_FOLDER, "No such mailbox")
    mid, now = int(row[0]), int(row[2])
    yield Piece("mailbox", [row[1:]])
    for kind, text in SMALL.items():
        yield Piece(kind, reader.all(text, (mid,)))
    folders = reader.all(f"SELECT {FOLDER_COLUMNS} FROM folder WHERE mid = ? ORDER BY fno", (mid,))
    number = {folder[0]: folder[2] for folder in folders}
    yield Piece("folder", [(folder[2], number.get(folder[3], 0), *folder[4:]) for folder in folders])
    for folder in folders:
        async for piece in _folder(database, folder[0], folder[2], since):
            yield piece
    for kind, text in LARGE.items():
        after: Any = FIRST[kind]
        while rows := reader.all(text, (mid, after)):
            after = rows[-1][0]
            yield Piece(kind, rows)
    yield Piece("end", [(now,)])


async def _folder(database: MailboxDatabase, fid: int, fno: int, since: int) -> AsyncIterator[Piece]:
    reader = database.reader
    at = since
    while tombs := reader.all("SELECT cn, uid, id, received, to_fid, to_uid, name FROM tomb WHERE fid = ? AND cn > ?"
                              " ORDER BY cn LIMIT 500", (fid, at)):
        at = tombs[-1][0]
        yield Piece("tomb", tombs, fno)
    at = since
    while rows := reader.all(f"SELECT {ITEM}, b.digest, i.blob, {META} FROM item i CROSS JOIN item_meta m JOIN blob b"
                             " ON b.blob = i.blob WHERE m.place = i.fid * 4294967296 + i.uid AND i.fid = ? AND i.cn > ?"
                             " ORDER BY i.cn LIMIT ?", (fid, at, BATCH)):
        at = rows[-1][2]
        for row in rows:
            async for piece in _content(database, row):
                yield piece
        yield Piece("item", [(*row[:14], *row[15:]) for row in rows], fno)
    yield Piece("grant", reader.all("SELECT who, address, rights, cn_rights, cn_seen, subscribed, cn_sub, seen_items"
                                    " FROM folder_user WHERE fid = ? ORDER BY who", (fid,)), fno)
    yield Piece("seen", reader.all("SELECT who, uid, cn, seen FROM seen WHERE fid = ? AND cn > ? ORDER BY who, uid",
                                   (fid, since)), fno)


async def _content(database: MailboxDatabase, row: Record) -> AsyncIterator[Piece]:
    digest, blob, size = row[13], row[14], row[7]
    offset = 0
    while True:
        data = database.slices.read(blob, offset, CHUNK)
        yield Piece("content", [(digest, size, offset)], data=data)
        offset += CHUNK
        if offset >= size:
            return


class Importer:
    """Takes the records of an export, in order, into another database. `arriving` until `finish`."""

    def __init__(self, database: MailboxDatabase, guid: MailboxId) -> None:
        self._database = database
        self._guid = guid
        self._contents: dict[bytes, int] = {}
        self._state = int(MailboxState.ACTIVE)
        self.cn = 0
        """Go on from here: export(..., since=cn)."""

    async def take(self, piece: Piece) -> None:
        """One record, committed."""
        await self._database.submit(lambda tx: self._take(tx, piece))
        if piece.kind in ("mailbox", "folder", "grant", "keyword", "epoch"):
            self._database.reread()

    async def finish(self) -> None:
        """The mailbox is served here from now on."""
        def work(tx: Tx) -> None:
            mailbox = tx.mailbox(self._guid)
            mailbox.state = self._state
            tx.restructured(mailbox)
        await self._database.submit(work)
        self._database.reread()

    def _take(self, tx: Tx, piece: Piece) -> None:
        if piece.kind == "mailbox":
            self._mailbox(tx, piece.rows[0])
            return
        if piece.kind == "end":
            self.cn = piece.rows[0][0]
            return
        mailbox = tx.mailbox(self._guid)
        if piece.kind in PUT:
            tx.many(PUT[piece.kind], [(mailbox.mid, *row) for row in piece.rows])
            return
        fids = {folder.fno: folder.fid for folder in mailbox.folders.values()}
        does: dict[str, Callable[[Tx, MailboxMemory, Piece, dict[int, int]], None]] = {
            "folder": self._folders, "content": self._content, "item": self._items, "tomb": self._tombs,
            "grant": self._grants, "seen": self._seen, "key": self._keys}
        does[piece.kind](tx, mailbox, piece, fids)

    def _mailbox(self, tx: Tx, row: tuple[Any, ...]) -> None:
        self._state = row[8]
        found = tx.one("SELECT mid FROM mailbox WHERE guid = ?", (self._guid,))
        mid = found[0] if found is not None else tx.local("mid")
        tx.run(f"INSERT INTO mailbox ({MAILBOX_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
               " ON CONFLICT (guid) DO UPDATE SET cn = excluded.cn, uidv = excluded.uidv, fno_next = excluded.fno_next,"
               " items = excluded.items, bytes = excluded.bytes, bytes_recoverable = excluded.bytes_recoverable,"
               " conv_trim = excluded.conv_trim", (mid, *row[:8], int(MailboxState.ARRIVING), *row[9:]))

    @staticmethod
    def _folders(tx: Tx, mailbox: MailboxMemory, piece: Piece, fids: dict[int, int]) -> None:
        for row in piece.rows:
            if row[0] not in fids:
                fids[row[0]] = tx.local("fid")
                tx.run(INSERT_FOLDER, (fids[row[0]], mailbox.mid, row[0], 0, "", "", 0, 0, 0, 0, 0, 0, 0))
        tx.many("UPDATE folder SET parent = ?, name = ?, class = ?, wellknown = ?, hidden = ?, own_seen = ?, gone = ?,"
                " uidv = ?, uidnext = ?, recent_uid = ?, cn_born = ?, cn_props = ?, cn_high = ?, trim_cn = ?,"
                " total = ?, unread = ?, bytes = ?, deleted = ? WHERE fid = ?",
                [(fids.get(row[1], 0), *row[2:], fids[row[0]]) for row in piece.rows])

    def _content(self, tx: Tx, mailbox: MailboxMemory, piece: Piece, fids: dict[int, int]) -> None:
        digest, size, offset = piece.rows[0]
        if digest in self._contents and offset == 0:
            return
        codec, data = encode(piece.data)
        if size <= CHUNK:
            self._contents[digest] = blob = tx.local("blob")
            tx.run(INSERT_BLOB, (blob, digest, size, codec, 0, data))
            return
        if offset == 0:
            self._contents[digest] = blob = tx.local("blob")
            tx.run(INSERT_BLOB, (blob, digest, size, 0, -(-size // CHUNK), None))
        tx.run("INSERT INTO blob_chunk (blob, seq, codec, data) VALUES (?, ?, ?, ?) ON CONFLICT (blob, seq) DO NOTHING",
               (self._contents[digest], offset // CHUNK, codec, data))

    def _items(self, tx: Tx, mailbox: MailboxMemory, piece: Piece, fids: dict[int, int]) -> None:
        fid = fids[piece.fno]
        # an item that moved since the last round is still in its old folder here: its id is one item's only
        tx.many("DELETE FROM item_meta WHERE EXISTS (SELECT 1 FROM item i WHERE i.mid = ? AND i.id = ?"
                " AND item_meta.place = i.fid * 4294967296 + i.uid)", [(mailbox.mid, row[1]) for row in piece.rows])
        tx.many("DELETE FROM item WHERE mid = ? AND id = ?", [(mailbox.mid, row[1]) for row in piece.rows])
        tx.many("INSERT INTO item (fid, mid, blob, uid, id, cn, cn_item, cn_body, flags, received, size, conv, kw,"
                " name, email, email_of) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(fid, mailbox.mid, self._contents[row[13]], *row[:13]) for row in piece.rows])
        tx.many("INSERT INTO item_meta (place, envelope, structure, preview, sort, props)"
                " VALUES (?, ?, ?, ?, ?, ?)", [(fid << 32 | row[0], *row[14:]) for row in piece.rows])

    @staticmethod
    def _tombs(tx: Tx, mailbox: MailboxMemory, piece: Piece, fids: dict[int, int]) -> None:
        fid = fids[piece.fno]
        gone = [(fid, row[1], row[2]) for row in piece.rows]
        tx.many("DELETE FROM item_meta WHERE place = ? AND EXISTS (SELECT 1 FROM item i WHERE i.fid = ? AND i.uid = ?"
                " AND i.id = ?)", [(fid << 32 | uid, fid, uid, id_) for _, uid, id_ in gone])
        tx.many("DELETE FROM item WHERE fid = ? AND uid = ? AND id = ?", gone)
        tx.many("DELETE FROM seen WHERE fid = ? AND uid = ?", [(fid, row[1]) for row in piece.rows])
        # where it went to is a number of the old database: only "to a visible folder or not" is asked of it
        tx.many("INSERT INTO tomb (fid, cn, uid, mid, id, received, to_fid, to_uid, name) VALUES"
                " (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (fid, cn) DO NOTHING",
                [(fid, row[0], row[1], mailbox.mid, *row[2:]) for row in piece.rows])

    @staticmethod
    def _grants(tx: Tx, mailbox: MailboxMemory, piece: Piece, fids: dict[int, int]) -> None:
        tx.many(PUT_GRANT, [(fids[piece.fno], *row) for row in piece.rows])

    @staticmethod
    def _seen(tx: Tx, mailbox: MailboxMemory, piece: Piece, fids: dict[int, int]) -> None:
        tx.many("INSERT INTO seen (fid, who, uid, cn, seen) VALUES (?, ?, ?, ?, ?) ON CONFLICT (fid, who, uid)"
                " DO UPDATE SET cn = excluded.cn, seen = excluded.seen",
                [(fids[piece.fno], *row) for row in piece.rows])

    @staticmethod
    def _keys(tx: Tx, mailbox: MailboxMemory, piece: Piece, fids: dict[int, int]) -> None:
        tx.many("INSERT INTO delivery_key (mid, key, fid, uid, id, at) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (mid, key) DO NOTHING",
                [(mailbox.mid, row[0], fids.get(row[1], 0), *row[2:]) for row in piece.rows])
