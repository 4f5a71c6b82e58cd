"""knot(8): an authoritative name server on a loopback port, with the zones that a test writes.

In:    the packages of `make test-deps`; zones as master files [RFC 1035 §5].
Out:   `Knot`: an address that a resolver can be told; `set()` changes a zone while it runs.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.clients.mailsite import dies_with_us

SETTINGS = """server:
    rundir: {folder}
    listen: 127.0.0.1@{port}
database:
    storage: {folder}
template:
  - id: default
    storage: {folder}
    file: "%s.zone"
    zonefile-load: difference-no-serial
    journal-content: all
zone:
"""


class Knot:
    """`with Knot(command, folder, {"outside.example": "@ MX 10 mail\\n..."}) as names`."""

    def __init__(self, command: str, folder: Path, zones: dict[str, str]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        self._command = command
        self._serial = 0
        for zone, records in zones.items():
            self._write(zone, records)
        text = SETTINGS.format(folder=folder, port=self.port) + "".join(f"  - domain: {zone}\n" for zone in zones)
        (folder / "knot.conf").write_text(text)

    @property
    def address(self) -> str:
        """As a setting names it."""
        return f"127.0.0.1:{self.port}"

    def _write(self, zone: str, records: str) -> None:
        self._serial += 1
        head = f"$ORIGIN {zone}.\n$TTL 1\n@ SOA ns hostmaster {self._serial} 60 60 600 1\n@ NS ns\nns A 127.0.0.1\n"
        (self.folder / f"{zone}.zone").write_text(head + records)

    def set(self, zone: str, records: str) -> None:
        """A zone has these records from now on."""
        self._write(zone, records)
        self.process.send_signal(signal.SIGHUP)

    def __enter__(self) -> Knot:
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen([self._command, "-c", str(self.folder / "knot.conf")],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                            preexec_fn=dies_with_us)
        deadline = time.monotonic() + 20
        while "server started" not in (self.folder / "log").read_text(errors="replace"):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError((self.folder / "log").read_text(errors="replace"))
            time.sleep(0.02)
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.terminate()
        self.process.wait(20)
