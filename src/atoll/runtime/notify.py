"""Words to systemd, and sockets to and from it: sd_notify(3), sd_listen_fds(3) by hand.

Out    one datagram on NOTIFY_SOCKET, when there is one; the listening sockets that a service manager gave us.
Fails  never: a supervisor that nobody listens to runs all the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

FIRST_FD = 3
"""SD_LISTEN_FDS_START."""
WAIT_SECONDS = 1.0
"""A manager that does not read must not stop the island."""


def tell(state: str, sock: socket.socket | None = None, *, wait: float = WAIT_SECONDS) -> None:
    """Send a state ("READY=1"); lines are joined by newlines. sock: goes with it. wait: for room in a full queue."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.settimeout(wait)
        out.connect(address)
        if sock is None:
            out.sendall(state.encode())
        else:
            socket.send_fds(out, [state.encode()], [sock.fileno()])


def store(name: str, sock: socket.socket) -> None:
    """Have a listener kept over a restart of the service (FileDescriptorStoreMax)."""
    tell(f"FDSTORE=1\nFDNAME={name}", sock)


def drop(name: str) -> None:
    """Have it closed."""
    tell(f"FDSTOREREMOVE=1\nFDNAME={name}")


def reloading() -> str:
    """What begins a reload: systemd wants the monotonic time with it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def watchdog_seconds() -> float | None:
    """How often WATCHDOG=1 is due (half of what systemd waits), or None."""
    value = os.environ.get("WATCHDOG_USEC", "")
    if not value.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(value) / 2e6


def passed(environ: MutableMapping[str, str]) -> list[tuple[str, socket.socket]]:
    """(name, listening TCP socket) for each that we were started with: by a .socket unit, or out of the store. Once."""
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    found = []
    for number in range(int(count)):
        try:
            sock = socket.socket(fileno=FIRST_FD + number)
            sock.set_inheritable(False)
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            continue  # no socket
        if listens and sock.family in (socket.AF_INET, socket.AF_INET6):
            found.append((names[number] if number < len(names) else "", sock))
        else:
            sock.close()
    return found
