"""An island as a service: what it tells the service manager, what it is given by it, and the unit files [PROCESSES 11].

The service manager here is the test: a datagram socket of its own, the descriptors that were stored, LISTEN_FDS.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.island import ROOT, Island
from tests.roles.people import imap, works

UNITS = ROOT / "packaging" / "systemd"
LAUNCH = """import fcntl, os, sys
fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 100) for fd in sys.argv[1].split(",")]
for number, fd in enumerate(fds):
    os.dup2(fd, 3 + number, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept: dict[str, socket.socket] = {}
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._told: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while True:
            data, fds, _, _ = socket.recv_fds(self._sock, 4096, 4)
            text = data.decode()
            if text.startswith("FDSTORE=1"):
                self.kept[text.partition("FDNAME=")[2]] = socket.socket(fileno=fds[0])
            elif text == "end":
                return
            self._told.put(text)

    def wait(self, wanted: Callable[[str], bool], seconds: float = 20.0) -> str:
        """The first message from now on that is wanted."""
        deadline = time.monotonic() + seconds
        while True:
            text = self._told.get(timeout=max(deadline - time.monotonic(), 0.01))
            if wanted(text):
                return text

    def quiet(self, word: str, seconds: float) -> bool:
        """Whether it is not said for so long, soon."""
        while not self._told.empty():
            self._told.get()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                if self._told.get(timeout=0.05) == word:
                    return False
        return True

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(str(self.path))
            sock.send(b"end")
        self._thread.join()
        for sock in (self._sock, *self.kept.values()):
            sock.close()


@pytest.fixture
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    made = Manager(tmp_path_factory.mktemp("n") / "notify")
    yield made
    made.close()


def service(manager: Manager, **more: str) -> Island:
    return Island(config="[processes]\ndrain_seconds = 0\n", environment={"NOTIFY_SOCKET": str(manager.path), **more})


class Restarted(Island):
    """Started with the descriptors that the manager kept."""

    kept: dict[str, socket.socket]

    def _spawn(self) -> None:
        fds = [sock.fileno() for sock in self.kept.values()]
        arguments = [sys.executable, "-P", "-c", LAUNCH, ",".join(map(str, fds)), ":".join(self.kept), sys.executable,
                     "-P", "-m", "atoll.roles.supervisor", "--data", str(self.data), "--demo"]
        with self.log_path.open("ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL, pass_fds=fds,
                                            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **self.environment})


def test_ready_watchdog_reload_and_stop_are_told(manager: Manager) -> None:
    with service(manager, WATCHDOG_USEC="400000") as island:
        ready = manager.wait(lambda text: text.startswith("READY=1"))
        assert "STATUS=6 processes" in ready
        assert "Atoll is ready" in island.log()
        for _ in range(3):
            manager.wait(lambda text: text == "WATCHDOG=1", 2)
        assert island.process is not None
        island.process.send_signal(signal.SIGHUP)
        begun = manager.wait(lambda text: text.startswith("RELOADING=1"), 5)
        assert abs(int(begun.partition("MONOTONIC_USEC=")[2]) - time.monotonic_ns() // 1000) < 5_000_000
        manager.wait(lambda text: text.startswith("READY=1"), 5)
        assert works(imap(island, "alice"))
        island.process.send_signal(signal.SIGTERM)
        manager.wait(lambda text: text == "STOPPING=1", 5)
        assert island.process.wait(20) == 0


def test_a_supervisor_that_is_stuck_tells_the_watchdog_nothing(manager: Manager) -> None:
    with service(manager, WATCHDOG_USEC="400000") as island:
        manager.wait(lambda text: text.startswith("READY=1"))
        assert island.process is not None
        island.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        assert manager.quiet("WATCHDOG=1", 0.8)
        island.process.send_signal(signal.SIGCONT)
        manager.wait(lambda text: text == "WATCHDOG=1", 2)


def test_the_listeners_outlive_the_service(manager: Manager) -> None:
    first = service(manager)
    second = Restarted(first.data, config="", environment=first.environment)
    try:
        first.start()
        manager.wait(lambda text: text.startswith("READY=1"))
        assert {*manager.kept} == {*first.ports}
        assert first.process is not None
        pids = first.pids()
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
        with socket.create_connection(("127.0.0.1", first.ports["imap"]), 2) as early:
            second.kept, second.offset = manager.kept, first.offset
            second.start()
            early.settimeout(5)
            assert early.recv(100).startswith(b"* OK"), "it came while nobody was there"
        assert works(imap(second, "alice"))
        assert not {*pids.values()} & {*second.pids().values()}
    finally:
        second.close()
        first.close()


def test_a_listener_that_is_not_wanted_any_more_is_given_back(manager: Manager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, socket.socket() as idle:
        island = Restarted(environment={"NOTIFY_SOCKET": str(manager.path)})
        island.kept = {"old": other, "connected": idle}
        with island:
            manager.wait(lambda text: text == "FDSTOREREMOVE=1\nFDNAME=old")
            assert works(imap(island, "bob"))
            if os.geteuid() == 0:  # a role's process is not dumpable: nobody else may read it
                assert "LISTEN_PID" not in Path(f"/proc/{island.pids()['directory']}/environ").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("name", ["atoll.service", "atoll.socket"])
def test_the_units_are_in_order(tmp_path: Path, name: str) -> None:
    for unit in UNITS.glob("atoll.s*"):
        text = unit.read_text("utf-8").replace("/opt/atoll/.venv/bin/atoll", "/bin/true")
        (tmp_path / unit.name).write_text(text, "utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--recursive-errors=no", str(tmp_path / name)],
                          capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_keeps_what_the_supervisor_needs() -> None:
    from atoll.base.config import RunAs
    from atoll.roles import CLIENT_PORTS
    from atoll.roles.sockets import BACK_GROUP
    from atoll.runtime import harden

    unit = (UNITS / "atoll.service").read_text("utf-8")
    kept = next(line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet=")).partition("=")[2]
    names = {name: number for name, number in vars(harden).items() if name.startswith("CAP_")}
    assert {names[name] for name in kept.split() if name != "CAP_SETPCAP"} == harden.SUPERVISOR
    users = (UNITS / "atoll.sysusers").read_text("utf-8")
    for name in (*(getattr(RunAs(), field) for field in RunAs.__struct_fields__), BACK_GROUP):
        assert f" {name} " in users
    ports = (UNITS / "atoll.socket").read_text("utf-8")
    assert {int(line.rpartition(":")[2]) for line in ports.splitlines() if line.startswith("ListenStream")} == {
        *CLIENT_PORTS.values()}
