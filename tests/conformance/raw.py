"""A socket over TLS and nothing else: bytes out, lines and counted octets in.

In     a port of an island. Out  exactly what it says, byte for byte. Fails  Closed at the end, TimeoutError when it is mute.
"""

from __future__ import annotations

import socket
import ssl

HOST = "localhost"
SECONDS = 15.0


class Closed(Exception):
    """The server closed the connection."""


class Wire:
    """One connection. secure: TLS from the first octet."""

    def __init__(self, port: int, tls: ssl.SSLContext, *, secure: bool = True) -> None:
        self._tls = tls
        self.sock: socket.socket = socket.create_connection((HOST, port), SECONDS)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure:
            self.upgrade()
        self._buf = bytearray()

    def upgrade(self) -> None:
        """Begin TLS now."""
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=HOST)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def _more(self) -> None:
        try:
            data = self.sock.recv(1 << 16)
        except (ConnectionError, ssl.SSLError) as error:
            raise Closed(str(error)) from None
        if not data:
            raise Closed(bytes(self._buf).decode("latin-1"))
        self._buf += data

    def line(self) -> bytes:
        """To the next CRLF, without it. A bare LF or CR in it is a fault of the server's."""
        while (end := self._buf.find(b"\r\n")) < 0:
            self._more()
        line = bytes(self._buf[:end])
        del self._buf[: end + 2]
        assert b"\n" not in line, line
        assert b"\r" not in line, line
        return line

    def octets(self, count: int) -> bytes:
        while len(self._buf) < count:
            self._more()
        data = bytes(self._buf[:count])
        del self._buf[:count]
        return data

    def quiet(self, seconds: float = 0.15) -> bool:
        """Does it say nothing for so long?"""
        if self._buf:
            return False
        self.sock.settimeout(seconds)
        try:
            self._more()
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(SECONDS)
        return False

    def at_end(self) -> bool:
        """Does the server close, with nothing more to say?"""
        try:
            while not self._buf:
                self._more()
        except Closed:
            return True
        return False

    def close(self) -> None:
        self.sock.close()
