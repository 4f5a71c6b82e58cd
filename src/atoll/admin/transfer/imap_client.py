"""admin.transfer.imap_client -- an IMAP client for bulk work, over a blocking socket.

In     where to connect, how to sign in.
Out    responses of commands; commands may be sent ahead of their answers.
Spec   RFC 9051; RFC 7888 (LITERAL+); RFC 8314 (TLS). STARTTLS: whatever came behind its OK in the clear ends it.
Fails  ImapError(text, code): NO or BAD; BadServer; OSError.
Not    a cache of anything; not asyncio: one command line moves one mailbox.
"""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from atoll.admin.transfer.responses import BadServer, Reader, Response, Value

TIMEOUT = 120.0
READ = 256 * 1024


class ImapError(Exception):
    """The server refused. `code` is its response code, upper case, "" without one."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Server:
    """Where to connect. security: "tls" at once, "starttls" required, "none" (a test, or a tunnel)."""

    host: str
    port: int
    security: str = "tls"
    verify: bool = True
    ca_file: str = ""

    def reach(self) -> socket.socket:
        """A connection; OSError that says where to."""
        try:
            return socket.create_connection((self.host, self.port), timeout=TIMEOUT)
        except OSError as error:
            raise ConnectionError(f"{self.host} port {self.port}: {error.strerror or error}") from None

    def tls(self, sock: socket.socket) -> socket.socket:
        """TLS over it, as this server is trusted. ImapError for its certificate."""
        try:
            return self.context().wrap_socket(sock, server_hostname=self.host)
        except ssl.SSLCertVerificationError as error:
            raise ImapError(f"{self.host} shows a certificate that is not trusted ({error.verify_message}): --ca names "
                            "its authority, --no-verify believes any") from None
        except ssl.SSLError as error:
            raise ConnectionError(f"{self.host} port {self.port}: no TLS there ({error.reason})") from None

    def context(self) -> ssl.SSLContext:
        """TLS as asked for: verified against the system's authorities, a file, or not at all."""
        context = ssl.create_default_context(cafile=self.ca_file or None)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class Client:
    """One connection. `on_untagged` sees every untagged response that no caller waits for."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = Reader()
        self._count = 0
        self._waiting: list[bytes] = []
        self._finished: dict[bytes, Response] = {}
        self.capabilities: frozenset[str] = frozenset()

    # connecting

    @classmethod
    def over(cls, sock: socket.socket) -> Client:
        """Over a socket whose other end is known and near: no TLS, and it may sign us in by itself."""
        sock.settimeout(TIMEOUT)
        try:
            client = cls(sock)
            client._greeting(secure=True)
        except BaseException:
            sock.close()
            raise
        return client

    @classmethod
    def unix(cls, path: str) -> Client:
        """To a mailbox process of this island."""
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(path)
        except OSError:
            sock.close()
            raise
        return cls.over(sock)

    @classmethod
    def connect(cls, server: Server) -> Client:
        """To another server."""
        sock = server.reach()
        try:
            if server.security == "tls":
                sock = server.tls(sock)
            client = cls(sock)
            client._greeting(secure=server.security == "tls")
            if server.security == "starttls":
                client._starttls(server)
        except BaseException:
            sock.close()
            raise
        return client

    def _greeting(self, *, secure: bool) -> None:
        greeting = self._read()
        if greeting.name == "BYE":
            raise ImapError(f"refused: {_text(greeting)}", greeting.code)
        if greeting.name == "PREAUTH" and not secure:
            # Without TLS anybody may have said so, to keep us from STARTTLS (CVE-2014-2567 and its kin).
            raise BadServer("signed in before TLS")
        if greeting.name not in ("OK", "PREAUTH"):
            raise BadServer("no IMAP greeting")
        self._capability(greeting)

    def _starttls(self, server: Server) -> None:
        if not self.has("STARTTLS"):
            raise ImapError("the server offers no STARTTLS (imaps:// is for port 993; --insecure goes without TLS)")
        self.run(b"STARTTLS")
        if len(self._reader):
            raise BadServer("data behind STARTTLS in the clear")
        self._sock = server.tls(self._sock)
        self.capabilities = frozenset()

    def close(self) -> None:
        """Say goodbye if that works."""
        try:
            self._sock.settimeout(2)
            self._send(b"%b LOGOUT\r\n" % self._tag())
        except OSError:
            pass
        finally:
            self._sock.close()

    # signing in

    def sign_in(self, user: str, password: bytes, master: str = "") -> None:
        """With a password; `master`: sign in as that administrator, for `user` (SASL PLAIN's authorization id)."""
        self.has("IMAP4REV1")
        if self.has("AUTH=PLAIN") or master:
            identity = user.encode() if master else b""
            words = base64.b64encode(identity + b"\0" + (master or user).encode() + b"\0" + password)
            if self.has("SASL-IR"):
                self.run(b"AUTHENTICATE PLAIN " + words)
            else:
                tag = self.start(b"AUTHENTICATE PLAIN", wait_plus=True)
                self._send(words + b"\r\n")
                self.finish(tag)
        else:
            self.run(b"LOGIN %b %b" % (quoted(user.encode()), quoted(password)))
        self.capabilities = frozenset()

    def token(self, token: str) -> None:
        """With a token of our own directory."""
        self.run(b"AUTHENTICATE ATOLL " + token.encode("ascii"))

    def has(self, capability: str) -> bool:
        """Does the server announce it? Asked once after each change of state."""
        if not self.capabilities:
            for response in self.run(b"CAPABILITY"):
                self._capability(response)
        return capability.upper() in self.capabilities

    def _capability(self, response: Response) -> None:
        if response.name == "CAPABILITY":
            words = [value for value in response.values if isinstance(value, bytes)]
        elif response.code == "CAPABILITY":
            words = response.code_words[1:]
        else:
            return
        self.capabilities = frozenset(word.decode("ascii", "replace").upper() for word in words)

    # commands

    def _tag(self) -> bytes:
        self._count += 1
        return b"A%d" % self._count

    def start(self, command: bytes, *, wait_plus: bool = False) -> bytes:
        """Send a command; its tag. Answers come in this order."""
        tag = self._tag()
        self._send(tag + b" " + command + b"\r\n")
        self._waiting.append(tag)
        while wait_plus:
            response = self._read()
            if response.tag == b"+":
                break
            if response.tag == tag:
                self._waiting.remove(tag)
                raise ImapError(_text(response), response.code)
        return tag

    def stream(self, tag: bytes) -> Iterator[Response]:
        """The untagged responses up to the tagged one, which comes last; ImapError when that is no OK.

        A server may work on several commands at once: what comes here may belong to another one that was started.
        """
        while (response := self._finished.pop(tag, None)) is None:
            got = self._read()
            if got.tag in self._waiting:
                self._finished[got.tag] = got
            elif got.name == "BYE" and got.tag == b"*":
                raise OSError(f"the server ended the connection: {_text(got)}")
            else:
                yield got
        self._waiting.remove(tag)
        if response.name != "OK":
            raise ImapError(_text(response), response.code)
        self._capability(response)
        yield response

    def finish(self, tag: bytes) -> list[Response]:
        """All responses of a command that was started."""
        return list(self.stream(tag))

    def run(self, command: bytes) -> list[Response]:
        """Send and wait."""
        return self.finish(self.start(command))

    def append(self, mailbox: bytes, messages: Callable[[], Iterator[bytes]]) -> Response:
        """APPEND with the message pieces that `messages` gives (flags, dates, literals); the tagged OK."""
        tag = self._tag()
        self._waiting.append(tag)
        buffer = bytearray(tag + b" APPEND " + mailbox)
        for piece in messages():
            buffer += piece
            if len(buffer) > READ:
                self._send(bytes(buffer))
                buffer.clear()
        self._send(bytes(buffer) + b"\r\n")
        return self.finish(tag)[-1]

    # bytes

    def _send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def _read(self) -> Response:
        while (response := self._reader.next()) is None:
            data = self._sock.recv(READ)
            if not data:
                raise OSError("the server closed the connection")
            self._reader.feed(data)
        return response


def quoted(value: bytes) -> bytes:
    """A string for LOGIN; ImapError for what no quoted string holds."""
    if b"\r" in value or b"\n" in value or b"\0" in value:
        raise ImapError("a name or password with line ends cannot be sent")
    return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def pairs_of(value: Value) -> Iterator[tuple[bytes, Value]]:
    """NAME value NAME value ... of a list, names in upper case."""
    if isinstance(value, list):
        for at in range(0, len(value) - 1, 2):
            key = value[at]
            if isinstance(key, bytes):
                yield key.upper(), value[at + 1]


def fetched(response: Response) -> dict[bytes, Value] | None:
    """The items of a FETCH response; None for any other one."""
    if response.name != "FETCH" or not response.values:
        return None
    return dict(pairs_of(response.values[0]))


def uid_set(uids: list[int]) -> bytes:
    """A sequence set of ascending uids."""
    out: list[list[int]] = []
    for uid in uids:
        if out and uid == out[-1][1] + 1:
            out[-1][1] = uid
        else:
            out.append([uid, uid])
    return ",".join(f"{first}:{last}" if last > first else str(first) for first, last in out).encode("ascii")


MAX_NUMBERS = 1_000_000


def numbers_of(text: bytes) -> list[int]:
    """The numbers of a sequence set of a server, in its order; [] for what is none."""
    found: list[int] = []
    for part in text.split(b","):
        first, _, last = part.partition(b":")
        last = last or first
        if not first.isdigit() or not last.isdigit() or int(last) - int(first) + len(found) > MAX_NUMBERS:
            return []
        found.extend(range(int(first), int(last) + 1))
    return found


def _text(response: Response) -> str:
    return response.text.decode("utf-8", "replace")[:300]
