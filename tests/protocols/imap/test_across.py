"""COPY and MOVE between two people's mailboxes: of one database, of two, of two processes; in either direction."""

from __future__ import annotations

import re

import pytest

from atoll.directory.client.model import Quota
from atoll.directory.server.auth import hashes
from tests.directory.conftest import PASSWORD
from tests.protocols.imap.conftest import MESSAGES, Client, Site

OWNERS = ("carol", "dave", "bob")
"""alice's colleagues: in her database, in another database of her process, in another process."""
BINARY = b"Subject: nul\r\n\r\n\0\0\r\n"


@pytest.fixture
async def colleagues(site: Site) -> Site:
    await site.house.parts.register.add_database("db3", "mailbox-1", "here")
    await site.house.parts.register.create_mailbox("dave@example.test", display="Dave", database="db3",
                                                   hash_=hashes.make(PASSWORD))
    await site.one.store.mount("db3", site.folder / "db3.sqlite")
    return site


async def shared(site: Site, owner: str, rights: bytes = b"lrswite") -> Client:
    """owner shares the folder Team with alice; the owner's session."""
    client = await site.sign_in(owner.encode())
    await client.ok(b"CREATE Team")
    await client.ok(b"SETACL Team alice@example.test " + rights)
    return client


def team(owner: str) -> bytes:
    return b'"Other Users/%b@example.test/Team"' % owner.encode()


async def emails(client: Client, uids: bytes = b"1:*") -> list[bytes]:
    return re.findall(rb"EMAILID \((\S+)\)", b"".join(await client.ok(b"UID FETCH %b EMAILID" % uids)))


def code(found: list[bytes]) -> bytes:
    said = re.search(rb"\[COPYUID (\d+ \S+ \S+)\]", b"".join(found))
    assert said, found
    return said[1]


async def uid_validity(client: Client, name: bytes) -> bytes:
    said = re.search(rb"UIDVALIDITY (\d+)", b"".join(await client.ok(b"STATUS %b (UIDVALIDITY)" % name)))
    assert said
    return said[1]


@pytest.mark.parametrize("owner", OWNERS)
async def test_copy_there_and_back(colleagues: Site, owner: str) -> None:
    await colleagues.put(*MESSAGES, BINARY)
    theirs = await shared(colleagues, owner)
    alice = await colleagues.sign_in()
    await alice.ok(b"SELECT INBOX")
    await alice.ok(b"STORE 2 FLAGS.SILENT (\\Flagged \\Seen mine)")
    found = await alice.ask(b"COPY 2:4 " + team(owner))
    assert code(found) == b"%b 2:4 1:3" % await uid_validity(alice, team(owner))
    assert b" OK " in found[-1]
    await theirs.ok(b"SELECT Team")
    row = b"".join(await theirs.ok(b"FETCH 1 (FLAGS INTERNALDATE BODY.PEEK[])"))
    assert MESSAGES[1] in row
    assert b'INTERNALDATE "15-Nov-2023 22:13:20 +0000"' in row
    assert {b"\\Flagged", b"\\Seen", b"mine"} <= set(re.search(rb"FLAGS \(([^)]*)", row)[1].split())  # type: ignore[index]
    assert BINARY in b"".join(await theirs.ok(b"FETCH 3 BODY.PEEK[]"))
    assert await emails(theirs) == await emails(alice, b"2:4")
    # and back: the selected mailbox is the other one
    await alice.ok(b"SELECT " + team(owner))
    found = await alice.ask(b"UID COPY 2,1 Archive")
    assert code(found) == b"%b 1:2 1:2" % await uid_validity(alice, b"Archive")
    await alice.ok(b"SELECT Archive")
    assert MESSAGES[2] in b"".join(await alice.ok(b"FETCH 2 BODY.PEEK[]"))
    assert await emails(alice) == (await emails(theirs))[:2]
    await alice.ok(b"SELECT INBOX")
    assert b"* 4 EXISTS\r\n" in await alice.ok(b"SELECT INBOX")


@pytest.mark.parametrize("owner", OWNERS)
async def test_move_there_and_back(colleagues: Site, owner: str) -> None:
    await colleagues.put(*MESSAGES)
    theirs = await shared(colleagues, owner)
    alice = await colleagues.sign_in()
    await alice.ok(b"SELECT INBOX")
    before = await emails(alice)
    found = await alice.ask(b"MOVE 1:2 " + team(owner))
    assert re.fullmatch(rb"\* OK \[COPYUID \d+ 1:2 1:2\] Moved\r\n", found[0]), found  # before the EXPUNGEs
    assert found[1:3] == [b"* 2 EXPUNGE\r\n", b"* 1 EXPUNGE\r\n"]
    await theirs.ok(b"SELECT Team")
    assert await emails(theirs) == before[:2]
    assert len((await colleagues.access()).recoverable()) == 2  # the owner can get back what somebody moved away
    await alice.ok(b"SELECT " + team(owner))
    found = await alice.ask(b"UID MOVE 1 Archive")
    assert code(found).endswith(b" 1 1")
    assert b"* 1 EXPUNGE\r\n" in found
    assert b"".join(await theirs.ok(b"NOOP")).count(b"EXPUNGE") == 1
    await alice.ok(b"SELECT Archive")
    assert await emails(alice) == before[:1]


@pytest.mark.parametrize("owner", OWNERS)
async def test_each_mailbox_decides_for_itself(colleagues: Site, owner: str) -> None:
    await colleagues.put(*MESSAGES)
    theirs = await shared(colleagues, owner, b"lr")
    alice = await colleagues.sign_in()
    await alice.ok(b"SELECT INBOX")
    for command in (b"COPY", b"MOVE"):
        assert b" NO [NOPERM] " in (await alice.ask(command + b" 1 " + team(owner)))[-1]
        assert b" NO [TRYCREATE] " in (await alice.ask(command + b" 1 " + team(owner).replace(b"Team", b"None")))[-1]
    await theirs.ok(b"APPEND Team {%d+}\r\n%b" % (len(MESSAGES[0]), MESSAGES[0]))
    await alice.ok(b"SELECT " + team(owner))
    assert b" NO [" in (await alice.ask(b"MOVE 1 Archive"))[-1]  # no right to take away
    assert b" OK [COPYUID " in (await alice.ask(b"COPY 1 Archive"))[-1]
    assert b" NO [TRYCREATE] " in (await alice.ask(b"COPY 1 Nowhere"))[-1]
    assert b"MESSAGES 1" in (await alice.ok(b"STATUS Archive (MESSAGES)"))[0]
    assert b"MESSAGES 1" in (await theirs.ok(b"STATUS Team (MESSAGES)"))[0]
    assert b"MESSAGES 3" in (await alice.ok(b"STATUS INBOX (MESSAGES)"))[0]


@pytest.mark.parametrize("owner", OWNERS)
async def test_the_quota_of_the_target(colleagues: Site, owner: str) -> None:
    """All or none, and the source keeps what could not be moved."""
    await colleagues.put(*MESSAGES)
    await shared(colleagues, owner)
    register = colleagues.house.parts.register
    await register.change_mailbox(f"{owner}@example.test", quota=Quota(receive=len(MESSAGES[0]) + len(MESSAGES[1])))
    alice = await colleagues.sign_in()
    await alice.ok(b"SELECT INBOX")
    for command in (b"COPY", b"MOVE"):
        assert b" NO [OVERQUOTA] " in (await alice.ask(command + b" 1:* " + team(owner)))[-1]
        assert b"MESSAGES 0" in (await alice.ok(b"STATUS %b (MESSAGES)" % team(owner)))[0]
    assert b"MESSAGES 3" in (await alice.ok(b"STATUS INBOX (MESSAGES)"))[0]
    assert b" OK " in (await alice.ask(b"MOVE 1:2 " + team(owner)))[-1]


@pytest.mark.parametrize("owner", OWNERS)
async def test_many_are_all_or_none(colleagues: Site, owner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a batch."""
    monkeypatch.setattr("atoll.mailbox.across.BATCH", 2)
    await colleagues.put(*MESSAGES, *MESSAGES, MESSAGES[0])
    await shared(colleagues, owner)
    alice = await colleagues.sign_in()
    await alice.ok(b"SELECT INBOX")
    await alice.ok(b"STORE 4 +FLAGS.SILENT (\\Deleted)")
    await alice.ok(b"EXPUNGE")
    assert code(await alice.ask(b"UID COPY 1:7 " + team(owner))).endswith(b" 1:3,5:7 1:6")
    assert code(await alice.ask(b"UID COPY 7 " + team(owner))).endswith(b" 7 7")  # nothing was left behind of before
    assert code(await alice.ask(b"UID MOVE 2:* " + team(owner))).endswith(b" 2:3,5:7 8:12")
    assert b"MESSAGES 1" in (await alice.ok(b"STATUS INBOX (MESSAGES)"))[0]


async def test_the_target_in_a_third_process_is_found(colleagues: Site) -> None:
    """bob's folder (mailbox-2) is selected by alice (mailbox-1), the target is carol's (mailbox-1)."""
    await colleagues.put(*MESSAGES, name="bob")
    bob = await colleagues.sign_in(b"bob")
    await bob.ok(b"SETACL INBOX alice@example.test lrte")
    await shared(colleagues, "carol")
    alice = await colleagues.sign_in()
    await alice.ok(b'SELECT "Other Users/bob@example.test/INBOX"')
    assert code(await alice.ask(b"COPY 1:2 " + team("carol"))).endswith(b" 1:2 1:2")
    assert code(await alice.ask(b"MOVE 3 " + team("carol"))).endswith(b" 3 3")
    assert b"MESSAGES 3" in (await alice.ok(b"STATUS %b (MESSAGES)" % team("carol")))[0]


async def test_the_words_between_processes_are_not_for_clients(site: Site) -> None:
    alice = await site.sign_in()
    for words in (b"FIRST ", b"MORE ", b"LAST ", b"EMAILID M1-aaaaaaaa "):
        assert b" BAD " in (await alice.ask(b"APPEND INBOX %b{1+}\r\nx" % words))[-1]
    assert b"MESSAGES 0" in (await alice.ok(b"STATUS INBOX (MESSAGES)"))[0]
