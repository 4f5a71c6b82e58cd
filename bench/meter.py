"""meter(7): what a server used while it was measured: CPU time of all its processes, and their memory.

In:    processes started through `Group.spawn`: an accounting group of the kernel, or their trees.
Out:   CPU seconds (nanosecond counter of the group, or clock ticks), memory in bytes as RSS, PSS and private.
Fails: raises OSError where /proc or the group cannot be read.
Not:   what the kernel does on nobody's account (softirq, writeback threads).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TICK = os.sysconf("SC_CLK_TCK")
V1, V2 = Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """Sums over the processes of one server, in bytes."""

    processes: int
    rss: int
    pss: int
    private: int


class Group:
    """All processes of one server. Without root (or without cgroups) it counts the trees below what it spawned."""

    def __init__(self, name: str) -> None:
        self.name = f"atoll-bench-{os.getpid()}-{name}"
        self.roots: list[int] = []
        self.path: Path | None = None
        self.open()

    def open(self) -> None:
        """Make the group (again)."""
        self.roots.clear()
        path = (V1 if V1.is_dir() else V2) / self.name
        try:
            path.mkdir(exist_ok=True)
            self.path = path
        except OSError:
            self.path = None

    def spawn(self, command: list[str], **more: Any) -> subprocess.Popen[bytes]:
        """Start a process inside the group; its children are born there."""
        procs = str(self.path / "cgroup.procs") if self.path else ""

        def enter() -> None:
            if procs:
                handle = os.open(procs, os.O_WRONLY)
                os.write(handle, b"0")
                os.close(handle)

        process = subprocess.Popen(command, preexec_fn=enter, **more)
        self.roots.append(process.pid)
        return process

    def cpu(self) -> float:
        """Seconds of CPU used until now by all processes, the dead ones included."""
        if self.path:
            usage = self.path / "cpuacct.usage"
            if usage.exists():
                return int(usage.read_text()) / 1e9
            return int((self.path / "cpu.stat").read_text().split()[1]) / 1e6
        total = 0
        for pid in self.pids():
            fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) if fields else 0
        return total / TICK

    def by_role(self) -> dict[str, float]:
        """Seconds of CPU of each living process, by its role in an island, else by its command's name."""
        found: dict[str, float] = {}
        for pid in self.pids():
            fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            words = read(f"/proc/{pid}/cmdline").rstrip("\0").split("\0")
            if fields and words[0]:
                name = words[-1] if "-m" in words else Path(words[0]).name
                name = "supervisor" if name.startswith("--") or "serve" in words else name
                found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / TICK
        return found

    def pids(self) -> list[int]:
        if self.path:
            return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                fields = read(f"/proc/{entry.name}/stat").rpartition(")")[2].split()
                children.setdefault(int(fields[1]) if fields else 0, []).append(int(entry.name))
        found, todo = [], list(self.roots)
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo.extend(children.get(pid, ()))
        return found

    def memory(self) -> Memory:
        sums, count = dict.fromkeys(("Rss", "Pss", "Private_Clean", "Private_Dirty"), 0), 0
        for pid in self.pids():
            text = read(f"/proc/{pid}/smaps_rollup")
            count += bool(text)
            for line in text.splitlines():
                key, _, value = line.partition(":")
                if key in sums:
                    sums[key] += int(value.split()[0]) * 1024
        return Memory(count, sums["Rss"], sums["Pss"], sums["Private_Clean"] + sums["Private_Dirty"])

    def end(self) -> None:
        """Stop what is left and remove the group."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.pids():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            deadline = time.monotonic() + 5
            while self.pids() and time.monotonic() < deadline and self.path:
                time.sleep(0.05)
        if self.path:
            # the kernel empties a group a moment after its last process has gone
            for _ in range(50):
                try:
                    self.path.rmdir()
                    return
                except OSError:
                    time.sleep(0.1)


class Span:
    """`with Span(group) as s: ...`; then s.wall, s.cpu (the server's), s.gen (the generator's own CPU), in seconds."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def __enter__(self) -> Span:
        self.r0 = self.group.by_role()
        self.c0, self.g0, self.t0 = self.group.cpu(), time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.wall = time.perf_counter() - self.t0
        self.gen = time.process_time() - self.g0
        self.cpu = self.group.cpu() - self.c0

    def roles(self, n: int) -> dict[str, float]:
        """CPU of each process per operation, in ms: {"frontend-1_cpu_ms": 0.2}; asked right after the span."""
        now = self.group.by_role()
        used = {name: now[name] - self.r0.get(name, 0.0) for name in now}
        return {
            f"{name}_cpu_ms": seconds * 1e3 / n for name, seconds in sorted(used.items()) if seconds * 1e3 / n > 0.001
        }


def read(path: str) -> str:
    """A file of /proc, or nothing when its process has gone."""
    try:
        with open(path) as handle:
            return handle.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
