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
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from atoll.admin import ops
from atoll.base import config as settings
from atoll.base.clock import SystemClock
from atoll.base.config import Config, DemoAccount
from atoll.base.version import __version__
from atoll.roles import instances
from atoll.roles.lives import Lives, Running, State
from atoll.roles.sockets import Sockets
from atoll.runtime import demo as setup
from atoll.runtime import harden, notify
from atoll.runtime.demo import PORT_OFFSET, DemoError
from atoll.runtime.metrics import render
from atoll.runtime.paths import DataPaths
from atoll.runtime.peers import Peer
from atoll.runtime.probe import probe
from atoll.runtime.role import prepare_process
from atoll.runtime.rpc import Call, Empty, RpcServer
from atoll.runtime.sockets import BindError, Passed, make_directory
from atoll.runtime.status import MAX_HEAD, Answer, StatusServer
from atoll.runtime.tls import BadCertificate, read_pair

PROBE_SECONDS = 0.2
PATIENCE_SECONDS = 10.0
"""After a supervisor that died: its roles learn of that when they have started, and hold the ports until then."""

_log = logging.getLogger("atoll.supervisor")


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
        self.lives = Lives(data, sockets, instances(config), environment, self.clock, message=self._start_message,
                           stopping=self.stopping, on_end=self._stop_asked if single else None)
        self.roles = self.lives.roles
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
        self.lives.start()
        tasks = [asyncio.create_task(self._open()), asyncio.create_task(_tell_watchdog())]
        await self.stopping.wait()
        for task in tasks:
            task.cancel()
        await self._stop()

    async def _serve(self) -> None:
        status = StatusServer({b"/healthz": self._healthz, b"/metrics": self._metrics})
        op = RpcServer({"health.show": (Empty, self._health_call), "role.list": (Empty, self._role_list),
                        "role.restart": (ops.RoleRestart, self._role_restart)}, self._admits)
        self._servers = [
            await asyncio.start_server(status.connected, sock=self.sockets.health, limit=MAX_HEAD),
            await op.serve(self.sockets.op),
        ]

    def _admits(self, peer: Peer) -> bool:
        return self.lives.pids().get(str(peer.pid)) == "directory"

    async def _health_call(self, call: Call, params: Empty) -> ops.Health:
        return self.health()

    async def _role_list(self, call: Call, params: Empty) -> ops.Roles:
        return ops.Roles([role.row(self.clock.monotonic()) for role in self.roles])

    async def _role_restart(self, call: Call, params: ops.RoleRestart) -> ops.RoleRow:
        drain = self.config.processes.restart_drain_seconds if params.drain is None else max(params.drain, 0.0)
        return self.lives.restart(params.name, drain)

    def health(self) -> ops.Health:
        """What everything says of itself."""
        rows = [ops.HealthRow("supervisor", name, state, detail)
                for name, (state, detail) in sorted(self.own_health.items())]
        for role in self.roles:
            rows += role.health(self.clock.monotonic())
        states = {row.state for row in rows}
        return ops.Health("fail" if "fail" in states else "warn" if "warn" in states else "ok", __version__, rows)

    async def _healthz(self) -> Answer:
        health = self.health()
        return Answer(503 if health.state == "fail" else 200, "application/json", msgspec.json.encode(health) + b"\n")

    async def _metrics(self) -> Answer:
        living = [(role.name, role.life.child) for role in self.roles if role.ready and role.life is not None]
        answers = await asyncio.gather(*(child.ask("metrics") for _, child in living))
        rows = [(name, answer["rows"]) for (name, _), answer in zip(living, answers, strict=True) if answer]
        own = [["gauge", "role_up", {"of": role.name}, float(role.ready)] for role in self.roles]
        own += [["gauge", "role_old_processes", {"of": role.name}, float(role.old)] for role in self.roles]
        own += [["counter", "role_starts_total", {"of": role.name}, float(role.starts)] for role in self.roles]
        return Answer(200, "text/plain; version=0.0.4", render([("supervisor", own), *rows]).encode())

    def _stop_asked(self) -> None:
        if self.stopping.is_set():
            self._hurry.set()
        self.stopping.set()

    async def _open(self) -> None:
        """Let people in when every other role is ready; say so when every port has answered.

        A role that dies again and again is not waited for: its health says so, the others serve.
        """
        await asyncio.gather(*(role.settled.wait() for role in self.roles if not role.instance.role.clients))
        self.opened = True
        for role in self.roles:
            for life in role.lives if role.instance.role.clients else ():
                life.child.send({"type": "open"})
        await asyncio.gather(*(self._once_answers(name, port) for name, port in self.sockets.ports.items()))
        await asyncio.gather(*(role.settled.wait() for role in self.roles))
        notify.tell(f"READY=1\nSTATUS={len(self.roles)} processes, data in {self.data}")
        _log.info("ready")
        if self._card is not None:
            print(setup.ready_text(self._card, self.data, not self.sockets.identities), flush=True)  # noqa: T201

    async def _once_answers(self, service: str, port: int) -> None:
        address = self.config.listen.health_address if service == "health" else self.config.listen.address
        while (reason := await probe(service, address, port)) is not None:
            self.own_health[f"port {service}"] = ("fail", reason)
            await asyncio.sleep(PROBE_SECONDS)
        self.own_health.pop(f"port {service}", None)

    # -- what roles are told ------------------------------------------------------------------------------------------
    def _start_message(self, role: Running) -> dict[str, Any]:
        return {"type": "start", "name": role.name, "data": str(self.data), "config": self._config_for(role),
                "listeners": {name: sock.fileno() for name, sock in role.sockets.items()},
                **self.lives.table(), "supervisor": os.getpid(), "single": self._single,
                "tls": self._pair if role.instance.role.clients else None,
                "wait": role.instance.role.clients and not self.opened}

    def _config_for(self, role: Running) -> str:
        config = self.config
        if role.instance.role.kind != "directory":
            config = msgspec.structs.replace(config, demo=())  # passwords: for the one role that needs them
        return msgspec.json.encode(config).decode()

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
            for life in role.lives:
                life.child.send({"type": "reload", "config": self._config_for(role),
                                 "tls": self._pair if role.instance.role.clients else None})
        notify.tell("READY=1")
        _log.info("reloaded")

    async def _stop(self) -> None:
        notify.tell("STOPPING=1")
        await self.lives.stop(self.config.processes.drain_seconds, self._hurry)
        _log.info("stopped")


async def _tell_watchdog() -> None:
    """systemd ends a supervisor whose event loop is stuck."""
    seconds = notify.watchdog_seconds()
    while seconds is not None:
        notify.tell("WATCHDOG=1", wait=0)
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
        lock.seek(0)
        crashed = bool(lock.read(1))  # whoever stops in order leaves nothing in it
        lock.truncate(0)
        with contextlib.suppress(OSError):  # no room: the lock holds all the same
            os.write(lock.fileno(), b"%d\n" % os.getpid())
        sockets.bind(config, Passed(notify.passed(os.environ)), PATIENCE_SECONDS if crashed else 0.0)
        sockets.folders(config)
        if os.geteuid() == 0:
            harden.drop_capabilities(harden.SUPERVISOR)
        card = setup.write_card(data, people, sockets.ports) if demo else None
        supervisor = Supervisor(data, config, sockets, _environment(), load, card, single=single)
        uvloop.run(supervisor.run())
        lock.truncate(0)
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
