"""A whole island for end-to-end tests: started as people start it, on ports of its own, in a folder of its own.

In     a folder (short: Unix sockets allow 107 bytes), lines for atoll.toml, variables for its environment.
Out    a running supervisor with its roles; what demo.json says; signals to roles by name; the log.
Fails  IslandError with the end of the log when it does not become ready, or does not stop.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
PORTS = (25, 110, 143, 465, 587, 993, 995, 8080)
READY_SECONDS = 30.0
STOP_SECONDS = 40.0
OFFSETS = range(11000, 24000)
"""Below 32768, where the kernel takes ports of outgoing connections from."""


class IslandError(Exception):
    """It did not do what a test relies on."""


def free_offset() -> int:
    """A port offset whose ports are free now."""
    while True:
        offset = random.choice(OFFSETS)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in PORTS:
                sock = stack.enter_context(socket.socket())
                sock.bind(("127.0.0.1", port + offset))
            return offset


class Island:
    """As a context manager: started at its beginning, stopped at its end.

    config: TOML appended to the demo's atoll.toml. environment: for the supervisor and its roles.
    """

    def __init__(self, folder: Path | None = None, *, config: str = "", environment: Mapping[str, str] | None = None,
                 single_process: bool = False, ready_seconds: float = READY_SECONDS) -> None:
        self._own = folder is None
        # pytest's folders are long: the sockets of an island there would have names that are too long.
        self.data = Path(tempfile.mkdtemp(prefix="atoll-", dir="/tmp")) if folder is None or len(str(folder)) > 60 \
            else folder
        self._remove = self.data != folder
        self.data.mkdir(parents=True, exist_ok=True)
        self.log_path = self.data / "island.log"
        self.config = config
        self.environment = dict(environment or {})
        self.single_process = single_process
        self.offset = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._ready_seconds = ready_seconds

    # -- life --------------------------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def start(self, *, wait: bool = True) -> None:
        """Start it; a port that another test took in the meantime is a reason to try others."""
        for _ in range(5):
            if not self.offset:
                self.offset = free_offset()
                self._write_config()
            self._spawn()
            if not wait:
                return
            try:
                self.wait_ready()
                return
            except IslandError:
                if "is in use by another program" not in self.log():
                    raise
                self.offset = 0
        raise IslandError("no free ports")

    def _write_config(self) -> None:
        from atoll.runtime import demo

        path = self.data / "atoll.toml"
        path.unlink(missing_ok=True)
        demo.write_config(path, self.offset)
        if self.config:
            path.write_text(merged(path.read_text("utf-8"), self.config), "utf-8")

    def _spawn(self) -> None:
        arguments = [sys.executable, "-P", "-m", "atoll.roles.supervisor", "--data", str(self.data), "--demo"]
        if self.single_process:
            arguments.append("--single-process")
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **self.environment}
        with self.log_path.open("ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            env=environment, start_new_session=True)

    def wait_ready(self, seconds: float | None = None) -> None:
        """Until every role is ready and every port has answered."""
        assert self.process is not None
        deadline = time.monotonic() + (seconds or self._ready_seconds)
        while "Atoll is ready" not in self.log():
            if self.process.poll() is not None:
                raise IslandError(f"the supervisor ended with {self.process.returncode}:\n{self.log()[-3000:]}")
            if time.monotonic() > deadline:
                raise IslandError(f"not ready in time:\n{self.log()[-3000:]}")
            time.sleep(0.02)

    def stop(self, *, seconds: float = STOP_SECONDS) -> int:
        """Ask it to stop, as systemd would; the exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.crash()
            raise IslandError(f"did not stop in time:\n{self.log()[-3000:]}") from None

    def restart(self) -> None:
        """Stop and start, on the same ports."""
        self.stop()
        self.start()

    def crash(self) -> None:
        """The whole island at once, as a power cut does: SIGKILL to the supervisor and every role."""
        if self.process is None:
            return
        pids = [*self.pids().values(), self.process.pid]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        _gone(pids)

    def close(self) -> None:
        """End it, whatever state it is in; remove a folder that we made."""
        if self.process is not None and self.process.poll() is None:
            # Twice: tests do not wait for sessions that they left open.
            self.process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.crash()
        if self._remove:
            shutil.rmtree(self.data, ignore_errors=True)

    # -- what is in it -----------------------------------------------------------------------------------------------
    @property
    def demo(self) -> dict[str, Any]:
        """DATA/demo.json."""
        card: dict[str, Any] = json.loads((self.data / "demo.json").read_text("utf-8"))
        return card

    @property
    def ports(self) -> dict[str, int]:
        """Service -> port."""
        ports: dict[str, int] = self.demo["ports"]
        return ports

    @property
    def domain(self) -> str:
        return str(self.demo["domain"])

    def password(self, address: str) -> str:
        """Of a demo account: "alice" or "alice@example.test"."""
        wanted = address if "@" in address else f"{address}@{self.domain}"
        return next(str(one["password"]) for one in self.demo["accounts"] if one["address"] == wanted)

    def tls(self) -> ssl.SSLContext:
        """A client's context that trusts the island's authority and nobody else."""
        return ssl.create_default_context(cafile=self.demo["ca"])

    def log(self) -> str:
        """What it said since its last start."""
        with self.log_path.open("rb") as file:
            file.seek(self.log_start)
            return file.read().decode("utf-8", "replace")

    def events(self) -> Iterator[dict[str, Any]]:
        """The log's records since the last start."""
        for line in self.log().splitlines():
            if line.startswith("{"):
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    # -- its processes -----------------------------------------------------------------------------------------------
    def pids(self) -> dict[str, int]:
        """Role name -> pid of those that run now."""
        assert self.process is not None
        found: dict[str, int] = {}
        for pid in _children(self.process.pid):
            name = _role_name(pid)
            if name:
                found[name] = pid
        return found

    def kill(self, role: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a role ("mailbox-1", "directory"); its pid."""
        pid = self.pids()[role]
        os.kill(pid, number)
        return pid

    def wait_back(self, role: str, pid: int, seconds: float = 10.0) -> float:
        """Until another process than `pid` is this role and is ready; the seconds that took."""
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            if self.pids().get(role, pid) != pid and self.healthz().get(role) == "ok":
                return time.monotonic() - begin
            time.sleep(0.02)
        raise IslandError(f"{role} is not back after {seconds} s:\n{self.log()[-3000:]}")

    def healthz(self) -> dict[str, str]:
        """Role -> state of its process, from /healthz."""
        return {row["role"]: row["state"] for row in self.health()["rows"] if row["name"] == "process"}

    def health(self) -> dict[str, Any]:
        """/healthz."""
        answer: dict[str, Any] = json.loads(self.http("/healthz"))
        return answer

    def http(self, path: str) -> bytes:
        """The body of a page of the health port, whatever the status."""
        with socket.create_connection(("127.0.0.1", self.ports["health"]), 5) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            data = b""
            while chunk := sock.recv(65536):
                data += chunk
        return data.partition(b"\r\n\r\n")[2]


def merged(base: str, extra: str) -> str:
    """Two TOML texts as one: lines of a [section] that both have go into the first one's."""
    sections: dict[str, list[str]] = {"": []}
    arrays: list[str] = []
    for text in (base, extra):
        target = sections[""]
        for line in text.splitlines():
            head = line.strip()
            if head.startswith("[["):
                target = arrays
                arrays.append(line)
            elif head.startswith("["):
                target = sections.setdefault(head, [])
            elif head and not head.startswith("#"):
                key = head.partition("=")[0].strip()
                if target is not arrays:
                    target[:] = [old for old in target if old.partition("=")[0].strip() != key]
                target.append(line)
    lines = sections.pop("")
    for head, body in sections.items():
        lines += [head, *body]
    return "\n".join([*lines, *arrays]) + "\n"


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _role_name(pid: int) -> str:
    """The last word of its command line, if it is a role."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return words[-2].decode() if any(word.startswith(b"atoll.roles.") for word in words) else ""


def alive(pid: int) -> bool:
    """Whether it still holds locks, ports or files: a zombie whose threads have ended too does not, however long
    nobody reaps it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z" or fields[17] != "1"  # state, num_threads: proc_pid_stat(5)


def _gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
