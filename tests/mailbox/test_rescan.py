"""Messages that were not looked into are looked at again when the parser was mended, as new messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from atoll.base.version import __version__
from atoll.content import ContentClient, ContentError, Scanner
from atoll.formats.mime import scan, search_text
from atoll.mailbox import Access, Content, Delivery, Flag, NewMessage, Right, Store, Want
from atoll.mailbox.check import faults
from atoll.mailbox.opaque import TEXT
from atoll.mailbox.query import All, Body, Text
from atoll.mailbox.rescan import Rescan
from atoll.mailbox.tx import Tx
from atoll.mailbox.uidset import UidSet
from atoll.mailbox.upkeep import sweep
from atoll.sql.sqlite import SqliteEngine
from tests.postgres import chosen_engine

from .kit import ALICES, BOB, BOBS, T0, Directory, StillClock, content

BODY = (b"--b\r\nContent-Type: text/plain\r\n\r\nneedle in a haystack\r\n" + b"hay\r\n" * 120_000
        + b"--b\r\nContent-Type: application/pdf; name=\"bill.pdf\"\r\n\r\nPDF\r\n--b--\r\n")
BOMB = (b"From: Mallory <m@example.test>\r\nSubject: bomb\r\nMessage-ID: <bomb@example.test>\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + BODY)


class Parser(ContentClient):
    """The content role, broken by everything until it is mended. (Its processes are the matter of tests/content.)"""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        self.fails = "refused"
        self.asked: list[str] = []

    async def _ask(self, job: str, data: bytes) -> Any:
        self.asked.append(job)
        if self.fails:
            raise ContentError(self.fails)
        return {"scan": scan, "text": search_text}[job](data)


@pytest.fixture
def parser() -> Parser:
    return Parser()


@pytest.fixture
async def store(tmp_path: Path, directory: Directory, clock: StillClock, parser: Parser) -> AsyncIterator[Store]:
    store = Store(chosen_engine(), directory.mailbox, directory, search_engine=SqliteEngine(), clock=clock,
                  scanner=Scanner(parser))
    await store.mount("db1", tmp_path / "db1.sqlite")
    yield store
    await store.close()


async def arrive(store: Store, parser: Parser, *mailboxes: bytes) -> None:
    arrived = Content(BOMB, await Scanner(parser).scan(BOMB))
    await store.deliver([Delivery(mailbox, "INBOX", arrived, T0, b"", limited=False)  # type: ignore[arg-type]
                         for mailbox in mailboxes])


def rescan(store: Store, parser: Parser, version: str) -> Rescan:
    database = store.database("db1")
    return Rescan(database, store.feed(database), Scanner(parser), version)


def rows(access: Access, path: str = "INBOX") -> list[Any]:
    return list(access.rows(access.folder(path), 1, 1000, Want.META))


def marks(store: Store) -> list[tuple[int, str]]:
    return [(what, version) for what, version in
            store.database("db1").reader.all("SELECT what, version FROM opaque ORDER BY blob")]


async def test_a_message_that_can_be_read_now_is_a_new_one(store: Store, parser: Parser, alice: Access) -> None:
    await arrive(store, parser, ALICES)
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [NewMessage(content("Re: bomb", references="<bomb@example.test>"), T0)])
    await alice.flags(inbox, UidSet.of([1]), "+", Flag.FLAGGED | Flag.SEEN, frozenset({"$Work"}))
    assert await alice.search(inbox, Body("needle")) == []
    assert await alice.search(inbox, Text("bomb")) == [1, 2]
    old, reply = rows(alice)
    assert b'"octet-stream"' in old.structure
    inbox = alice.folder("INBOX")
    _, token = alice.email_changes("", 100)
    while (more := alice.email_changes(token, 100))[1] != token:
        token = more[1]
    parser.fails = ""
    done = await rescan(store, parser, __version__).due()
    assert (done.looked, done.mended) == (0, 0)  # this version has tried it
    done = await rescan(store, parser, "99").due()
    assert (done.looked, done.mended, done.refused, done.left) == (1, 1, 0, 0)
    same, new = rows(alice)
    assert (same, new.uid) == (reply, 3)
    assert new.structure == scan(BOMB).structure
    assert new.envelope == old.envelope == scan(BOMB).envelope
    assert [(row.flags, row.kw, row.received, row.size, row.conv) for row in (new,)] == [
        (old.flags, old.kw, old.received, old.size, old.conv)]
    assert alice.email_id(new) != alice.email_id(old)
    after = alice.folder("INBOX")
    assert (after.total, after.unread, after.bytes) == (inbox.total, inbox.unread, inbox.bytes)
    assert after.cn_high > inbox.cn_high
    change = alice.changes(after, inbox.cn_high)
    assert ([row.uid for row in change.changed], list(change.vanished)) == ([3], [1])
    assert await alice.search(inbox, Body("needle")) == [3]
    assert await alice.search(inbox, Text("bomb")) == [2, 3]
    told, _ = alice.email_changes(token, 100)
    assert (list(told.created), list(told.destroyed)) == ([new.id], [old.id])
    assert faults(store.database("db1").reader) == []
    assert marks(store) == []


async def test_everybody_who_has_it_and_their_own_read_states(store: Store, parser: Parser, alice: Access) -> None:
    await arrive(store, parser, ALICES, BOBS)
    await alice.copy(alice.folder("INBOX"), UidSet.of([1]), alice.folder("Archive"))
    await alice.set_acl("Archive", BOB, "bob@example.test", Right.LOOKUP | Right.READ)
    shared = await store.open(ALICES, BOB)
    await shared.flags(shared.folder("Archive"), UidSet.of([1]), "+", Flag.SEEN)
    await alice.append(alice.folder("INBOX"), [NewMessage(content("gone"), T0)])
    parser.fails = ""
    assert (await rescan(store, parser, "99").due()).mended == 1
    bob = await store.open(BOBS, BOB)
    whole = scan(BOMB).structure
    for access, path, uid in ((alice, "INBOX", 3), (alice, "Archive", 2), (bob, "INBOX", 2), (shared, "Archive", 2)):
        row = rows(access, path)[-1]
        assert (row.uid, row.structure) == (uid, whole)
    assert rows(shared, "Archive")[0].flags & Flag.SEEN
    assert not rows(alice, "Archive")[0].flags & Flag.SEEN
    assert shared.folder("Archive").unread == 0
    assert (await alice.uidls())[rows(alice)[-1].id] == f"{alice.folder('INBOX').uidv}.1"  # POP3 has fetched it
    assert await bob.search(bob.folder("INBOX"), Body("needle")) == [2]
    assert faults(store.database("db1").reader) == []


async def test_what_fails_again_is_tried_once_by_each_version(store: Store, parser: Parser, alice: Access) -> None:
    await arrive(store, parser, ALICES)
    await alice.search(alice.folder("INBOX"), All())
    before = rows(alice)
    asked = len(parser.asked)
    for _ in range(3):
        done = await rescan(store, parser, "99").due()
    assert (done.looked, len(parser.asked)) == (0, asked + 1)
    assert marks(store)[0][1] == "99"
    assert rows(alice) == before
    assert (await rescan(store, parser, "99").all()).refused == 1  # somebody asks for it
    parser.fails = "temporary"
    done = await rescan(store, parser, "100").due()
    assert (done.looked, done.left, marks(store)[0][1]) == (0, 1, "99")  # not its fault
    parser.fails = ""
    assert (await rescan(store, parser, "100").due()).mended == 1


async def test_after_a_refusal_the_rest_waits_for_the_next_round(store: Store, parser: Parser, alice: Access) -> None:
    for number in range(3):
        data = BOMB + b"%d" % number
        arrived = Content(data, await Scanner(parser).scan(data))
        await alice.append(alice.folder("INBOX"), [NewMessage(arrived, T0)])
    again = rescan(store, parser, "99")
    looks = [await again.due() for _ in range(4)]
    assert [one.looked for one in looks] == [1, 1, 1, 0]
    assert (await again.all()).refused == 3


async def test_a_text_that_was_refused_alone_changes_the_index_only(store: Store, parser: Parser, alice: Access
                                                                   ) -> None:
    parser.fails = ""
    arrived = Content(BOMB, await Scanner(parser).scan(BOMB))
    parser.fails = "refused"
    await alice.append(alice.folder("INBOX"), [NewMessage(arrived, T0)])
    assert await alice.search(alice.folder("INBOX"), Body("needle")) == []
    assert [what for what, _ in marks(store)] == [TEXT]
    before = rows(alice)
    parser.fails = ""
    assert (await rescan(store, parser, "99").due()).mended == 1
    assert await alice.search(alice.folder("INBOX"), Body("needle")) == [1]
    assert rows(alice) == before
    assert marks(store) == []


async def test_upkeep_does_it_and_sweeps_the_mark(store: Store, parser: Parser, alice: Access, clock: StillClock,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    await arrive(store, parser, ALICES)
    await store.database("db1").submit(older)
    parser.fails = ""
    await store._upkeep["db1"].round()
    assert marks(store) == []
    assert [row.uid for row in rows(alice)] == [2]


def older(tx: Tx) -> None:
    tx.run("UPDATE opaque SET version = '0.0.1'")


async def test_the_mark_goes_with_the_content(store: Store, parser: Parser, alice: Access, clock: StillClock) -> None:
    await arrive(store, parser, ALICES)
    await alice.expunge(alice.folder("INBOX"), UidSet.of([1]), only_deleted=False)
    await alice.purge_recoverable()
    clock.ms += 2 * 3_600_000
    await store.database("db1").submit(sweep(store.database("db1"), clock.ms - 3_600_000, lambda blobs: None))
    assert marks(store) == []
