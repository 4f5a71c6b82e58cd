"""The listening sockets of an island: bound once, by the supervisor, and kept open while roles come and go.

In     addresses, paths, the group that may enter a socket's directory.
Out    bound and listening sockets: a connect while a role restarts waits in the backlog and is not refused.
Spec   PROCESSES 3, 10; docs/seams.md 1.
Fails  BindError with a sentence for the operator.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path

BACKLOG = 4096
"""Waiting connections per listener; the kernel cuts it to net.core.somaxconn."""
AGAIN_SECONDS = 0.05
MAX_UNIX_PATH = 107
"""sun_path holds 108 bytes with its NUL, unix(7)."""


class BindError(Exception):
    """A listener cannot be had; str() is for the operator."""


def bind_tcp(name: str, address: str, port: int, patience: float = 0.0) -> socket.socket:
    """A listening TCP socket. "::" takes IPv4 as well, and falls back to it on a machine without IPv6.

    patience: seconds to wait for a port that is in use; for processes of ours that have not ended yet.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if address == "::" and error.errno == errno.EAFNOSUPPORT:
            return bind_tcp(name, "0.0.0.0", port, patience)  # noqa: S104 - the operator asked for every address
        raise BindError(f"{name}: {error.strerror}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE and patience > 0:
            time.sleep(AGAIN_SECONDS)
            return bind_tcp(name, address, port, patience - AGAIN_SECONDS)
        reasons = {errno.EADDRINUSE: "is in use by another program", errno.EACCES: "needs root (or a --port-offset)",
                   errno.EADDRNOTAVAIL: "is not an address of this machine"}
        why = reasons.get(error.errno or 0, error.strerror)
        raise BindError(f"port {port} of {address} for {name} {why}") from None
    sock.setblocking(False)
    return sock


class Passed:
    """Listeners that a service manager opened or kept for us (runtime.notify.passed); each is taken once."""

    def __init__(self, sockets: Iterable[tuple[str, socket.socket]]) -> None:
        self._left = list(sockets)

    def take(self, address: str, port: int) -> socket.socket | None:
        """The one that listens there, or None."""
        for at, (_, sock) in enumerate(self._left):
            there, number = sock.getsockname()[:2]
            if number == port and there in ((address, "0.0.0.0") if address == "::" else (address,)):  # noqa: S104
                del self._left[at]
                sock.setblocking(False)
                sock.listen(BACKLOG)
                return sock
        return None

    def close(self) -> list[str]:
        """Those that nobody wanted; their names."""
        for _, sock in self._left:
            sock.close()
        return [name for name, _ in self._left if name]


def bind_unix(path: Path, mode: int) -> socket.socket:
    """A listening Unix socket; one that an earlier run left behind is replaced."""
    if len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise BindError(f"the data directory's path is too long: {path} has more than {MAX_UNIX_PATH} bytes")
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(mode)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise BindError(f"{path}: {error.strerror}") from None
    sock.setblocking(False)
    return sock


async def serve_unix(factory: Callable[[], asyncio.BaseProtocol], sock: socket.socket) -> asyncio.Server:
    """Accept on a listener of the supervisor's. Keep the Server: uvloop closes one that is collected."""
    # From Python 3.13 on the loop would unlink the path at the end, which is not ours: the next life needs it.
    return await asyncio.get_running_loop().create_unix_server(factory, sock=sock,  # type: ignore[call-arg]
                                                               backlog=BACKLOG, cleanup_socket=False)


def listen_again(sockets: Iterable[socket.socket]) -> None:
    """Be the process that listens on these once more (SO_PEERCRED): who connects to a dead role's Unix socket finds
    us, whom every role trusts, and waits for its next life in the backlog."""
    for sock in sockets:
        if sock.family == socket.AF_UNIX:
            sock.listen(BACKLOG)


def acknowledge_at_once(transport: asyncio.BaseTransport) -> None:
    """Have the kernel acknowledge what was read now. A client that waits for that before it sends the rest (Nagle's
    algorithm: Python's imaplib, whatever sends the end of a text apart) is held up by 40 ms otherwise, tcp(7)."""
    with contextlib.suppress(OSError):  # no TCP, or gone
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def make_directory(path: Path, mode: int, *, uid: int = -1, gid: int = -1) -> None:
    """A directory with exactly this mode and owner (-1: as it is), whatever the umask says."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if uid != -1 or gid != -1:
        os.chown(path, uid, gid)
    path.chmod(mode)
