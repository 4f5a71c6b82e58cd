"""From an IMAP server into a mailbox: both are real; the servers that misbehave are scripts on a socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atoll.admin.transfer.imap_client import Client, ImapError, Server
from atoll.admin.transfer.importer import Importer, Report
from atoll.admin.transfer.message import Item, Unread
from atoll.admin.transfer.progress import Line
from atoll.admin.transfer.responses import BadServer
from atoll.admin.transfer.sources import Skipped, SourceFolder
from atoll.admin.transfer.sources.imap import ImapSource
from atoll.admin.transfer.state import State
from atoll.admin.transfer.target import Mailbox
from atoll.mailbox import Flag, UidSet, Want
from tests.directory.conftest import PASSWORD
from tests.protocols.imap.conftest import Site, house, site

__all__ = ["house", "site"]


class Move:
    """alice's mailbox is the old server, bob's the new one."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.server = Server("127.0.0.1", site.tls_port, "tls", True, str(site.folder / "cert.pem"))

    def client(self, name: str) -> Client:
        client = Client.connect(self.server)
        client.sign_in(f"{name}@example.test", PASSWORD)
        return client

    def source(self, **options) -> ImapSource:
        options = {"only": [], "exclude": []} | options
        return ImapSource("imap:alice@old", lambda: self.client("alice"), **options)

    def run(self, *, mailbox: Mailbox | None = None, source=None, into: str = "") -> Report:
        mailbox = mailbox or Mailbox(lambda: self.client("bob"))
        source = source or self.source()
        state = State(self.folder / "import", "imap:alice@old", "bob")
        try:
            return Importer(source, mailbox, state, Report("alice", "bob"), Line()).run(into)
        finally:
            source.close()
            mailbox.close()
            state.close()

    async def imported(self, **options) -> Report:
        return await asyncio.to_thread(lambda: self.run(**options))

    async def content(self, name: str, path: str) -> list[tuple[bytes, int, tuple[str, ...], int]]:
        access = await self.site.access(name)
        folder = access.folder(path)
        rows = access.rows(folder, 1, folder.uidnext, Want.BODY, 10_000)
        return [(row.body, row.flags, tuple(sorted(access.keywords(row))), row.received // 1000) for row in rows]


@pytest.fixture
async def move(site: Site, tmp_path: Path) -> Move:
    return Move(site, tmp_path)


def message(number: int) -> bytes:
    return b"From: a@example.com\r\nSubject: %d\r\n\r\nbody of %d\r\n" % (number, number)


async def test_everything_comes_once_with_flags_dates_and_folders(move):
    uids = await move.site.put(*[message(at) for at in range(450)])
    alice = await move.site.access()
    inbox = alice.folder("INBOX")
    await alice.flags(inbox, UidSet.of(uids[:3]), "+", Flag.SEEN | Flag.FLAGGED, frozenset({"$Work", "Größe"[:2]}))
    await alice.create("Projects/Größe & mehr")
    await alice.create("Projects/empty")
    await alice.subscribe("Projects/Größe & mehr", True)
    await alice.subscribe("Projects/empty", False)
    await move.site.put(message(1000), path="Projects/Größe & mehr")
    await move.site.put(message(2000), path="Sent")

    report = await move.imported()
    assert (report.messages, report.failed, report.mended) == (452, [], 0)
    for path in ("INBOX", "Projects/Größe & mehr", "Sent"):
        assert await move.content("bob", path) == await move.content("alice", path)
    bob = await move.site.access("bob")
    assert not bob.folder("Projects/empty").subscribed
    assert bob.folder("Projects/Größe & mehr").subscribed

    again = await move.imported()
    assert (again.messages, again.already) == (0, 452)

    await move.site.put(message(450))
    third = await move.imported()
    assert (third.messages, third.already) == (1, 452)
    assert await move.content("bob", "INBOX") == await move.content("alice", "INBOX")


async def test_only_exclude_and_into(move):
    alice = await move.site.access()
    for path in ("A", "B", "C"):
        await alice.create(path)
        await move.site.put(message(1), path=path)

    report = await move.imported(
        source=await asyncio.to_thread(lambda: move.source(only=["a", "B"], exclude=["b"])), into="Old/x"
    )
    assert report.messages == 1
    assert ("C", "not asked for") in report.skipped
    assert ("B", "excluded") in report.skipped
    assert len(await move.content("bob", "Old/x/A")) == 1


class Breaking(Mailbox):
    """Loses the connection at a chosen moment of the n-th append: before it is sent, or after it is committed."""

    def __init__(self, connect: Callable[[], Client], when: str, nth: int) -> None:
        super().__init__(connect)
        self._when, self._left = when, nth

    def append(self, path: str, items: list[Item]) -> list[int]:
        self._left -= 1
        if self._left == 0 and self._when == "before":
            raise OSError("lost")
        uids = super().append(path, items)
        if self._left == 0 and self._when == "after":
            raise OSError("lost")
        return uids


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_connection_loses_and_doubles_nothing(move, when):
    await move.site.put(*[message(at) for at in range(450)])
    mailbox = await asyncio.to_thread(lambda: Breaking(lambda: move.client("bob"), when, 2))
    report = await move.imported(mailbox=mailbox)
    assert report.messages == 450
    assert await move.content("bob", "INBOX") == await move.content("alice", "INBOX")


class Killed(BaseException):
    """The command was killed."""


class Killing(Breaking):
    def append(self, path: str, items: list[Item]) -> list[int]:
        try:
            return super().append(path, items)
        except OSError:
            raise Killed from None


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_killed_command_goes_on_where_it_was(move, when):
    await move.site.put(*[message(at) for at in range(450)])
    mailbox = await asyncio.to_thread(lambda: Killing(lambda: move.client("bob"), when, 2))
    with pytest.raises(Killed):
        await move.imported(mailbox=mailbox)
    # Meanwhile somebody else delivers the same sizes: the batch is recognized in a row or not at all.
    await move.site.put(b"From: x\r\n\r\n", name="bob")
    report = await move.imported()
    assert report.messages + report.already == 450
    got = [body for body, *_ in await move.content("bob", "INBOX")]
    assert sorted(got) == sorted([message(at) for at in range(450)] + [b"From: x\r\n\r\n"])


async def test_a_message_that_the_mailbox_refuses_is_named_and_the_others_come(move, monkeypatch):
    await move.site.put(*[message(at) for at in range(10)])

    class Refusing(Mailbox):
        def append(self, path: str, items: list[Item]) -> list[int]:
            if any(b"Subject: 4\r\n" in item.data for item in items):
                raise ImapError("no", "CANNOT")
            return super().append(path, items)

    report = await move.imported(mailbox=await asyncio.to_thread(lambda: Refusing(lambda: move.client("bob"))))
    assert report.messages == 9
    assert report.failed == [("INBOX/5", "the mailbox refuses it: no")]
    assert (await move.imported()).messages == 1


async def test_a_full_mailbox_ends_the_import(move):
    await move.site.put(message(1))

    class Full(Mailbox):
        def append(self, path: str, items: list[Item]) -> list[int]:
            raise ImapError("full", "OVERQUOTA")

    with pytest.raises(ImapError):
        await move.imported(mailbox=await asyncio.to_thread(lambda: Full(lambda: move.client("bob"))))
    assert (await move.imported()).messages == 1


async def test_messages_with_nul_and_bare_line_ends(move):
    def items() -> list[Item]:
        return [
            Item("1", "x", b"Subject: nul\n\na\0b\n", ("\\Seen",), b"24-Nov-2026 11:42:16 +0100"),
            Item("2", "x", b"", (), b""),
            Item("3", "x", b"Subject: bare\rcr", (), b"nonsense"[:0]),
        ]

    class Fixed:
        name = "fixed"

        def folders(self) -> list[SourceFolder | Skipped]:
            return [SourceFolder("INBOX", "INBOX", count=3)]

        def items(self, folder: SourceFolder, known: Callable[[str], bool]) -> Iterator[Item | Unread]:
            yield from items()

        def close(self) -> None: ...

    report = await move.imported(source=Fixed())
    assert (report.messages, report.mended, report.failed) == (2, 2, [("x", "empty")])
    stored = await move.content("bob", "INBOX")
    assert stored[0][0] == b"Subject: nul\r\n\r\na\0b\r\n"
    assert stored[0][3] == 1795516936
    assert stored[1][0] == b"Subject: bare\r\ncr"


async def test_reading_back_for_export(move):
    await move.site.put(*[message(at) for at in range(450)])

    def read() -> list[bytes]:
        mailbox = Mailbox(lambda: move.client("alice"))
        assert mailbox.count("INBOX") == 450
        assert mailbox.paths()[0] == "INBOX"
        return [item.data for item in mailbox.read("INBOX")]

    assert await asyncio.to_thread(read) == [message(at) for at in range(450)]


# servers that misbehave


class Script:
    """A server that says what it was told to: bytes to send, or how many lines to read."""

    def __init__(self, *steps: bytes | int) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.heard: list[bytes] = []
        self._steps = steps
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            connection, _ = self.sock.accept()
            with connection, connection.makefile("rb") as lines:
                for step in self._steps:
                    if isinstance(step, bytes):
                        connection.sendall(step)
                    else:
                        self.heard += [lines.readline() for _ in range(step)]
                connection.shutdown(socket.SHUT_WR)
                lines.read()
        except OSError:
            pass  # the client has gone, as it should
        finally:
            self.sock.close()

    def server(self, security: str = "none") -> Server:
        return Server("127.0.0.1", self.port, security)


@pytest.mark.parametrize(
    ("security", "steps"),
    [
        ("none", (b"* PREAUTH [CAPABILITY IMAP4rev1] welcome\r\n",)),
        ("starttls", (b"* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] welcome\r\n",)),
        ("starttls", (b"* OK [CAPABILITY IMAP4rev1 STARTTLS] x\r\n", 1, b"A1 OK go\r\n* CAPABILITY AUTH=PLAIN\r\n")),
        ("none", (b"HTTP/1.1 400 Bad Request\r\n",)),
        ("none", (b"* OK " + b"x" * 5_000_000,)),
        ("none", (b"* X {99999999999}\r\n",)),
    ],
    ids=["preauth", "preauth-starttls", "injection", "http", "endless", "literal"],
)
def test_greetings_that_are_refused(security, steps):
    with pytest.raises(BadServer):
        Client.connect(Script(*steps).server(security))


def test_no_starttls_no_password():
    script = Script(b"* OK [CAPABILITY IMAP4rev1] x\r\n", 1)
    with pytest.raises(ImapError, match="STARTTLS"):
        Client.connect(script.server("starttls"))
    assert not any(b"LOGIN" in line for line in script.heard)


def test_a_certificate_of_nobody_is_refused(tmp_path):
    script = Script(b"")
    with pytest.raises(OSError):
        Client.connect(script.server("tls"))


def signed_in(*steps: bytes | int) -> tuple[Script, Client]:
    script = Script(
        b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] x\r\n", 1, b"A1 OK [CAPABILITY IMAP4rev1] in\r\n", *steps
    )
    client = Client.connect(script.server())
    client.sign_in("alice", b"secret")
    return script, client


def test_messages_that_the_server_cannot_give_are_named():
    _, client = signed_in(
        1,
        b"A2 OK examined\r\n",
        1,
        b"* 1 FETCH (UID 5 RFC822.SIZE 3)\r\n* 2 FETCH (UID 6 RFC822.SIZE 3)\r\n"
        b"* 3 FETCH (UID 7 RFC822.SIZE 99999999)\r\n"
        b"* 4 FETCH (UID 8 RFC822.SIZE 3)\r\nA3 OK\r\n",
        1,
        b"* 1 FETCH (UID 5 BODY[] {3}\r\nabc FLAGS (\\Seen))\r\n"
        b"* 2 FETCH (UID 6 BODY[] NIL)\r\nA4 NO some of it failed\r\n",
        2,
        b"A5 NO [SERVERBUG] corrupt\r\n* 4 FETCH (BODY[] {3}\r\nxyz UID 8)\r\nA6 OK\r\n",
    )
    source = ImapSource("x", lambda: client, only=[], exclude=[])
    got = list(source.items(SourceFolder("INBOX", "INBOX"), lambda *_: False))
    assert [(one.key, one.data) for one in got if isinstance(one, Item)] == [("5", b"abc"), ("8", b"xyz")]
    assert sorted((one.key, one.reason.split(":")[0]) for one in got if isinstance(one, Unread)) == [
        ("6", "the server refuses it"),
        ("7", "larger than 50 MiB"),
    ]


def test_a_server_that_works_on_two_commands_at_once(monkeypatch):
    monkeypatch.setattr("atoll.admin.transfer.sources.imap.GROUP", 2)
    sizes = b"".join(b"* %d FETCH (UID %d RFC822.SIZE 3)\r\n" % (uid, uid) for uid in range(1, 7))
    body = [b"* %d FETCH (UID %d BODY[] {3}\r\nab%d)\r\n" % (uid, uid, uid) for uid in range(7)]
    _, client = signed_in(
        1,
        b"A2 OK examined\r\n",
        1,
        sizes + b"A3 OK\r\n",
        2,
        body[3] + body[1] + body[4] + b"A5 OK\r\n" + body[2] + b"A4 OK\r\n",
        1,
        body[5] + body[6] + b"A6 OK\r\n",
    )
    source = ImapSource("x", lambda: client, only=[], exclude=[])
    got = list(source.items(SourceFolder("INBOX", "INBOX"), lambda *_: False))
    assert sorted((one.key, one.data) for one in got) == [(str(uid), b"ab%d" % uid) for uid in range(1, 7)]


def test_folders_of_other_people_and_of_views_are_left_out():
    script, client = signed_in(
        1,
        b'* NAMESPACE (("INBOX." ".")) (("user." ".")) NIL\r\nA2 OK\r\n',
        1,
        b'* LSUB () "." INBOX.Boats\r\nA3 OK\r\n',
        1,
        b'* LIST (\\HasChildren) "." INBOX\r\n* LIST () "." INBOX.Boats\r\n* LIST (\\Sent) "." "INBOX.Gesendet"\r\n'
        b'* LIST (\\All) "." INBOX.All\r\n* LIST (\\Noselect) "." INBOX.no\r\n* LIST () "." user.bob\r\n'
        b'* LIST () "." {9}\r\nINBOX.a"b\r\n* LIST () "." "INBOX.../../etc"\r\nA4 OK\r\n',
        *[step for tag in range(5, 10) for step in (1, b"* STATUS x (MESSAGES 2 UIDVALIDITY 7)\r\nA%d OK\r\n" % tag)],
    )
    client.capabilities = frozenset({"IMAP4REV1", "NAMESPACE"})
    source = ImapSource("x", lambda: client, only=[], exclude=[])
    found = source.folders()
    taken = [(one.path, one.use, one.subscribed, one.generation) for one in found if isinstance(one, SourceFolder)]
    assert taken == [
        ("INBOX", "", False, "7"),
        ("Boats", "", True, "7"),
        ("Gesendet", "\\sent", False, "7"),
        ('a"b', "", False, "7"),
        ("_/_etc", "", False, "7"),
    ]
    assert [one.where for one in found if isinstance(one, Skipped)] == ["All"]
    assert b'"INBOX.a\\"b"' in b"".join(script.heard)


def test_a_server_that_goes_in_mid_fetch_is_asked_again(monkeypatch):
    monkeypatch.setattr("atoll.admin.transfer.sources.imap.time.sleep", lambda seconds: None)
    listing = b"* 1 FETCH (UID 5 RFC822.SIZE 3)\r\n* 2 FETCH (UID 6 RFC822.SIZE 3)\r\n"
    one = b"* 1 FETCH (UID 5 BODY[] {3}\r\nabc)\r\n"
    two = b"* 2 FETCH (UID 6 BODY[] {3}\r\nxyz)\r\n"
    clients = [
        signed_in(1, b"A2 OK\r\n", 1, listing + b"A3 OK\r\n", 1, one)[1],
        signed_in(1, b"A2 OK\r\n", 1, listing + b"A3 OK\r\n", 1, two + b"A4 OK\r\n")[1],
    ]
    source = ImapSource("x", lambda: clients.pop(0), only=[], exclude=[])
    got = list(source.items(SourceFolder("INBOX", "INBOX"), lambda *_: False))
    assert [(item.key, item.data) for item in got] == [("5", b"abc"), ("6", b"xyz")]
