"""Words to systemd: sd_notify(3) by hand.

Out    one datagram on NOTIFY_SOCKET, when there is one.
Fails  never: a supervisor that nobody listens to runs all the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time


def tell(state: str) -> None:
    """Send a state ("READY=1"); lines are joined by newlines."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect(address)
        sock.sendall(state.encode())


def reloading() -> str:
    """What begins a reload: systemd wants the monotonic time with it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def watchdog_seconds() -> float | None:
    """How often WATCHDOG=1 is due (half of what systemd waits), or None."""
    value = os.environ.get("WATCHDOG_USEC", "")
    if not value.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(value) / 2e6
