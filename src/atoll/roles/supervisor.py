"""The supervisor: binds every listener, starts the roles, keeps them alive, stops them in order.

In     DATA/atoll.toml, the command line, SIGHUP (reload), SIGTERM and SIGINT (stop; a second one hurries).
Out    an island: one process per role, a control channel to each, /healthz and /metrics, the op socket.
Spec   PROCESSES 2, 3, 10, 11; docs/seams.md 1.
Fails  a listener or a configuration that cannot be had stops the start with one sentence and exit code 1.
       A role that dies is started again, whatever it died of; the others go on.
Not    a process that reads a byte of a client: not even the health port's requests are more than a fixed line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import random
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import uvloop

from atoll.admin import ops
from atoll.base import config as settings
from atoll.base.clock import SystemClock
from atoll.base.config import Config, DemoAccount
from atoll.base.version import __version__
from atoll.roles import STOP_ORDER, Instance, instances
from atoll.roles.sockets import Sockets
from atoll.runtime import demo as setup
from atoll.runtime import harden, notify
from atoll.runtime.backoff import Backoff
from atoll.runtime.child import Child
from atoll.runtime.demo import PORT_OFFSET, DemoError
from atoll.runtime.inside import InsideRole
from atoll.runtime.metrics import render
from atoll.runtime.paths import DataPaths
from atoll.runtime.peers import Peer
from atoll.runtime.probe import probe
from atoll.runtime.role import prepare_process
from atoll.runtime.rpc import Call, Empty, RpcServer
from atoll.runtime.sockets import BindError, listen_again, make_directory
from atoll.runtime.status import MAX_HEAD, Answer, StatusServer
from atoll.runtime.tls import BadCertificate, read_pair

STOP_SECONDS = 10.0
"""For a role to stop beyond its drain time: a commit, a checkpoint."""
PROBE_SECONDS = 0.2

State = Literal["ok", "warn", "fail"]

_log = logging.getLogger("atoll.supervisor")


class Running:
    """A role that should run, and the process that does."""

    def __init__(self, instance: Instance, sockets: dict[str, socket.socket]) -> None:
        self.instance = instance
        self.sockets = sockets
        self.backoff = Backoff()
        self.child: Child | InsideRole | None = None
        self.keeper: asyncio.Task[None] | None = None
        self.starts = 0
        self.up = asyncio.Event()
        self.health: dict[str, tuple[State, str]] = {}

    @property
    def name(self) -> str:
        return self.instance.name

    @property
    def ready(self) -> bool:
        return self.up.is_set()


class Supervisor:
    """The island's processes."""

    def __init__(self, data: Path, config: Config, sockets: Sockets, environment: dict[str, str],
                 load: Callable[[], Config], card: dict[str, Any] | None, *, single: bool) -> None:
        self.data = data
        self.config = config
        self.sockets = sockets
        self.clock = SystemClock()
        self.stopping = asyncio.Event()
        self.opened = False
        self.own_health: dict[str, tuple[State, str]] = {}
        self.roles = [Running(one, sockets.of(one)) for one in instances(config)]
        self._environment = environment
        self._load = load
        self._card = card
        self._single = single
        self._servers: list[asyncio.AbstractServer] = []
        self._hurry = asyncio.Event()
        if not sockets.identities:
            self.own_health["separation"] = ("warn", "roles share one uid: a broken frontend can reach the stores")
        self._pair = read_pair(DataPaths(data).tls)

    # -- starting --------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Until it is told to stop and everything has stopped."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_asked)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        await self._serve()
        for role in self.roles:
            role.keeper = asyncio.create_task(self._keep(role), name=f"keep {role.name}")
        tasks = [asyncio.create_task(self._open()), asyncio.create_task(_tell_watchdog())]
        await self.stopping.wait()
        for task in tasks:
            task.cancel()
        await self._stop()

    async def _serve(self) -> None:
        status = StatusServer({b"/healthz": self._healthz, b"/metrics": self._metrics})
        op = RpcServer({"health.show": (Empty, self._health_call)}, self._admits)
        self._servers = [
            await asyncio.start_server(status.connected, sock=self.sockets.health, limit=MAX_HEAD),
            await op.serve(self.sockets.op),
        ]

    def _admits(self, peer: Peer) -> bool:
        return self.pids().get(str(peer.pid)) == "directory"

    async def _health_call(self, call: Call, params: Empty) -> ops.Health:
        return self.health()

    def health(self) -> ops.Health:
        """What everything says of itself."""
        rows = [ops.HealthRow("supervisor", name, state, detail)
                for name, (state, detail) in sorted(self.own_health.items())]
        for role in self.roles:
            rows.append(self._process_row(role))
            rows += [ops.HealthRow(role.name, name, state, detail)
                     for name, (state, detail) in sorted(role.health.items())]
        states = {row.state for row in rows}
        return ops.Health("fail" if "fail" in states else "warn" if "warn" in states else "ok", __version__, rows)

    def _process_row(self, role: Running) -> ops.HealthRow:
        if role.backoff.loops(self.clock.monotonic()):
            return ops.HealthRow(role.name, "process", "fail", "dies again and again; it is started each minute")
        if not role.ready:
            return ops.HealthRow(role.name, "process", "fail", "starting")
        deaths = f", started {role.starts} times" if role.starts > 1 else ""
        return ops.HealthRow(role.name, "process", "ok", f"ready{deaths}")

    async def _healthz(self) -> Answer:
        health = self.health()
        return Answer(503 if health.state == "fail" else 200, "application/json", msgspec.json.encode(health) + b"\n")

    async def _metrics(self) -> Answer:
        living = [role for role in self.roles if role.ready and role.child is not None]
        answers = await asyncio.gather(*(role.child.ask("metrics") for role in living if role.child is not None))
        rows = [(role.name, answer["rows"]) for role, answer in zip(living, answers, strict=True) if answer]
        own = [["gauge", "role_up", {"of": role.name}, float(role.ready)] for role in self.roles]
        own += [["counter", "role_starts_total", {"of": role.name}, float(role.starts)] for role in self.roles]
        return Answer(200, "text/plain; version=0.0.4", render([("supervisor", own), *rows]).encode())

    def _stop_asked(self) -> None:
        if self.stopping.is_set():
            self._hurry.set()
        self.stopping.set()

    async def _open(self) -> None:
        """Let people in when every other role is ready; say so when every port has answered."""
        await asyncio.gather(*(role.up.wait() for role in self.roles if not role.instance.role.clients))
        self.opened = True
        for role in self.roles:
            if role.instance.role.clients and role.child is not None:
                role.child.send({"type": "open"})
        await asyncio.gather(*(self._once_answers(name, port) for name, port in self.sockets.ports.items()))
        notify.tell("READY=1")
        _log.info("ready")
        if self._card is not None:
            print(setup.ready_text(self._card, self.data, not self.sockets.identities), flush=True)  # noqa: T201

    async def _once_answers(self, service: str, port: int) -> None:
        address = self.config.listen.health_address if service == "health" else self.config.listen.address
        while (reason := await probe(service, address, port)) is not None:
            self.own_health[f"port {service}"] = ("fail", reason)
            await asyncio.sleep(PROBE_SECONDS)
        self.own_health.pop(f"port {service}", None)

    # -- a role's life ---------------------------------------------------------------------------------------------
    async def _keep(self, role: Running) -> None:
        while not self.stopping.is_set():
            role.backoff.started(self.clock.monotonic())
            try:
                code = await self._live(role)
            except OSError as error:
                code = -1
                _log.error("role not started", extra={"f": {"of": role.name, "error": error.strerror}})
            role.up.clear()
            listen_again(role.sockets.values())
            if self.stopping.is_set():
                return
            if self._single:
                self._stop_asked()  # what it left open in this process, nobody else can open
                return
            self._tell_pids()
            now = self.clock.monotonic()
            delay = role.backoff.died(now, random.random())  # noqa: S311 - jitter
            role.health = {}
            _log.error("role died", extra={"f": {"of": role.name, "code": code, "again_in": round(delay, 1),
                                                 "loop": role.backoff.loops(now)}})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self.stopping.wait()

    async def _live(self, role: Running) -> int:
        kind = InsideRole if self._single else Child
        child = kind(role.name, lambda message: self._told(role, message))
        environment = dict(self._environment, **role.instance.environment(self.data))
        if role.starts:
            environment.pop("ATOLL_FAILPOINTS", None)  # armed for the first life only: a test kills once
        role.starts += 1
        await child.start(role.instance.role.module, role.sockets, environment, self.sockets.identity(role.instance))
        role.child = child
        child.send(self._start_message(role))
        self._tell_pids()
        child.watch()
        return await child.ended

    def _start_message(self, role: Running) -> dict[str, Any]:
        return {"type": "start", "name": role.name, "data": str(self.data), "config": self._config_for(role),
                "listeners": {name: sock.fileno() for name, sock in role.sockets.items()},
                "pids": self.pids(), "supervisor": os.getpid(), "single": self._single,
                "tls": self._pair if role.instance.role.clients else None,
                "wait": role.instance.role.clients and not self.opened}

    def _config_for(self, role: Running) -> str:
        config = self.config
        if role.instance.role.kind != "directory":
            config = msgspec.structs.replace(config, demo=())  # passwords: for the one role that needs them
        return msgspec.json.encode(config).decode()

    def pids(self) -> dict[str, str]:
        """Which role a process is."""
        table = {str(os.getpid()): "supervisor"}
        for role in self.roles:
            if role.child is not None and not role.child.ended.done():
                table[str(role.child.pid)] = role.name
        return table

    def _tell_pids(self) -> None:
        for role in self.roles:
            if role.child is not None and not role.child.ended.done():
                role.child.send({"type": "pids", "pids": self.pids()})

    def _told(self, role: Running, message: dict[str, Any]) -> None:
        if message["type"] == "health":
            role.health[message["name"]] = (message["state"], message["detail"])
        elif message["type"] == "ready":
            role.up.set()
            _log.info("role ready", extra={"f": {"of": role.name}})

    # -- reload and stop -------------------------------------------------------------------------------------------
    def reload(self) -> None:
        """Read the configuration again and pass it on; one that is wrong changes nothing."""
        try:
            self.config = self._load()
        except (settings.ConfigError, OSError) as error:
            _log.error("configuration not reloaded", extra={"f": {"error": str(error)}})
            self.own_health["configuration"] = ("warn", f"the one before stays in use: {error}")
            return
        self.own_health.pop("configuration", None)
        try:
            self._pair = read_pair(DataPaths(self.data).tls)
            self.own_health.pop("certificate", None)
        except BadCertificate as error:
            _log.error("certificate not changed", extra={"f": {"error": str(error)}})
            self.own_health["certificate"] = ("warn", f"the one before stays in use: {error}")
        notify.tell(notify.reloading())
        for role in self.roles:
            if role.child is not None:
                role.child.send({"type": "reload", "config": self._config_for(role),
                                 "tls": self._pair if role.instance.role.clients else None})
        notify.tell("READY=1")
        _log.info("reloaded")

    async def _stop(self) -> None:
        notify.tell("STOPPING=1")
        drain = self.config.processes.drain_seconds
        for kind in STOP_ORDER:
            group = [role.child for role in self.roles
                     if role.instance.role.kind == kind and role.child is not None and not role.child.ended.done()]
            await asyncio.gather(*(self._stop_child(child, drain) for child in group))
        for role in self.roles:
            if role.keeper is not None:
                role.keeper.cancel()
        _log.info("stopped")

    async def _stop_child(self, child: Child | InsideRole, drain: float) -> None:
        stop = asyncio.create_task(child.stop(drain + STOP_SECONDS, drain))
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait((stop, hurry), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not stop.done() and isinstance(child, Child) and child.name.startswith("frontend"):
            child.signal(signal.SIGKILL)  # it holds nothing; the others only finish what they have begun
        await stop
        _log.info("role stopped", extra={"f": {"of": child.name}})


async def _tell_watchdog() -> None:
    """systemd ends a supervisor whose event loop is stuck."""
    seconds = notify.watchdog_seconds()
    while seconds is not None:
        notify.tell("WATCHDOG=1")
        await asyncio.sleep(seconds)


def main(*, data: Path, port_offset: int | None = None, demo: bool = False, single_process: bool = False,
         log_level: str = "info") -> int:
    """Run an island until it is told to stop; the exit code."""
    data = Path(data).absolute()
    try:
        return _main(data, port_offset, demo, single_process, log_level)
    except (settings.ConfigError, BadCertificate, BindError, DemoError, OSError) as error:
        print(f"atoll: {error}", file=sys.stderr)  # noqa: T201 - the operator's terminal
        return 1


def _main(data: Path, port_offset: int | None, demo: bool, single: bool, log_level: str) -> int:
    make_directory(data, 0o700)
    files = DataPaths(data)
    people: tuple[DemoAccount, ...] = ()
    if demo:
        setup.write_config(files.config, PORT_OFFSET if port_offset is None else port_offset)
        people = setup.accounts(files.demo)

    def load() -> Config:
        made = settings.load(files.config, os.environ)
        if port_offset is not None:
            made = msgspec.structs.replace(made, listen=msgspec.structs.replace(made.listen, port_offset=port_offset))
        if log_level != "info":
            made = msgspec.structs.replace(made, log=msgspec.structs.replace(made.log, level=log_level))
        return msgspec.structs.replace(made, demo=people)

    config = load()
    setup.certificate(files.tls, config.island.host)
    prepare_process("island" if single else "supervisor", config)
    if single:
        _say_single(config)
    sockets = Sockets(data, config, os.geteuid() == 0 and not single)
    make_directory(sockets.paths.run, 0o711)
    with open(sockets.paths.run / "supervisor.pid", "a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BindError(f"an island runs in {data} already") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        sockets.bind(config)
        sockets.folders(config)
        if os.geteuid() == 0:
            harden.drop_capabilities(harden.SUPERVISOR)
        card = setup.write_card(data, people, sockets.ports) if demo else None
        supervisor = Supervisor(data, config, sockets, _environment(), load, card, single=single)
        uvloop.run(supervisor.run())
    return 0


def _say_single(config: Config) -> None:
    if os.geteuid() == 0 and not config.processes.single_process_as_root:
        raise settings.ConfigError("--single-process as root needs processes.single_process_as_root = true: "
                                   "whoever breaks one role has the machine")
    _log.warning("single process: no memory is kept apart, one crash takes all roles, one slow role delays all")


def _environment() -> dict[str, str]:
    """What every role inherits: nothing that the operator's shell happens to hold."""
    kept = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "ATOLL_FAILPOINTS")
    return {name: os.environ[name] for name in kept if name in os.environ}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m atoll.roles.supervisor")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port-offset", type=int)
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--single-process", action="store_true")
    parser.add_argument("--log-level", default="info")
    sys.exit(main(**vars(parser.parse_args())))
