"""The life of a role: what it is started with, how it says that it is ready, how it is told to stop.

In     a control socket (its descriptor in ATOLL_CONTROL) whose first line is the start message: name, configuration,
       listeners by descriptor, the pid table.
Out    main(ctx) run on uvloop until it returns.
Spec   docs/seams.md 1; PROCESSES 2, 10, 11.
Fails  main raising: logged, exit 1; the supervisor starts the role again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import logging
import os
import resource
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from atoll.base import log
from atoll.base.clock import Clock, SystemClock
from atoll.base.config import Config
from atoll.runtime import handover, harden
from atoll.runtime.control import ControlProtocol, Lines
from atoll.runtime.metrics import Metrics

SWITCH_INTERVAL = 0.0005
"""Seconds between offers of the interpreter lock: a commit thread must not wait 5 ms for it."""

_log = logging.getLogger("atoll.role")


class RoleContext:
    """What a role's main is given."""

    def __init__(self, start: dict[str, Any], listeners: dict[str, socket.socket],
                 send: Callable[[dict[str, Any]], None]) -> None:
        self.name: str = start["name"]
        self.data = Path(start["data"])
        self.config = msgspec.json.decode(start["config"], type=Config)
        self.listeners = listeners
        self.clock: Clock = SystemClock()
        self.start_id = secrets.token_hex(8)
        self.metrics = Metrics()
        self.metrics.watch_process()
        self.stopping = asyncio.Event()
        self.tls: dict[str, str] | None = start.get("tls")
        """PEM texts "cert" and "key", for a role that speaks TLS (runtime.tls); newest since the last reload."""
        self.leaving = asyncio.Event()
        """Set with `stopping`; or alone: another process of this role serves on, this one lets its sessions end."""
        self.drain = 0.0
        """Seconds that sessions may go on once `leaving` or `stopping` is set."""
        self.handing_over = False
        """Set with `stopping`: this role's next life begins at once, see hand_over()."""
        self._handover: dict[str, int] = start.get("handover") or {}
        self._pids: dict[int, str] = {}
        self._born: dict[int, int] = {}
        self._know(start)
        self._reloads: list[Callable[[Config], None]] = []
        self._send = send
        self.single: bool = start.get("single", False)
        """All roles share this process (--single-process)."""
        self._open = asyncio.Event()
        if not start.get("wait", False):
            self._open.set()

    @property
    def instance(self) -> str:
        """This start of this role: the audience of tokens for it."""
        return f"{self.name}.{self.start_id}"

    def role_of_pid(self, pid: int) -> str | None:
        """The role that a process is, by the supervisor's table."""
        return self._pids.get(pid)

    def is_role(self, pid: int, name: str) -> bool:
        """Whether a process is that role ("frontend" stands for each of them). In one process, all are."""
        role = self._pids.get(pid)
        return role is not None and (self.single or role == name or role.rpartition("-")[0] == name)

    def runs(self, name: str) -> bool:
        """Is there a process of this role now?"""
        return self.single or name in self._pids.values()

    def born(self, pid: int) -> int:
        """When the supervisor started this process, in clock ticks since boot; 0: it is no role's."""
        return self._born.get(pid, 0)

    def _know(self, table: dict[str, Any]) -> None:
        self._pids = {int(pid): role for pid, role in table["pids"].items()}
        self._born = {int(pid): tick for pid, tick in table.get("born", {}).items()}

    def handed_over(self) -> bytes:
        """What the process before this one left; once; b"" after a crash and at the island's start."""
        fd = self._handover.pop("in", -1)
        return handover.read(fd) if fd >= 0 else b""

    def hand_over(self, data: bytes) -> None:
        """Leave this to the next process of this role, in memory only."""
        fd = self._handover.pop("out", -1)
        if fd >= 0:
            handover.write(fd, data)
            os.close(fd)

    def on_reload(self, callback: Callable[[Config], None]) -> None:
        """Call with the new configuration after a reload."""
        self._reloads.append(callback)

    def health(self, name: str, state: str, detail: str = "") -> None:
        """Say how something is: state is ok, warn or fail."""
        self._send({"type": "health", "name": name, "state": state, "detail": detail})

    async def ready(self) -> None:
        """Everything is open: tell the supervisor. A role that serves people returns when the others are ready too."""
        gc.collect()
        gc.freeze()  # what the start made lives as long as we do: no collection needs to look at it again
        self._send({"type": "ready"})
        await self._open.wait()

    def restrict(self, *, read: list[Path], write: list[Path], connect_tcp: bool = False, threads: bool = True) -> None:
        """Give up what this role does not need, before it is ready. Code stays readable.

        Threads that run already are not restricted: start none before. threads=False: it starts none later either.
        """
        if not self.single:
            state, detail = harden.restrict(read=read, write=write, connect_tcp=connect_tcp, threads=threads)
            self.health("hardening", state, detail)

    def told(self, message: dict[str, Any]) -> None:
        """A message of the supervisor."""
        kind = message["type"]
        if kind == "pids":
            self._know(message)
        elif kind == "ping":
            self._send({"type": "pong", "id": message["id"]})
        elif kind == "metrics":
            self._send({"type": "metrics", "id": message["id"], "rows": self.metrics.snapshot()})
        elif kind == "reload":
            self.config = msgspec.json.decode(message["config"], type=Config)
            self.tls = message["tls"]
            for callback in self._reloads:
                callback(self.config)
        elif kind == "open":
            self._open.set()
        elif kind == "leave":
            self.drain = message["drain"]
            self.leaving.set()
        elif kind == "stop":
            self.handing_over = message.get("hand_over", False)
            self.stop(message["drain"])

    def stop(self, drain: float = 0.0) -> None:
        """Finish: by the supervisor's word, by SIGTERM, or because it has gone."""
        self.drain = drain
        self.stopping.set()
        self.leaving.set()
        self._open.set()  # whoever waits to be let in goes on, and sees `stopping`


def run(main: Callable[[RoleContext], Awaitable[None]]) -> None:
    """Be a role: the whole process."""
    import uvloop

    control = socket.socket(fileno=int(os.environ.pop("ATOLL_CONTROL")))
    lines = Lines()
    start, *more = _first_messages(control, lines)
    _before_start(start)
    listeners = {name: socket.socket(fileno=fd) for name, fd in start["listeners"].items()}
    try:
        uvloop.run(_live(main, start, listeners, control, lines, more))
    except Exception:
        _log.exception("the role failed")
        sys.exit(1)


def _first_messages(control: socket.socket, lines: Lines) -> list[dict[str, Any]]:
    while True:
        data = control.recv(65536)
        if not data:
            sys.exit(1)
        messages = lines.feed(data)
        if messages:
            return messages


def prepare_process(name: str, config: Config) -> None:
    """What every process of an island does first: logs, the switch interval, descriptors, no cores, no ptrace."""
    log.setup(name, level=config.log.level, text=config.log.text)
    faulthandler.enable()  # SIGABRT too: the supervisor sends it to a role that does not answer
    sys.setswitchinterval(SWITCH_INTERVAL)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    harden.undumpable()


def _before_start(start: dict[str, Any]) -> None:
    harden.die_with_parent(signal.SIGTERM)
    if os.getppid() != start.get("supervisor", os.getppid()):
        sys.exit(1)  # it died before we had asked to be told
    prepare_process(start["name"], msgspec.json.decode(start["config"], type=Config))


async def _live(main: Callable[[RoleContext], Awaitable[None]], start: dict[str, Any],
                listeners: dict[str, socket.socket], control: socket.socket, lines: Lines,
                more: list[dict[str, Any]]) -> None:
    loop = asyncio.get_running_loop()
    control.setblocking(False)
    context = RoleContext(start, listeners, lambda message: channel.send(message))
    channel = ControlProtocol(context.told, context.stop, lines, more)
    await loop.create_connection(lambda: channel, sock=control)
    loop.add_signal_handler(signal.SIGTERM, context.stop)
    trim = asyncio.create_task(_trim_memory())
    try:
        await main(context)
    finally:
        trim.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await trim


async def _trim_memory() -> None:
    """Give freed pages back now and then: a burst of connections leaves holes (PROCESSES 8)."""
    libc = ctypes.CDLL(None)
    while True:
        await asyncio.sleep(15)
        libc.malloc_trim(0)
