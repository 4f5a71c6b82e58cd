"""wire(7): clients that cost little: they look for the end of an answer and count bytes, and parse nothing.

In:    an address, a login, TLS always on IMAP (people use it) and on request elsewhere.
Out:   `Imap` and `Smtp` (asyncio, hundreds at once), `BulkImap` (blocking, for answers of hundreds of megabytes).
Fails: ConnectionError when the server closes, Refused with the server's line when an answer is not the wanted one.
Not:   a client library: tests/ has real clients.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import cast

HOST = "127.0.0.1"


class Refused(Exception):
    """The server's answer was not OK; the text is what was asked and its line."""


def tls() -> ssl.SSLContext:
    """A client context that encrypts and does not check names: the cost is the same, and both sides have own CAs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


TLS = tls()


class Imap(asyncio.Protocol):
    """Awaitable IMAP session: bytes are counted until the tagged line; the last 4 KB are kept."""

    KEEP = 4096

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.tail, self.bytes, self.n, self.tag = b"", 0, 0, b"* OK"
        self.waiter: asyncio.Future[bytes] | None = self.loop.create_future()
        self.greeting = self.waiter
        self.on_data: Callable[[bytes], None] | None = None
        self.closed = self.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        self.tail = (self.tail + data)[-self.KEEP :]
        if self.on_data:
            self.on_data(data)
        if self.waiter and not self.waiter.done() and self.tail.endswith(b"\r\n"):
            last = self.tail[self.tail.rfind(b"\r\n", 0, -2) + 2 :] if b"\r\n" in self.tail[:-2] else self.tail
            if last.startswith((self.tag, b"+ ")):
                self.waiter.set_result(last)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        if self.waiter and not self.waiter.done():
            self.waiter.set_exception(ConnectionError(f"closed: {self.tail[-200:]!r}"))

    async def _send(self, line: bytes, what: bytes) -> bytes:
        self.n += 1
        self.tag = tag = b"zq%d" % self.n
        self.tail, self.bytes = b"", 0
        self.waiter = self.loop.create_future()
        self.transport.write(tag + b" " + line + b"\r\n")
        last = await self.waiter
        if not last.startswith((tag + b" OK", b"+ ")):
            raise Refused(f"{what!r}: {last!r}")
        return self.tail

    async def cmd(self, line: bytes) -> bytes:
        """One command; returns the end (≤ 4 KB) of its answer."""
        return await self._send(line, line[:80])

    async def append(self, folder: bytes, data: bytes, flags: bytes = b"(\\Seen)") -> bytes:
        return await self._send(b"APPEND %s %s {%d+}\r\n%s" % (folder, flags, len(data), data), b"APPEND")

    async def idle(self) -> None:
        await self._send(b"IDLE", b"IDLE")
        self.waiter = None

    def close(self) -> None:
        self.transport.close()


async def imap(port: int, login: tuple[str, str], folder: str = "", source: str = "") -> Imap:
    """A signed-in session over implicit TLS."""
    local = (source, 0) if source else None
    _, session = await asyncio.get_running_loop().create_connection(Imap, HOST, port, ssl=TLS, local_addr=local)
    await session.greeting
    await session.cmd(f'LOGIN "{login[0]}" "{login[1]}"'.encode())
    if folder:
        await session.cmd(b'SELECT "%s"' % folder.encode())
    return session


class BulkImap:
    """Blocking IMAP session over TLS for bulk answers: one big buffer, only the end is looked at."""

    def __init__(self, port: int, login: tuple[str, str], folder: str = "") -> None:
        raw = socket.create_connection((HOST, port))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = TLS.wrap_socket(raw)
        self.buf = bytearray(1 << 20)
        self.view = memoryview(self.buf)
        self.n = self.bytes = 0
        self.kept = b""
        self._until(b"* OK")
        self.cmd(f'LOGIN "{login[0]}" "{login[1]}"'.encode())
        if folder:
            self.cmd(b'SELECT "%s"' % folder.encode(), keep=True)

    def _until(self, tag: bytes, keep: bool = False) -> bytes:
        tail, total, chunks = b"", 0, []
        while True:
            n = self.sock.recv_into(self.buf)
            if not n:
                raise ConnectionError(f"closed: {tail[-300:]!r}")
            total += n
            if keep:
                chunks.append(bytes(self.view[:n]))
            tail = bytes(self.view[n - 4096 : n]) if n >= 4096 else (tail + bytes(self.view[:n]))[-4096:]
            if tail.endswith(b"\r\n"):
                last = tail[tail.rfind(b"\r\n", 0, -2) + 2 :] if b"\r\n" in tail[:-2] else tail
                if last.startswith((tag, b"+ ")):
                    self.bytes, self.kept = total, b"".join(chunks)
                    return last

    def cmd(self, line: bytes, keep: bool = False) -> bytes:
        """One command; with `keep` returns the whole answer."""
        self.n += 1
        tag = b"zq%d" % self.n
        self.sock.sendall(tag + b" " + line + b"\r\n")
        last = self._until(tag, keep)
        if not last.startswith(tag + b" OK"):
            raise Refused(f"{line[:80]!r}: {last!r}")
        return self.kept

    def append(self, folder: str, messages: list[bytes]) -> None:
        """MULTIAPPEND [RFC 3502] with LITERAL+ [RFC 7888]."""
        parts = [b'APPEND "%s"' % folder.encode()]
        parts += [b" {%d+}\r\n" % len(data) + data for data in messages]
        self.cmd(b"".join(parts))

    def create(self, folder: str) -> None:
        """CREATE unless it is there."""
        if b"MESSAGES" not in self._status(folder):
            self.cmd(b'CREATE "%s"' % folder.encode())

    def count(self, folder: str) -> int:
        """Messages in a folder; -1 when there is no such folder."""
        answer = self._status(folder)
        return int(answer.split(b"MESSAGES ")[1].split(b")")[0]) if b"MESSAGES " in answer else -1

    def _status(self, folder: str) -> bytes:
        try:
            return self.cmd(b'STATUS "%s" (MESSAGES)' % folder.encode(), keep=True)
        except Refused:
            return b""

    def close(self) -> None:
        try:
            self.cmd(b"LOGOUT")
        except (ConnectionError, Refused, OSError):
            pass
        self.sock.close()


class Smtp(asyncio.Protocol):
    """Awaitable SMTP or LMTP session: the answers of a pipelined group are awaited together."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.buf, self.need = b"", 0
        self.lines: list[bytes] = []
        self.waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.buf += data
        while (at := self.buf.find(b"\r\n")) >= 0:
            line, self.buf = self.buf[:at], self.buf[at + 2 :]
            self.lines.append(line)
            if line[3:4] != b"-":
                self.need -= 1
                if self.need == 0 and self.waiter and not self.waiter.done():
                    self.waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.waiter and not self.waiter.done():
            self.waiter.set_exception(ConnectionError(f"closed after {self.lines[-1:]!r}"))

    def expect(self, n: int) -> asyncio.Future[None]:
        self.lines, self.need, self.waiter = [], n, self.loop.create_future()
        return self.waiter

    async def ask(self, data: bytes, n: int = 1, code: bytes = b"2") -> list[bytes]:
        wait = self.expect(n)
        self.transport.write(data)
        await wait
        if not self.lines[-1].startswith(code):
            raise Refused(f"{data[:60]!r}: {self.lines!r}")
        return self.lines

    async def send(self, rcpt: bytes, dotted: bytes) -> None:
        """One message: MAIL, RCPT and DATA in one write (PIPELINING), then the text with its dots and its end."""
        await self.ask(b"MAIL FROM:<load@load.example>\r\nRCPT TO:<%s>\r\nDATA\r\n" % rcpt, 3, b"354")
        await self.ask(dotted)

    def quit(self) -> None:
        self.transport.write(b"QUIT\r\n")
        self.transport.close()


async def smtp(port: int) -> Smtp:
    session = Smtp()
    wait = session.expect(1)
    await asyncio.get_running_loop().create_connection(lambda: session, HOST, port)
    await wait
    await session.ask(b"EHLO load.example\r\n")
    return session


def dotted(data: bytes) -> bytes:
    """A message as it goes after DATA."""
    return data.replace(b"\r\n.", b"\r\n..") + b".\r\n"
