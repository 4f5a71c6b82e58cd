"""`database check`: every content's digest, the rows' own consistency, the engine's structure; repair of the derivable.

In     a mounted database; repair: put right what other rows prove.
Out    Report: how much was looked at, each problem with where it is.
Spec   STORE 6; ARCHITECTURE "Integrity". Mail goes on meanwhile: the readings are of one snapshot each.
Not    a repair of lost content: those messages are named and every other one is served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from atoll.formats.mime import scan
from atoll.mailbox import blobs
from atoll.mailbox.check import CONVERSATIONS, COUNTERS, NUMBERS, QUOTA
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.errors import StoreError
from atoll.mailbox.place import sort_keys
from atoll.mailbox.tx import INSERT_META, Tx
from atoll.sql import Connection, Lost, SqlError

BATCH = 50
MAX_PROBLEMS = 10_000


@dataclass(frozen=True, slots=True)
class Problem:
    """kind: page, lost, structure, content, counter, conversation or number."""

    kind: str
    where: str
    text: str
    repaired: bool = False


@dataclass(slots=True)
class Report:
    """checked: how many contents, items, folders were looked at."""

    checked: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def found(self, kind: str, where: str, text: str, *, repaired: bool = False) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(kind, where, text, repaired))


async def check(database: MailboxDatabase, *, repair: bool = False) -> Report:
    """Look at everything."""
    report = Report()
    loop = asyncio.get_running_loop()
    helper = database.helper
    broken = await loop.run_in_executor(helper, database.database.broken_pages)
    for page in broken:
        report.found("page", f"page {page}", "its checksum is wrong: it is not read any more")
    if broken:
        try:
            for lost in await loop.run_in_executor(helper, database.database.unreadable):
                report.found("lost", *_stretch(lost))
        except SqlError as error:
            report.found("lost", "the list of tables", str(error))
    for fault in await loop.run_in_executor(helper, database.database.structure_errors):
        report.found("structure", database.name, fault)
    await _contents(database, report)
    await _rows(database, report)
    if repair and report.problems and not broken:  # else the file is made anew first: backup.rebuild_database
        await _repair(database, report)
    return report


async def _contents(database: MailboxDatabase, report: Report) -> None:
    loop = asyncio.get_running_loop()
    after = 0
    report.checked["contents"] = report.checked["items"] = 0
    while True:
        step = await loop.run_in_executor(database.helper, _content_batch, database.database.helper, after)
        after, looked, problems = step
        report.checked["contents"] += looked
        for problem in problems:
            report.found("content", *problem)
        if looked < BATCH:
            return


def _stretch(lost: Lost) -> tuple[str, str]:
    """Which rows a stretch of keys is, for a person."""
    end = "the end" if lost.before is None else ", ".join(map(str, lost.before))
    names = {"item": "messages (folder, uid)", "item_meta": "listings (folder * 2^32 + uid)", "blob": "contents",
             "blob_chunk": "contents", "folder": "folders", "mailbox": "mailboxes"}
    start = ", ".join(map(str, lost.after)) or "the start"
    return names.get(lost.table, lost.table), f"behind {start} up to {end}"


def _content_batch(connection: Connection, after: int) -> tuple[int, int, list[tuple[str, str]]]:
    """The next BATCH contents: (last number, how many, [(where, what)]); in the helper thread."""
    problems: list[tuple[str, str]] = []
    try:
        rows = connection.all("SELECT blob, digest FROM blob WHERE blob > ? ORDER BY blob LIMIT ?", (after, BATCH))
    except SqlError:
        return _one_by_one(connection, after)
    for blob, digest in rows:
        after = blob
        try:
            if blobs.digest_of(blobs.read(connection, blob)) != digest:
                problems.append((_who(connection, blob), "the content is not what was stored"))
        except StoreError as error:
            problems.append((_who(connection, blob), error.detail))
        except SqlError as error:
            problems.append((_who(connection, blob), str(error)))
    return after, len(rows), problems


def _one_by_one(connection: Connection, after: int) -> tuple[int, int, list[tuple[str, str]]]:
    """The same where a page of the list itself cannot be read: those that a message is of."""
    problems: list[tuple[str, str]] = []
    try:
        numbers = [int(blob) for (blob,) in connection.all(
            "SELECT DISTINCT blob FROM item WHERE blob > ? ORDER BY blob LIMIT ?", (after, BATCH))]
    except SqlError as error:
        return after, 0, [(f"contents behind {after}", f"neither they nor what they are of can be read: {error}")]
    for blob in numbers:
        try:
            row = connection.one("SELECT digest FROM blob WHERE blob = ?", (blob,))
            if row is not None and blobs.digest_of(blobs.read(connection, blob)) != row[0]:
                problems.append((_who(connection, blob), "the content is not what was stored"))
        except StoreError as error:
            problems.append((_who(connection, blob), error.detail))
        except SqlError as error:
            problems.append((_who(connection, blob), str(error)))
    return numbers[-1] if numbers else after, len(numbers), problems


def _who(connection: Connection, blob: int) -> str:
    """The messages that a content belongs to, for a person."""
    try:
        rows = connection.all("SELECT f.name, i.uid FROM item i JOIN folder f ON f.fid = i.fid WHERE i.blob = ?"
                              " ORDER BY i.fid, i.uid LIMIT 5", (blob,))
    except SqlError:
        rows = []
    return f"content {blob} ({', '.join(f'{name} uid {uid}' for name, uid in rows) or 'no message'})"


async def _rows(database: MailboxDatabase, report: Report) -> None:
    loop = asyncio.get_running_loop()

    def ask(text: str) -> list[tuple[object, ...]] | SqlError:
        try:
            return database.database.helper.all(text)
        except SqlError as error:
            return error

    for kind, sentence, text, judge in (
            ("counter", "folder counters", COUNTERS, _counted(4)), ("counter", "mailbox counters", QUOTA, _counted(3)),
            ("conversation", "conversation members", CONVERSATIONS, lambda row: True),
            *(("number", sentence, text, lambda row: True) for sentence, text in NUMBERS)):
        found = await loop.run_in_executor(database.helper, ask, text)
        if isinstance(found, SqlError):
            report.found("structure", sentence, str(found))
            continue
        if text is COUNTERS:
            report.checked["folders"] = len(found)
            report.checked["items"] = sum(int(str(row[5])) for row in found)
        for row in found:
            if judge(row):
                report.found(kind, f"{row[0]}, {row[1]}", f"{sentence}: {row}")


def _counted(width: int) -> Callable[[tuple[object, ...]], bool]:
    return lambda row: [int(str(value)) for value in row[1:1 + width]] != [int(str(value)) for value in row[1 + width:]]


async def _repair(database: MailboxDatabase, report: Report) -> None:
    """Counters from rows, cold halves from contents; then what is in memory is read anew."""
    fixed = await database.submit(_recount)
    after = -1
    while rows := database.reader.all(
            "SELECT i.fid * 4294967296 + i.uid, i.blob FROM item i"
            " LEFT JOIN item_meta c ON c.place = i.fid * 4294967296 + i.uid WHERE c.place IS NULL"
            " AND (i.fid, i.uid) > (?, ?) ORDER BY i.fid, i.uid LIMIT 100", (after >> 32, after & 0xFFFFFFFF)):
        await database.submit(_remake(database.reader, [(place, blob) for place, blob in rows]))
        after = rows[-1][0]
    while await database.submit(_forget_listings):
        pass
    database.reread()
    again = Report()
    await _rows(database, again)
    left = {(problem.kind, problem.where) for problem in again.problems}
    report.problems = [replace(problem, repaired=problem.kind not in ("page", "lost", "structure", "content")
                               and (problem.kind, problem.where) not in left) for problem in report.problems]
    report.checked["recounted"] = fixed


def _recount(tx: Tx) -> int:
    fixed = 0
    for row in tx.all(COUNTERS):
        if _counted(4)(row):
            tx.run("UPDATE folder SET total = ?, unread = ?, bytes = ?, deleted = ? WHERE fid = ?",
                   (*(int(value) for value in row[5:9]), row[0]))
            fixed += 1
    for row in tx.all(QUOTA):
        if _counted(3)(row):
            tx.run("UPDATE mailbox SET items = ?, bytes = ?, bytes_recoverable = ? WHERE mid = ?",
                   (*(int(value) for value in row[4:7]), row[0]))
            fixed += 1
    for mid, conv, _, counted in tx.all(CONVERSATIONS):
        fixed += tx.run("UPDATE conversation SET items = ? WHERE mid = ? AND conv = ?", (int(counted), mid, conv))
    tx.run("UPDATE folder SET cn_high = (SELECT max(i.cn) FROM item i WHERE i.fid = folder.fid)"
           " WHERE cn_high < (SELECT max(i.cn) FROM item i WHERE i.fid = folder.fid)")
    tx.run("UPDATE folder SET uidnext = (SELECT max(i.uid) + 1 FROM item i WHERE i.fid = folder.fid)"
           " WHERE uidnext <= (SELECT max(i.uid) FROM item i WHERE i.fid = folder.fid)")
    tx.run("UPDATE mailbox SET cn = (SELECT max(f.cn_high) FROM folder f WHERE f.mid = mailbox.mid)"
           " WHERE cn < (SELECT max(f.cn_high) FROM folder f WHERE f.mid = mailbox.mid)")
    return fixed


def _remake(reader: Connection, missing: list[tuple[int, int]]) -> Callable[[Tx], Generator[None, None, None]]:
    """Listings of messages at these places, of these contents."""
    def work(tx: Tx) -> Generator[None, None, None]:
        for place, blob in missing:
            with suppress(StoreError):
                scanned = scan(blobs.read(reader, blob))
                tx.run(INSERT_META, (place, scanned.envelope, scanned.structure, scanned.preview, sort_keys(scanned)))
            yield
    return work


def _forget_listings(tx: Tx) -> int:
    """Those of no message; how many."""
    rows = tx.all("SELECT c.place FROM item_meta c LEFT JOIN item i ON i.fid = c.place / 4294967296"
                  " AND i.uid = c.place % 4294967296 WHERE i.fid IS NULL ORDER BY c.place LIMIT 1000")
    tx.many("DELETE FROM item_meta WHERE place = ?", rows)
    return len(rows)
