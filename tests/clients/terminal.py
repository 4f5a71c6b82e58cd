"""terminal(7): run a program that insists on a terminal: a pty of 160 x 50, read until the program ends."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

from tests.clients.mailsite import dies_with_us


class Terminal:
    """A program on a pty; what it writes is kept."""

    def __init__(self, command: list[str], home: Path, env: dict[str, str] | None = None) -> None:
        home.mkdir(parents=True, exist_ok=True)
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        full = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm",
            "USER": "somebody",
            **(env or {}),
        }
        self.command = command
        self.master, self.said = master, b""
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=full,
            cwd=home,
            start_new_session=True,
            preexec_fn=dies_with_us,
        )
        os.close(slave)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def pump(self, seconds: float) -> None:
        """Read for at most so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not select.select([self.master], [], [], left)[0]:
                return
            try:
                self.said += os.read(self.master, 65536)
            except OSError:
                return

    def end(self, seconds: float = 40) -> int:
        """Wait for the program's own end; fails with the last screen when it does not come."""
        until = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < until, (
                f"{self.command} did not end:\n{self.said[-3000:].decode(errors='replace')}"
            )
            self.pump(0.2)
        return self.process.returncode

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
