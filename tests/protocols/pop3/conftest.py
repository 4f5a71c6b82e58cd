"""POP3 as people meet it: TLS listeners, the frontend's half, the mailbox process's half, a directory; one process."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from atoll.base.clock import SystemClock
from atoll.protocols.pop3.limits import Limits
from atoll.protocols.pop3.proxy import Pop3Proxy
from atoll.protocols.pop3.server import Pop3Server
from atoll.runtime.admission import Admission, Rates
from atoll.runtime.listen import Listener
from tests.directory.conftest import PASSWORD, House
from tests.protocols.pop3.mailboxes import Mailboxes


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.joinpath("cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    folder.joinpath("key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


class Client:
    """One connection that says bytes and reads answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, *lines: bytes) -> bytes:
        """Send lines in one piece, read one answer line."""
        self.writer.write(b"".join(line + b"\r\n" for line in lines))
        return await self.line()

    async def line(self) -> bytes:
        return await asyncio.wait_for(self.reader.readline(), 10)

    async def text(self) -> bytes:
        """The rest of a multi-line answer, as it came."""
        return await asyncio.wait_for(self.reader.readuntil(b".\r\n"), 10)

    async def ask(self, line: bytes) -> bytes:
        """A multi-line answer, unstuffed."""
        assert (await self.say(line)).startswith(b"+OK")
        out = []
        while (got := await self.line()) != b".\r\n":
            assert got
            out.append(got[1:] if got.startswith(b".") else got)
        return b"".join(out)

    async def ended(self) -> bool:
        """Did the other side close, with nothing more said?"""
        return await asyncio.wait_for(self.reader.read(), 10) == b""

    async def close(self) -> None:
        self.writer.close()


class Pop:
    """alice's and bob's POP3 on real ports."""

    def __init__(self, folder: Path, house: House) -> None:
        self.folder = folder
        self.house = house
        self.clients: list[Client] = []
        self.limits = Limits()

    async def start(self) -> None:
        clock = SystemClock()
        backend = self.house.backend()
        backend.start()
        self.backend_client = backend
        self.mailboxes = Mailboxes(self.folder, backend)
        verifier = await backend.verifier("mailbox-1.test", "pop3")
        await self.mailboxes.start()
        self.server = Pop3Server(self.mailboxes.store, verifier, clock, admit=lambda peer: True, limits=self.limits)
        backend.on_revoked(self.server.revoke)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(self.folder / "pop-1.sock"))
        sock.listen()
        await self.server.serve(sock)
        self.cert, key = certificate(self.folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, key)
        sign_in = self.house.sign_in()
        self.proxy = Pop3Proxy(sign_in, lambda name: self.folder / "pop-1.sock", lambda: context)
        admission = Admission(clock, 1000, Rates(open_unauthenticated=1000, new_per_second=1000, burst=1000))
        self.clear_port, self.clear = self._listen(Listener, self.proxy.clear, admission)
        self.tls_port, self.tls = self._listen(Listener, self.proxy.secure, admission, tls=lambda: context)

    @staticmethod
    def _listen(kind, factory, admission, **options) -> tuple[int, Listener]:
        sock = socket.create_server(("127.0.0.1", 0))
        listener = kind(sock, factory, admission, **options)
        listener.start()
        return sock.getsockname()[1], listener

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.cert))

    async def connect(self, *, tls: bool = True) -> Client:
        if tls:
            streams = await asyncio.open_connection("127.0.0.1", self.tls_port, ssl=self.client_context())
        else:
            streams = await asyncio.open_connection("127.0.0.1", self.clear_port)
        client = Client(*streams)
        self.clients.append(client)
        assert (await client.line()).startswith(b"+OK")
        return client

    async def sign_in(self, name: bytes = b"alice") -> Client:
        client = await self.connect()
        assert (await client.say(b"USER %b@example.test" % name)).startswith(b"+OK")
        answer = await client.say(b"PASS " + PASSWORD)
        assert answer.startswith(b"+OK"), answer
        return client

    async def put(self, *messages: bytes, name: str = "alice") -> list[int]:
        """Into the INBOX."""
        info = await self.backend_client.mailbox_of(f"{name}@example.test")
        assert info is not None
        return await self.mailboxes.put(info.mailbox, info.user, messages)

    async def inbox(self, name: str = "alice") -> list[tuple[int, int]]:
        """(uid, flags) of what is there."""
        info = await self.backend_client.mailbox_of(f"{name}@example.test")
        assert info is not None
        return await self.mailboxes.inbox(info.mailbox, info.user)

    async def put_many(self, count: int) -> None:
        """The same small message so many times."""
        for at in range(0, count, 5000):
            await self.put(*[b"Subject: x\r\n\r\nbody\r\n"] * min(count - at, 5000))

    async def expunge(self, uid: int) -> None:
        """As another client of alice's would."""
        info = await self.backend_client.mailbox_of("alice@example.test")
        assert info is not None
        await self.mailboxes.expunge(info.mailbox, info.user, [uid])

    async def all_ended(self) -> None:
        """Wait until the mailbox process's half has no session."""
        async with asyncio.timeout(10):
            while self.server.sessions():
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        self.clear.stop()
        self.tls.stop()
        for client in self.clients:
            await client.close()
        await self.proxy.drain(0)
        await self.server.close()
        await asyncio.sleep(0.01)
        await self.mailboxes.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    await house.start()
    await house.people()
    yield house
    await house.close()


@pytest.fixture
async def pop(tmp_path: Path, house: House) -> AsyncIterator[Pop]:
    pop = Pop(tmp_path, house)
    await pop.start()
    yield pop
    await pop.close()
