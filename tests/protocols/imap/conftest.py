"""IMAP as people meet it: TLS listeners, the frontend's half, mailbox processes, store, directory; one process."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atoll.base.clock import SystemClock
from atoll.base.ids import MailboxId, UserId
from atoll.directory.server.auth import hashes
from atoll.formats.mime import scan
from atoll.mailbox import Access, Content, Delivery, NewMessage, Store
from atoll.protocols.imap.limits import Limits
from atoll.protocols.imap.proxy import ImapProxy
from atoll.protocols.imap.server import ImapServer
from atoll.runtime.admission import Admission, Rates
from atoll.runtime.listen import Listener
from atoll.sql.sqlite import SqliteEngine
from tests.directory.conftest import PASSWORD, House
from tests.protocols.pop3.conftest import certificate

T0 = 1_700_000_000_000
MESSAGES = (
    b"From: Ann <ann@example.test>\r\nTo: alice@example.test\r\nSubject: Boats\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@x>\r\n\r\nThe blue boat sails.\r\n",
    b"From: Bob <bob@example.test>\r\nTo: alice@example.test\r\nCc: ann@example.test\r\nSubject: Re: Boats\r\n"
    b"Date: Wed, 15 Nov 2023 08:00:00 +0100\r\nMessage-ID: <2@x>\r\nReferences: <1@x>\r\n\r\nWhich boat?\r\n",
    b"From: Carol <carol@example.test>\r\nTo: alice@example.test\r\nSubject: =?utf-8?q?Caf=C3=A9?=\r\n"
    b"Date: Thu, 16 Nov 2023 12:00:00 +0000\r\nMessage-ID: <3@x>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nMenu\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--\r\n",
)


class MailboxProcess:
    """One mailbox process: a store, IMAP on a Unix socket."""

    def __init__(self, site: Site, number: int) -> None:
        self.site = site
        self.number = number
        self.path = site.folder / f"imap-{number}.sock"

    async def start(self) -> None:
        self.backend = self.site.house.backend()
        self.backend.start()
        clock = SystemClock()
        name = f"mailbox-{self.number}"
        verifier = await self.backend.verifier(f"{name}.test", "imap")
        self.store = Store(SqliteEngine(), self.backend.mailbox, self.backend, clock=clock)
        await self.store.mount(f"db{self.number}", self.site.folder / f"db{self.number}.sqlite")
        self.server = ImapServer(
            self.store,
            self.backend,
            verifier,
            clock,
            admit=lambda peer: True,
            backend=name,
            limits=self.site.limits,
            socket_of=self.site.socket_of,
        )
        self.backend.on_revoked(self.server.revoke)
        sock = socket.socket(socket.AF_UNIX)
        self.path.unlink(missing_ok=True)
        sock.bind(str(self.path))
        sock.listen()
        await self.server.serve(sock)

    async def stop(self) -> None:
        await self.server.close()
        await self.store.close()


class Client:
    """One IMAP connection of a test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.count = 0

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def line(self) -> bytes:
        return await asyncio.wait_for(self.reader.readline(), 10)

    async def response(self) -> bytes:
        """One response with its literals."""
        got = await self.line()
        while (header := re.search(rb"\{(\d+)\}\r\n\Z", got)) is not None:
            got += await asyncio.wait_for(self.reader.readexactly(int(header.group(1))), 20)
            got += await self.line()
        return got

    async def until(self, tag: bytes) -> list[bytes]:
        """Responses up to the tagged one."""
        found = []
        while True:
            got = await self.response()
            assert got, f"closed after {found!r}"
            found.append(got)
            if got.startswith(tag + b" "):
                return found

    async def ask(self, command: bytes) -> list[bytes]:
        """Give a command; all responses, the tagged one last."""
        self.count += 1
        tag = b"t%d" % self.count
        self.send(tag + b" " + command + b"\r\n")
        return await self.until(tag)

    async def ok(self, command: bytes) -> list[bytes]:
        """The same; it must end in OK. The untagged responses."""
        found = await self.ask(command)
        assert b" OK " in found[-1][:12], found
        return found[:-1]

    async def ended(self) -> bytes:
        """What the server still says until it closes."""
        return await asyncio.wait_for(self.reader.read(), 10)


class Site:
    """A directory with alice and carol (mailbox-1) and bob (mailbox-2), both processes, a frontend's IMAP."""

    def __init__(self, folder: Path, house: House) -> None:
        self.folder = folder
        self.house = house
        self.limits = Limits()
        self.clients: list[Client] = []
        self.one = MailboxProcess(self, 1)
        self.two = MailboxProcess(self, 2)

    def socket_of(self, name: str) -> Path:
        return self.folder / f"imap-{name.rpartition('-')[2]}.sock"

    async def start(self) -> None:
        await self.house.parts.register.create_mailbox(
            "carol@example.test", display="Carol", database="db1", hash_=hashes.make(PASSWORD)
        )
        await self.one.start()
        await self.two.start()
        cert, key = certificate(self.folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.trusting = ssl.create_default_context(cafile=str(cert))
        self.proxy = ImapProxy(self.house.sign_in(), self.socket_of, lambda: context)
        self.admission = Admission(SystemClock(), 1000, Rates(1000, 1000, 1000))
        self.clear_port, self.clear = self._listen(tls=False, context=context)
        self.tls_port, self.tls = self._listen(tls=True, context=context)

    def _listen(self, *, tls: bool, context: ssl.SSLContext) -> tuple[int, Listener]:
        sock = socket.create_server(("127.0.0.1", 0))
        factory = self.proxy.secure if tls else self.proxy.clear
        listener = Listener(sock, factory, self.admission, tls=(lambda: context) if tls else None)
        listener.start()
        return sock.getsockname()[1], listener

    async def connect(self, *, tls: bool = True) -> Client:
        port, options = (self.tls_port, {"ssl": self.trusting}) if tls else (self.clear_port, {})
        client = Client(*await asyncio.open_connection("127.0.0.1", port, limit=2**26, **options))
        self.clients.append(client)
        assert (await client.line()).startswith(b"* OK ")
        return client

    async def sign_in(self, name: bytes = b"alice") -> Client:
        client = await self.connect()
        await client.ok(b"LOGIN %b@example.test {%d+}\r\n%b" % (name, len(PASSWORD), PASSWORD))
        return client

    async def access(self, name: str = "alice") -> Access:
        info = await self.one.backend.mailbox_of(f"{name}@example.test")
        assert info is not None
        return await (self.one if info.backend == "mailbox-1" else self.two).store.open(
            MailboxId(info.mailbox), UserId(info.user)
        )

    async def put(self, *messages: bytes, name: str = "alice", path: str = "INBOX") -> list[int]:
        access = await self.access(name)
        placed = await access.append(
            access.folder(path),
            [NewMessage(Content(data, scan(data)), T0 + 86_400_000 * at) for at, data in enumerate(messages)],
        )
        return [one.uid for one in placed]

    async def deliver(self, data: bytes = b"Subject: new\r\n\r\nhi\r\n") -> None:
        """As transport would: to alice."""
        info = await self.one.backend.mailbox_of("alice@example.test")
        assert info is not None
        done = await self.one.store.deliver([Delivery(MailboxId(info.mailbox), "INBOX", Content(data, scan(data)), T0)])
        assert not isinstance(done[0], Exception), done

    async def close(self) -> None:
        for client in self.clients:
            client.writer.close()
        self.clear.stop()
        self.tls.stop()
        await self.proxy.drain(0)
        await self.one.stop()
        await self.two.stop()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    await house.start()
    await house.people()
    yield house
    await house.close()


@pytest.fixture
async def site(tmp_path: Path, house: House) -> AsyncIterator[Site]:
    site = Site(tmp_path, house)
    await site.start()
    yield site
    await site.close()
