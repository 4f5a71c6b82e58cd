"""A post office in one process, on real sockets: front end, transport, queue, LMTP, store, directory.

alice lives in db1 (mailbox-1), bob in db2 (mailbox-2); each "mailbox process" is a store and an LMTP server of its own.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace
from pathlib import Path

from atoll.base.clock import SystemClock
from atoll.base.ids import MailboxId
from atoll.delivery.into_mailbox import IntoMailbox
from atoll.mailbox import Store, Want
from atoll.protocols.lmtp.server import LmtpServer
from atoll.protocols.smtp.front import SmtpFront
from atoll.protocols.smtp.hop import HopServer
from atoll.protocols.smtp.types import Limits
from atoll.runtime.admission import Admission, Rates
from atoll.runtime.listen import Listener
from atoll.runtime.metrics import Metrics
from atoll.sql import SqlError
from atoll.sql.sqlite import SqliteEngine
from atoll.transport.lanes import Lanes
from atoll.transport.pipeline import Check, Pipeline, Send
from atoll.transport.pressure import Pressure
from atoll.transport.queue import Queue, Schedule
from atoll.transport.rates import HOUR, MINUTE, Rate
from atoll.transport.tracking import Tracking
from tests.directory.conftest import House
from tests.protocols.pop3.conftest import certificate

HOST = "mail.example.test"
SMALL = Limits(message=1 << 20, pregreet_seconds=0.0, tarpit_seconds=0.2)


class Client:
    """One SMTP client that says octets and reads replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self, seconds: float = 10) -> bytes:
        """One whole reply, b"" at the end of the connection."""
        lines = b""
        while True:
            line = await asyncio.wait_for(self.reader.readline(), seconds)
            lines += line
            if not line or line[3:4] != b"-":
                return lines

    async def say(self, line: bytes) -> bytes:
        """A command and its reply."""
        self.send(line + b"\r\n")
        return await self.reply()

    async def rest(self, seconds: float = 10) -> list[bytes]:
        """Replies until the other side closes."""
        found = []
        while reply := await self.reply(seconds):
            found.append(reply)
        return found

    async def envelope(self, *recipients: str, sender: str = "a@out.example", more: str = "") -> None:
        assert (await self.say(f"MAIL FROM:<{sender}>{more}".encode())).startswith(b"250 ")
        for one in recipients:
            assert (await self.say(f"RCPT TO:<{one}>".encode())).startswith(b"250 "), one

    async def mail(self, content: bytes, *recipients: str, sender: str = "a@out.example") -> bytes:
        """A whole transaction by DATA; the last reply."""
        await self.envelope(*recipients, sender=sender)
        assert (await self.say(b"DATA")).startswith(b"354 ")
        self.send(content + b".\r\n")
        return await self.reply()

    async def tls(self, context: ssl.SSLContext) -> bytes:
        """STARTTLS; the reply to EHLO behind it."""
        assert (await self.say(b"STARTTLS")).startswith(b"220 ")
        await self.writer.start_tls(context, server_hostname="127.0.0.1")
        return await self.say(b"EHLO client.example")

    def close(self) -> None:
        self.writer.close()


class Mailboxes:
    """One mailbox process."""

    def __init__(self, folder: Path, house: House, number: int) -> None:
        self.path = folder / f"lmtp-{number}.sock"
        self.number = number
        self.house = house
        self.folder = folder

    async def start(self) -> None:
        self.backend = self.house.backend()
        self.backend.start()
        await self.backend.audience(f"mailbox-{self.number}.test")
        self.store = Store(SqliteEngine(), self.backend.mailbox, self.backend, process=f"mailbox-{self.number}.test",
                           clock=SystemClock())
        await self.store.mount(f"db{self.number}", self.folder / f"db{self.number}.sqlite")
        await self.listen()

    async def listen(self) -> None:
        self.server = LmtpServer(self.store, admit=lambda peer: True)
        await self.server.serve(bound(self.path))

    async def close(self) -> None:
        await self.server.close()
        await self.store.close()


def bound(path: Path) -> socket.socket:
    """A listening Unix socket."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(1000)
    return sock


class PostOffice:
    """Everything that moves mail. Change `limits`, `schedule`, `patience` before start()."""

    def __init__(self, folder: Path, house: House) -> None:
        self.folder = folder
        self.house = house
        self.limits = SMALL
        self.schedule = Schedule(seconds=(0.05, 0.1, 0.2), give_up_ms=1000, tries=3)
        self.patience = 1.0
        self.per_hour = 0
        self.check: Check | None = None
        self.sender: Send | None = None
        self.clock = SystemClock()
        self.clients: list[Client] = []
        self.health: dict[str, str] = {}
        self.poison: list[int] = []
        self.doubts: list[SqlError] = []

    async def start(self) -> None:
        self.mailboxes = {number: Mailboxes(self.folder, self.house, number) for number in (1, 2)}
        for one in self.mailboxes.values():
            await one.start()
        await self.start_transport()
        await self.start_front()

    async def start_transport(self) -> None:
        self.backend = self.house.backend()
        self.backend.start()
        verifier = await self.backend.verifier("transport.test", "submit")
        folder = self.folder / "queue"
        folder.mkdir(exist_ok=True)
        self.queue = await Queue.open(SqliteEngine(), folder / "queue.sqlite", self.backend, self.clock,
                                      process="transport.test", on_doubt=self.doubts.append, schedule=self.schedule)
        self.tracking = Tracking(folder / "tracking", self.clock, self.health.__setitem__)
        self.into = IntoMailbox(lambda backend: self.folder / f"lmtp-{backend[-1]}.sock", lambda peer: True,
                                self.patience)
        self.pressure = Pressure(folder, self.health.__setitem__, reserve=1 << 20)
        self.pipeline = Pipeline(self.backend, self.into, self.queue, self.tracking, self.pressure, self.clock,
                                 Metrics(), host=HOST, sender=self.sender, check=self.check)
        common = {"admit": lambda peer: True, "host": HOST, "limit": self.limits.message,
                  "recipients": self.limits.recipients}
        self.relay = HopServer(self.pipeline.accept, self.clock, **common,
                               rate=Rate(self.clock, self.limits.messages_per_minute, MINUTE))
        self.submit = HopServer(self.pipeline.accept, self.clock, verifier=verifier,
                                may_send_as=self.backend.may_send_as,
                                rate=Rate(self.clock, self.per_hour, HOUR), **common)
        self.backend.on_revoked(self.submit.revoke)
        loop = asyncio.get_running_loop()
        self.servers = [await loop.create_unix_server(self.relay, sock=bound(self.folder / "smtp.sock")),
                        await loop.create_unix_server(self.submit, sock=bound(self.folder / "submit.sock"))]
        self.lanes = Lanes(self.pipeline, self.queue, self.tracking, self.clock, self.poison.append)
        self.retries = asyncio.create_task(self.lanes.run())

    async def start_front(self) -> None:
        cert, key = certificate(self.folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.trust = ssl.create_default_context(cafile=str(cert))
        self.sign_in = self.house.sign_in()
        self.metrics = Metrics()
        self.front = SmtpFront(self.sign_in, self.folder / "smtp.sock", self.folder / "submit.sock", lambda: context,
                               self.clock, host=HOST, limits=self.limits, metrics=self.metrics,
                               trust=lambda peer: True)
        admission = Admission(self.clock, 1000, Rates(1000, 1000, 1000))
        self.listeners, self.ports = [], {}
        for name, factory, tls in (("smtp", self.front.relay, None), ("submission", self.front.submission, None),
                                   ("submissions", self.front.submissions, lambda: context)):
            sock = socket.create_server(("127.0.0.1", 0), backlog=1000)
            self.ports[name] = sock.getsockname()[1]
            listener = Listener(sock, factory, admission, tls=tls)
            listener.start()
            self.listeners.append((listener, sock))

    # -- clients

    async def connect(self, port: str = "smtp", *, hello: bool = True) -> Client:
        """Greeted, EHLO said."""
        context = self.trust if port == "submissions" else None
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[port], ssl=context, limit=1 << 20)
        client = Client(reader, writer)
        self.clients.append(client)
        assert (await client.reply()).startswith(b"220 ")
        if hello:
            assert (await client.say(b"EHLO client.example")).startswith(b"250-")
        return client

    async def signed_in(self, name: str = "alice", port: str = "submissions") -> Client:
        """A person's submission session."""
        from base64 import b64encode

        from tests.directory.conftest import PASSWORD

        client = await self.connect(port)
        if port == "submission":
            await client.tls(self.trust)
        answer = await client.say(b"AUTH PLAIN " + b64encode(f"\0{name}@example.test\0".encode() + PASSWORD))
        assert answer.startswith(b"235 "), answer
        return client

    # -- what became of it

    async def held(self, name: str = "alice", path: str = "INBOX") -> list[bytes]:
        """The messages of a folder."""
        info = await self.backend.mailbox_of(f"{name}@example.test")
        assert info is not None
        store = self.mailboxes[int(info.database[-1])].store
        access = await store.open(MailboxId(info.mailbox), info.user)  # type: ignore[arg-type]
        folder = access.folder(path)
        return [bytes(access.row_blob(row)) for row in access.rows(folder, 1, 2**32 - 1, Want.HOT, limit=10_000)]

    async def wait_empty(self, seconds: float = 5.0) -> None:
        """Until the queue is empty."""
        for _ in range(int(seconds / 0.02)):
            if not self.queue.depth():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"still waiting: {self.queue.waiting()}")

    async def stop_transport(self) -> None:
        self.retries.cancel()
        for server in self.servers:
            server.close()
        await asyncio.gather(self.relay.drain(1), self.submit.drain(1))
        self.pressure.close()
        self.into.close()
        await self.queue.close()
        await self.tracking.close()

    async def close(self) -> None:
        for client in self.clients:
            client.close()
        for listener, sock in self.listeners:
            listener.stop()
            sock.close()
        await self.front.drain(0)
        await self.stop_transport()
        for one in self.mailboxes.values():
            await one.close()


def limits(**changes: object) -> Limits:
    """The tests' limits, some of them changed."""
    return replace(SMALL, **changes)  # type: ignore[arg-type]
