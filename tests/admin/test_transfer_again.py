"""The second run of an import: flags follow the old server; unique ids of POP3 are kept; deaths on either side."""

from __future__ import annotations

import asyncio
import contextlib
import poplib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll.admin.transfer.imap_client import Client, ImapError
from atoll.admin.transfer.importer import Importer, Report
from atoll.admin.transfer.message import Item
from atoll.admin.transfer.pop3_client import Pop3Ids
from atoll.admin.transfer.progress import Line
from atoll.admin.transfer.sources.imap import ImapSource
from atoll.admin.transfer.sources.maildir import MaildirSource
from atoll.admin.transfer.state import State
from atoll.admin.transfer.target import Mailbox, island_client
from atoll.admin.transfer.uidls import ByHead, by_place
from atoll.mailbox import Flag, UidSet
from tests.clients.dovecot import ROOT as DOVECOT
from tests.clients.dovecot import Dovecot
from tests.island import Island
from tests.protocols.imap.conftest import house, site

from .test_transfer_imap import Breaking, Move, message, move

__all__ = ["house", "move", "site"]


async def _set(move: Move, name: str, uids: list[int], op: str, flags: Flag, *keywords: str) -> None:
    access = await move.site.access(name)
    await access.flags(access.folder("INBOX"), UidSet.of(uids), op, flags, frozenset(keywords))


async def test_flags_that_changed_there_change_here_and_nothing_else(move: Move) -> None:
    uids = await move.site.put(*[message(at) for at in range(5)])
    await _set(move, "alice", uids[:2], "+", Flag.SEEN)
    assert (await move.imported()).messages == 5
    # There: 1 is unread again, 3 read, 4 a keyword. Here: 2 and 3 flagged, 5 read.
    await _set(move, "alice", uids[:1], "-", Flag.SEEN)
    await _set(move, "alice", uids[2:3], "+", Flag.SEEN)
    await _set(move, "alice", uids[3:4], "+", Flag(0), "$Work")
    await _set(move, "bob", [2, 3], "+", Flag.FLAGGED)
    await _set(move, "bob", [5], "+", Flag.SEEN)
    report = await move.imported()
    assert (report.messages, report.already, report.reflagged) == (0, 5, 3)
    got = [(flags, keywords) for _, flags, keywords, _ in await move.content("bob", "INBOX")]
    assert got == [(0, ()), (Flag.SEEN | Flag.FLAGGED, ()), (Flag.SEEN | Flag.FLAGGED, ()),
                   (0, ("$Work",)), (Flag.SEEN, ())]
    assert (await move.imported()).reflagged == 0


async def test_flags_follow_after_a_batch_whose_answer_was_lost(move: Move) -> None:
    uids = await move.site.put(*[message(at) for at in range(450)])
    mailbox = await asyncio.to_thread(lambda: Breaking(lambda: move.client("bob"), "after", 2))
    await move.imported(mailbox=mailbox)
    await _set(move, "alice", uids, "+", Flag.SEEN)
    assert (await move.imported()).reflagged == 450
    assert {flags for _, flags, _, _ in await move.content("bob", "INBOX")} == {Flag.SEEN}


async def test_a_folder_that_was_made_anew_here_is_left_alone(move: Move) -> None:
    alice, bob = await move.site.access(), await move.site.access("bob")
    await alice.create("Box")
    uids = await move.site.put(message(1), path="Box")
    await move.imported()
    await bob.delete("Box")
    await bob.create("Box")
    await move.site.put(message(7), name="bob", path="Box")
    await alice.flags(alice.folder("Box"), UidSet.of(uids), "+", Flag.SEEN, frozenset())
    assert (await move.imported()).reflagged == 0
    assert [flags for _, flags, _, _ in await move.content("bob", "Box")] == [0]


async def test_unique_ids_come_from_an_operators_command_only(move: Move) -> None:
    def store() -> None:
        Mailbox(lambda: move.client("bob")).append("INBOX", [Item("1", "x", message(1), (), b"", "abc")])

    with pytest.raises(ImapError, match="imported mail only"):
        await asyncio.to_thread(store)
    assert await move.content("bob", "INBOX") == []


def test_ids_by_place_or_by_header() -> None:
    assert by_place([(10, "a"), (20, "b")], [(5, 10), (9, 20)]) == {5: "a", 9: "b"}
    assert by_place([(10, "a")], [(5, 10), (9, 20)]) is None
    assert by_place([(10, "a"), (21, "b")], [(5, 10), (9, 20)]) is None
    heads = ByHead([(b"A: 1\nB: 2", "x"), (b"A: 1\nB: 2", "y")])
    assert [heads.take(b"A: 1\r\nB: 2\r\n\r\n") for _ in range(3)] == ["x", "y", ""]
    assert heads.take(b"C: 1\r\n\r\n") == ""


# -- a real Dovecot, a whole island ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def island() -> Iterator[Island]:
    with Island() as island:
        yield island


@pytest.fixture
def dovecot() -> Iterator[Dovecot]:
    if not (DOVECOT / "usr/lib/dovecot/pop3").exists():
        pytest.skip("dovecot-pop3d is not here: make test-deps")
    made = Dovecot()
    yield made
    made.close()


class Over(poplib.POP3):
    """The standard library's client over a socket whose other end says nothing first: it is signed in already."""

    def __init__(self, sock: socket.socket) -> None:
        self._given = sock
        self._greeted = False
        super().__init__("dovecot")

    def _create_socket(self, timeout: float) -> socket.socket:
        return self._given

    def _getresp(self) -> bytes:
        if not self._greeted:
            self._greeted = True
            return b"+OK"
        return super()._getresp()  # type: ignore[misc, no-any-return]


def _import(island: Island, source: object, to: str, folder: Path) -> Report:
    mailbox = Mailbox(lambda: island_client(island.data, to))
    state = State(folder, "old", to)
    try:
        return Importer(source, mailbox, state, Report("old", to), Line()).run()  # type: ignore[arg-type]
    finally:
        mailbox.close()
        state.close()


def _ids(island: Island, who: str) -> list[str]:
    client = poplib.POP3_SSL("localhost", island.ports["pop3s"], context=island.tls(), timeout=20)
    client.user(who)
    client.pass_(island.password(who))
    try:
        return [line.split()[1].decode() for line in client.uidl()[1]]
    finally:
        client.quit()


@pytest.mark.parametrize("shown", ["alike", "otherwise"])
def test_unique_ids_of_a_real_server_are_kept(island: Island, dovecot: Dovecot, tmp_path: Path, shown: str,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    to = "alice@example.test" if shown == "alike" else "bob@example.test"
    old = dovecot.client()
    for number in (1, 2, 3):
        old.append(b"INBOX", lambda number=number: iter([b" {%d+}\r\n" % len(message(number)), message(number)]))  # type: ignore[misc]
    pop = Pop3Ids(Over(dovecot.connection("pop3")))
    theirs = [uidl for _, uidl in pop.pairs()]
    pop.close()
    assert len(set(theirs)) == 3
    if shown == "otherwise":
        monkeypatch.setattr("atoll.admin.transfer.sources.imap.by_place", lambda *_: None)
    source = ImapSource("old", dovecot.client, only=[], exclude=[],
                        pop3=lambda: Pop3Ids(Over(dovecot.connection("pop3"))))
    assert _import(island, source, to, tmp_path).messages == 3
    assert _ids(island, to) == theirs
    # New mail has an id of our own; a message that goes away and comes back keeps the old one.
    ours = island_client(island.data, to)
    ours.append(b"INBOX", lambda: iter([b" {%d+}\r\n" % len(message(4)), message(4)]))
    assert _ids(island, to)[:3] == theirs
    assert "." in _ids(island, to)[3]
    ours.run(b"SELECT INBOX")
    ours.run(b"MOVE 1 Archive")
    ours.run(b"SELECT Archive")
    ours.run(b"MOVE 1 INBOX")
    assert theirs[0] in _ids(island, to)
    # The files of the same Dovecot say the same.
    uidls = {item.uidl for folder in MaildirSource(dovecot.folder / "mail").folders() if folder.path == "INBOX"  # type: ignore[union-attr]
             for item in MaildirSource(dovecot.folder / "mail").items(folder, lambda *_: False)}  # type: ignore[arg-type, union-attr]
    assert uidls == set(theirs)


class Dying(Mailbox):
    """The command is killed after its twelfth batch is committed, before that is known."""

    left = 12

    def append(self, path: str, items: list[Item]) -> list[int]:
        uids = super().append(path, items)
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return uids


@contextlib.contextmanager
def killing(island: Island) -> Iterator[None]:
    """Both mailbox processes, three times each: a role that dies more often is started again ever later."""
    stop = threading.Event()

    def kill() -> None:
        for _ in range(3):
            if stop.wait(1.0):
                return
            for role in ("mailbox-1", "mailbox-2"):
                with contextlib.suppress(KeyError, ProcessLookupError):
                    island.kill(role)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        stop.set()
        killer.join()


def test_ten_thousand_messages_over_deaths_of_both_sides(island: Island, tmp_path: Path) -> None:
    """Every message is there once."""
    to = "admin@example.test"
    folder = tmp_path / "Maildir"
    for part in ("cur", "new", "tmp"):
        (folder / part).mkdir(parents=True)
    for number in range(10_000):
        (folder / "cur" / f"{number:05}.x:2,{'S' if number % 2 else ''}").write_bytes(message(number))

    def connect() -> Client:
        return _patiently(lambda: island_client(island.data, to))

    with killing(island):
        for kind in (Dying, Dying, Mailbox):
            mailbox = _patiently(lambda kind=kind: kind(connect))
            state = State(tmp_path / "import", "big", to)
            try:
                report = Importer(MaildirSource(folder), mailbox, state, Report("big", to), Line()).run()
            except KeyboardInterrupt:
                continue
            finally:
                state.close()
    assert report.messages + report.already == 10_000
    client = connect()
    client.run(b"SELECT INBOX")
    numbers = [int(bytes(response.values[0][-1]).split(b":")[1])  # type: ignore[index, arg-type]
               for response in client.run(b"FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]") if response.name == "FETCH"]
    assert sorted(numbers) == list(range(10_000))


def _patiently(make):  # type: ignore[no-untyped-def]
    """Until a process that is killed all the time lives long enough to answer."""
    end = time.monotonic() + 30
    while True:
        try:
            return make()
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


