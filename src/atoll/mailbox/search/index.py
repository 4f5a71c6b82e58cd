"""The search index: DB.search.sqlite, one document for each (mailbox, content).

In     batches of documents (text already extracted), word queries, substrings.
Out    sets of blob numbers.
Spec   ARCHITECTURE "Search", STORE 4; FTS5 with unicode61. docid = mid << 40 | blob: a mailbox is a range, and moves,
       copies, deletions and recoveries of an item need no new document.
Fails  SqlError; the owner throws the file away and builds it again.
Not    durable to the last commit (synchronous=NORMAL): what a crash loses is indexed again, because `born` is in the
       same transaction as the documents.

Every call is one statement that does its work in one step, so that it can run in a helper thread without fighting for
the interpreter lock (PERFORMANCE: never row by row in a thread).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import msgspec

from atoll.base.failpoints import FAILPOINTS
from atoll.sql import Broken, Connection, Database, Engine, SqlError

VERSION = 1
BLOB_BITS = 40
_BLOB_MASK = (1 << BLOB_BITS) - 1
FIELDS = ("subject", "from", "to", "cc", "bcc")

_SCHEMA = """
CREATE TABLE about (one INTEGER PRIMARY KEY, version INTEGER NOT NULL);
CREATE TABLE mailbox (mid INTEGER PRIMARY KEY, guid BLOB NOT NULL, born INTEGER NOT NULL);
CREATE TABLE doc (docid INTEGER PRIMARY KEY, subject TEXT, "from" TEXT, "to" TEXT, cc TEXT, bcc TEXT);
CREATE VIRTUAL TABLE words USING fts5 (header, body, content = '', contentless_delete = 1,
    tokenize = 'unicode61 remove_diacritics 2');
INSERT INTO words (words, rank) VALUES ('hashsize', 8388608);
INSERT INTO words (words, rank) VALUES ('automerge', 8);
"""
# hashsize: a whole batch is sorted in memory and written as one segment
_ADD_DOCS = ("INSERT OR IGNORE INTO doc SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4,"
             " value ->> 5 FROM json_each(?)")
# the long texts come as one string of octets and the places where they stand in it: JSON would be read twice
_ADD_WORDS = ("INSERT INTO words (rowid, header, body) SELECT value ->> 0,"
              " CAST(substr(?2, value ->> 1, value ->> 2) AS TEXT), CAST(substr(?2, value ->> 3, value ->> 4) AS TEXT)"
              " FROM json_each(?1)")

_numbers = msgspec.json.Decoder(list[int])


class Document(msgspec.Struct):
    """What is indexed of one content in one mailbox; field texts are case folded, NULL when absent."""

    docid: int
    subject: str | None
    from_: str | None
    to: str | None
    cc: str | None
    bcc: str | None
    header: str
    body: str


def docid(mid: int, blob: int) -> int:
    return mid << BLOB_BITS | blob


def blob_of(number: int) -> int:
    return number & _BLOB_MASK


def folded(text: str) -> str:
    """How exact substrings are compared: compatibility-neutral (NFC) and without case."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


class SearchIndex:
    """One file. All methods but the constructor run in the search thread."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine = engine
        self.path = path
        self._database = self._open()

    def _open(self) -> Database:
        try:
            return self._made(self._engine.open(self.path))
        except SqlError:
            self._unlink()
            return self._made(self._engine.open(self.path))

    def _unlink(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    @staticmethod
    def _made(database: Database) -> Database:
        """With its tables. Broken when it was made by another version: it is built again."""
        writer = database.writer
        writer.script("PRAGMA synchronous=NORMAL")
        if not writer.has_table("about"):
            writer.begin()
            writer.script(_SCHEMA)
            writer.run("INSERT INTO about VALUES (1, ?)", (VERSION,))
            _commit(writer)
        elif writer.one("SELECT version FROM about") != (VERSION,):
            database.close()
            raise Broken("made by another version")
        return database

    def rebuild(self) -> None:
        """Throw the file away; every mailbox starts at 0."""
        self._database.close()
        self._unlink()
        self._database = self._open()

    def born(self, mid: int, guid: bytes) -> int:
        """Items with ids up to here are indexed. A mailbox of another guid under this mid is forgotten."""
        row = self._database.writer.one("SELECT guid, born FROM mailbox WHERE mid = ?", (mid,))
        if row is not None and row[0] == guid:
            return int(row[1])
        if row is not None:
            self.forget_mailbox(mid)
        return 0

    def forget_mailbox(self, mid: int) -> None:
        """Its documents and its mark."""
        lo, hi = docid(mid, 0), docid(mid, _BLOB_MASK)
        writer = self._database.writer
        writer.begin()
        writer.run("DELETE FROM words WHERE rowid IN (SELECT docid FROM doc WHERE docid BETWEEN ? AND ?)", (lo, hi))
        writer.run("DELETE FROM doc WHERE docid BETWEEN ? AND ?", (lo, hi))
        writer.run("DELETE FROM mailbox WHERE mid = ?", (mid,))
        _commit(writer)

    def missing(self, docids: Sequence[int]) -> list[int]:
        """Those of these that have no document yet."""
        return self._list("SELECT json_group_array(j.value) FROM json_each(?) j WHERE NOT EXISTS"
                          " (SELECT 1 FROM doc d WHERE d.docid = j.value)", (_json(docids),))

    def add(self, documents: Sequence[Document], marks: Sequence[tuple[int, bytes, int]]) -> None:
        """One batch, and how far each of its mailboxes is indexed with it: (mid, guid, born).

        In the order of docid: at one that is lower than the one before, FTS5 writes a segment and begins another.
        """
        documents = sorted(documents, key=lambda document: document.docid)
        writer = self._database.writer
        writer.begin()
        try:
            if documents:
                writer.run(_ADD_DOCS, (msgspec.json.encode([
                    (one.docid, one.subject, one.from_, one.to, one.cc, one.bcc) for one in documents]).decode(),))
                writer.run(_ADD_WORDS, _words(documents))
            writer.many("INSERT INTO mailbox (mid, guid, born) VALUES (?, ?, ?) ON CONFLICT (mid) DO UPDATE"
                        " SET guid = excluded.guid, born = excluded.born", marks)
        except BaseException:
            writer.rollback()
            raise
        _commit(writer)
        if self._database.log_size() > (16 << 20):
            self._database.checkpoint(restart=True)  # failpoint: none, an index is made again from what it is of

    def forget_blobs(self, blobs: Sequence[int]) -> None:
        """Contents that were swept, in whatever mailbox."""
        writer = self._database.writer
        writer.begin()
        gone = self._list("SELECT json_group_array(d.docid) FROM mailbox m, json_each(?) j JOIN doc d"
                          f" ON d.docid = (m.mid << {BLOB_BITS}) + j.value", (_json(blobs),))
        packed = _json(gone)
        writer.run("DELETE FROM words WHERE rowid IN (SELECT value FROM json_each(?))", (packed,))
        writer.run("DELETE FROM doc WHERE docid IN (SELECT value FROM json_each(?))", (packed,))
        _commit(writer)

    def replace(self, documents: Sequence[Document], blob: int) -> None:
        """The documents of a content."""
        self.forget_blobs([blob])
        self.add(documents, ())

    def matching(self, mid: int, match: str) -> set[int]:
        """Blobs of a mailbox whose words match an FTS5 expression."""
        found = self._list("SELECT json_group_array(rowid) FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ?",
                           (match, docid(mid, 0), docid(mid, _BLOB_MASK)))
        return {value & _BLOB_MASK for value in found}

    def containing(self, mid: int, field: str, text: str) -> set[int]:
        """Blobs of a mailbox in whose field the folded text occurs; "" = the field is there."""
        assert field in FIELDS
        found = self._list(f'SELECT json_group_array(docid) FROM doc WHERE docid BETWEEN ? AND ? AND "{field}" IS NOT'
                           f' NULL AND instr("{field}", ?) > 0', (docid(mid, 0), docid(mid, _BLOB_MASK), text))
        return {value & _BLOB_MASK for value in found}

    def _list(self, text: str, values: Sequence[str | int]) -> list[int]:
        row = self._database.writer.one(text, values)
        return _numbers.decode(row[0]) if row is not None else []

    def close(self) -> None:
        self._database.close()


def _words(documents: Sequence[Document]) -> tuple[str, bytes]:
    """(JSON of [docid, place and length of its header, of its body] each, the octets)."""
    places: list[tuple[int, int, int, int, int]] = []
    pieces: list[bytes] = []
    at = 1
    for one in documents:
        header, body = one.header.encode(), one.body.encode()
        places.append((one.docid, at, len(header), at + len(header), len(body)))
        pieces += (header, body)
        at += len(header) + len(body)
    return msgspec.json.encode(places).decode(), b"".join(pieces)


def _commit(writer: Connection) -> None:
    if FAILPOINTS.active:
        FAILPOINTS.hit("mailbox.search.commit.before")
    writer.commit()
    if FAILPOINTS.active:
        FAILPOINTS.hit("mailbox.search.commit.after")


def _json(numbers: Sequence[int]) -> str:
    return msgspec.json.encode(list(numbers)).decode()


def expression(text: str, column: str = "") -> str | None:
    """The FTS5 expression of "these words next to each other, the last one cut"; None when there is no word."""
    if not any(_in_word(char) for char in text):
        return None
    quoted = text.replace('"', " ").replace("\0", " ")
    phrase = f'"{quoted}"'
    # a trailing separator ends the word: "foo " does not find "food"
    star = " *" if _in_word(quoted.rstrip('"')[-1:] or " ") else ""
    return f"{column} : {phrase}{star}" if column else f"{phrase}{star}"


def _in_word(char: str) -> bool:
    return unicodedata.category(char)[:1] in ("L", "N") or unicodedata.category(char) in ("Co",) if char else False
