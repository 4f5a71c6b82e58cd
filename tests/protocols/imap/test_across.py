"""COPY and MOVE between two people's mailboxes: of one database, of two, of two processes; in either direction."""

from __future__ import annotations

import asyncio
import dataclasses
import re

import pytest

from atoll.directory.client.model import Quota
from atoll.directory.server.auth import hashes
from atoll.mailbox.shares import ShareWatch
from atoll.protocols.imap import remote
from atoll.protocols.imap.commands import list as list_
from atoll.protocols.imap.wire import utf7
from tests.directory.conftest import PASSWORD
from tests.eventually import eventually
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


async def test_what_waits_for_the_rest_is_bounded(colleagues: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One COPY into another process, and all of them together."""
    monkeypatch.setattr("atoll.mailbox.across.BATCH", 1)
    await colleagues.put(*MESSAGES)
    await shared(colleagues, "bob")
    alice = await colleagues.sign_in()
    await alice.ok(b"SELECT INBOX")
    server = colleagues.two.server
    octets = len(MESSAGES[0]) + len(MESSAGES[1])
    for limits in ({"append_command": octets - 1}, {"in_flight": octets - 1}):
        monkeypatch.setattr(server, "limits", dataclasses.replace(colleagues.limits, **limits))
        assert b" NO [LIMIT] " in (await alice.ask(b"COPY 1:3 " + team("bob")))[-1]
        assert server.held == 0
    limits = {"append_command": octets, "in_flight": octets}
    monkeypatch.setattr(server, "limits", dataclasses.replace(colleagues.limits, **limits))
    assert code(await alice.ask(b"COPY 1:3 " + team("bob"))).endswith(b" 1:3 1:3")
    assert server.held == 0


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


async def listed(client: Client, command: bytes) -> dict[bytes, bytes]:
    """Name -> attributes; a name twice is a fault."""
    found = [re.fullmatch(rb'\* (?:LIST|LSUB) \(([^)]*)\) "/" "?([^"\r]*)"?\r\n', line)
             for line in await client.ok(command)]
    names = [one[2] for one in found if one]
    assert len(names) == len(set(names)), names
    return {one[2]: one[1] for one in found if one}


async def names(client: Client, command: bytes) -> set[bytes]:
    return set(await listed(client, command))


async def test_what_people_of_other_processes_share_is_found(colleagues: Site, monkeypatch: pytest.MonkeyPatch
                                                             ) -> None:
    await colleagues.house.parts.register.create_mailbox("erin@example.test", display="Erin", database="db2",
                                                         hash_=hashes.make(PASSWORD))
    owners = (*OWNERS, "erin")  # two of the other process: it is asked once for both
    for owner in owners:
        await shared(colleagues, owner)
    watches = [ShareWatch(process.store, process.backend) for process in (colleagues.one, colleagues.two)]
    for watch, process in zip(watches, (colleagues.one, colleagues.two), strict=True):
        watch._everything()
        assert process.store.on_shared
    alice = await colleagues.sign_in()
    teams = {team(owner).strip(b'"') for owner in owners}
    people = {name.rpartition(b"/")[0] for name in teams}
    await eventually(lambda: names(alice, b'LIST "" "Other Users/*"'), teams)
    assert await listed(alice, b'LIST "" "Other Users/%"') == dict.fromkeys(people, b"\\Noselect \\HasChildren")
    assert set(await listed(alice, b'LIST "Other Users/" "%/%"')) == teams
    assert await listed(alice, b'LIST "" "Other Users%"') == {b"Other Users": b"\\Noselect \\HasChildren"}
    own = {name for name in await listed(alice, b'LIST "" "*"') if not name.startswith(b"Other")}
    assert {b"INBOX", b"Sent"} <= own
    assert set(await listed(alice, b'LIST "" "*"')) == own | teams
    assert set(await listed(alice, b'LIST "" "%"')) == {name for name in own if b"/" not in name} | {b"Other Users"}
    assert not any(name.startswith(b"Other") for name in await listed(alice, b'LIST "" "S*"'))
    with monkeypatch.context() as many:
        many.setattr(list_, "MAX_UNASKED", 1)
        assert set(await listed(alice, b'LIST "" "*"')) == own
        assert set(await listed(alice, b'LIST "" "Other Users/*"')) == teams
    found = await alice.ok(b'LIST "" "Other Users/*" RETURN (STATUS (MESSAGES))')
    assert sum(line.startswith(b"* STATUS") for line in found) == len(owners)
    # what is shared later is found at once, what is taken back is not
    bob = await colleagues.sign_in(b"bob")
    await bob.ok(b"SETACL Sent anyone lr")
    carol = await colleagues.sign_in(b"carol")
    await eventually(lambda: names(carol, b'LIST "" "Other Users/*"'), {b"Other Users/bob@example.test/Sent"})
    assert set(await listed(bob, b'LIST "" "Other Users/*"')) == set()
    await bob.ok(b"DELETEACL Sent anyone")
    await eventually(lambda: names(carol, b'LIST "" "Other Users/*"'), set())
    for watch in watches:
        await watch.close()


async def test_subscribed_ones_are_found_by_any_pattern(colleagues: Site) -> None:
    """LSUB "" "*" is all that many programs ask."""
    watches = [ShareWatch(process.store, process.backend) for process in (colleagues.one, colleagues.two)]
    alice = await colleagues.sign_in()
    own = set(await listed(alice, b'LSUB "" *'))
    for owner in OWNERS:
        await shared(colleagues, owner)
    await asyncio.sleep(0.1)
    assert set(await listed(alice, b'LSUB "" *')) == own
    for owner in OWNERS:
        await alice.ok(b"SUBSCRIBE " + team(owner))
    teams = {team(owner).strip(b'"') for owner in OWNERS}
    assert set(await listed(alice, b'LSUB "" *')) == own | teams
    assert set(await listed(alice, b'LIST (SUBSCRIBED) "" *')) == own | teams
    assert set(await listed(alice, b'LIST "" *')) == own | teams
    found = await alice.ok(b'LIST (SUBSCRIBED RECURSIVEMATCH) "" "Other Users/%"')
    assert sorted(found) == [b'* LIST (\\NonExistent) "/" "Other Users/%b@example.test" ' % owner.encode()
                             + b'("CHILDINFO" ("SUBSCRIBED"))\r\n' for owner in sorted(OWNERS)]
    bob = await colleagues.sign_in(b"bob")
    await bob.ok(b"DELETE Team")
    assert set(await listed(alice, b'LSUB "" *')) == own | teams - {team("bob").strip(b'"')}  # nothing is his to show
    for watch in watches:
        await watch.close()


async def test_lists_go_on_without_the_directory(colleagues: Site) -> None:
    await shared(colleagues, "carol")
    alice = await colleagues.sign_in()
    await alice.ok(b"SUBSCRIBE " + team("carol"))
    own = await listed(alice, b'LSUB "" *')
    assert team("carol").strip(b'"') in own
    await colleagues.house.stop()
    colleagues.one.backend.rpc.timeout = 0.5
    began = asyncio.get_running_loop().time()
    assert await listed(alice, b'LSUB "" *') == own
    assert b" NO [UNAVAILABLE] " in (await alice.ask(b"STATUS %b (MESSAGES)" % team("stranger")))[-1]
    assert asyncio.get_running_loop().time() - began < 3
    await colleagues.house.start()


async def test_a_shared_mailbox_whose_database_was_mounted_again(colleagues: Site) -> None:
    await shared(colleagues, "dave")
    alice = await colleagues.sign_in()
    await alice.ok(b"STATUS %b (MESSAGES)" % team("dave"))
    await colleagues.one.store.dismount("db3")
    assert b" NO [UNAVAILABLE] " in (await alice.ask(b"STATUS %b (MESSAGES)" % team("dave")))[-1]
    await colleagues.one.store.mount("db3", colleagues.folder / "db3.sqlite")
    await alice.ok(b"STATUS %b (MESSAGES)" % team("dave"))


async def test_a_folder_is_not_renamed_into_another_mailbox(colleagues: Site) -> None:
    for owner in OWNERS:
        await shared(colleagues, owner, b"lrswipkxtea")
    alice = await colleagues.sign_in()
    for owner in OWNERS:
        for words in (team(owner) + b" mine", b"Archive " + team(owner)[:-1] + b'/x"'):
            assert b" NO [CANNOT] " in (await alice.ask(b"RENAME " + words))[-1], (owner, words)


async def test_a_folder_in_another_process_is_a_folder(colleagues: Site) -> None:
    """Everything that a client does with a shared folder, where it lives in another process."""
    bob = await shared(colleagues, "bob", b"lrswipkxtea")
    alice = await colleagues.sign_in()
    name = team("bob")
    mail = b"{%d+}\r\n%b" % (len(MESSAGES[0]), MESSAGES[0])
    assert re.search(rb"OK \[APPENDUID \d+ 1\]", (await alice.ask(b"APPEND %b (\\Seen) %b" % (name, mail)))[-1])
    assert b"* STATUS %b (MESSAGES 1 UNSEEN 0)\r\n" % name in await alice.ok(b"STATUS %b (MESSAGES UNSEEN)" % name)
    below = name[:-1] + b'/Below"'
    await alice.ok(b"CREATE " + below)
    await alice.ok(b"SUBSCRIBE " + below)
    assert below.strip(b'"') in await listed(alice, b'LSUB "" "Other Users/bob@example.test/*"')
    assert b"Team/Below" not in await listed(bob, b'LSUB "" *')
    await alice.ok(b"RENAME %b %b" % (below, below.replace(b"Below", b"Other")))
    await alice.ok(b"DELETE " + below.replace(b"Below", b"Other"))
    assert b"bob@example.test" in (await alice.ok(b"GETACL " + name))[0]
    await alice.ok(b"SETACL %b carol@example.test lr" % name)
    assert (await alice.ok(b"MYRIGHTS " + name))[0].startswith(b"* MYRIGHTS " + name)
    assert any(line.startswith(b"* QUOTAROOT") for line in await alice.ok(b"GETQUOTAROOT " + name))
    assert b" BAD " in (await alice.ask(b"FETCH 1 UID"))[-1]
    await alice.ok(b"ENABLE QRESYNC")  # after the link was made: the other end has to know
    await alice.ok(b"SELECT " + name)
    await alice.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert b"* VANISHED 1\r\n" in await alice.ok(b"EXPUNGE")
    assert b"* 1 EXISTS\r\n" in await alice.ok(b"APPEND %b %b" % (name, mail))
    assert (await alice.ok(b"UID SEARCH SUBJECT boats")) == [b"* SEARCH 2\r\n"]
    await alice.ok(b"SELECT INBOX")
    assert b" NO [NONEXISTENT] " in (await alice.ask(b"SELECT " + name.replace(b"Team", b"Nowhere")))[-1]
    assert b" NO [TRYCREATE] " in (await alice.ask(b"APPEND %b %b" % (name.replace(b"Team", b"No"), mail)))[-1]


async def test_the_other_process_goes_and_comes_back(colleagues: Site) -> None:
    """Not selected: the next command asks again. Selected: the session is over, with a word."""
    await shared(colleagues, "bob")
    alice, other = await colleagues.sign_in(), await colleagues.sign_in()
    question = b"STATUS %b (MESSAGES)" % team("bob")
    await alice.ok(question)
    await other.ok(b"SELECT " + team("bob"))
    other.send(b"i IDLE\r\n")
    assert await other.line() == b"+ idling\r\n"
    await colleagues.put(MESSAGES[0])
    await alice.ok(b"SELECT INBOX")
    await colleagues.two.stop()
    assert re.match(rb"\* BYE \[UNAVAILABLE\]", (await other.ended()))
    assert b" NO [UNAVAILABLE] " in (await alice.ask(question))[-1]
    for command in (b"COPY", b"MOVE"):
        found = await alice.ask(command + b" 1 " + team("bob"))
        assert b" NO [UNAVAILABLE] " in found[-1], found
    assert b"* SEARCH 1\r\n" in await alice.ok(b"SEARCH ALL")
    await colleagues.two.start()
    await alice.ok(question)
    assert code(await alice.ask(b"MOVE 1 " + team("bob"))).endswith(b" 1 1")


@pytest.mark.parametrize("rev2", [False, True])
async def test_names_in_both_forms(colleagues: Site, rev2: bool) -> None:
    """Modified UTF-7, or UTF-8 after ENABLE IMAP4rev2; switched on before or after the other process was asked."""
    name = "Größe & 日本"

    def written(path: str) -> bytes:
        return b'"' + (path.encode() if rev2 else utf7.encode(path)) + b'"'

    await colleagues.put(*MESSAGES)
    bob = await colleagues.sign_in(b"bob")
    alice = await colleagues.sign_in()
    await bob.ok(b'CREATE "%b"' % utf7.encode(name))
    await bob.ok(b'SETACL "%b" alice@example.test lrswitek' % utf7.encode(name))
    theirs = f"Other Users/bob@example.test/{name}"
    await alice.ok(b'STATUS "%b" (MESSAGES)' % utf7.encode(theirs))
    if rev2:
        await alice.ok(b"ENABLE IMAP4rev2")
    await alice.ok(b"CREATE " + written(name))
    assert set(await listed(alice, b'LIST "" "Other Users/bob@example.test/*"')) == {written(theirs).strip(b'"')}
    await alice.ok(b"SELECT INBOX")
    assert code(await alice.ask(b"COPY 1:2 " + written(theirs))).endswith(b" 1:2 1:2")
    await alice.ok(b"CREATE " + written(theirs + "/ü"))
    await alice.ok(b"SELECT " + written(theirs))
    assert code(await alice.ask(b"MOVE 1 " + written(name))).endswith(b" 1 1")
    assert code(await alice.ask(b"COPY 1 " + written(theirs + "/ü"))).endswith(b" 2 1")
    assert b"MESSAGES 1" in (await alice.ok(b"STATUS %b (MESSAGES)" % written(name)))[0]


async def test_a_process_that_does_not_answer_leaves_no_connection(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()

    class Silent(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            ended.set()

    await shared(site, "bob")
    client = await site.sign_in()
    path = site.folder / "silent.sock"
    silent = await asyncio.get_running_loop().create_unix_server(Silent, str(path))
    monkeypatch.setattr(remote, "OPEN_SECONDS", 0.1)
    monkeypatch.setattr(site.one.server, "socket_of", lambda name: path)
    assert b"[UNAVAILABLE]" in (await client.ask(b"SELECT " + team("bob")))[-1]
    await asyncio.wait_for(ended.wait(), 5)
    silent.close()
