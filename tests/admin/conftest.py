"""The administration API on a real socket, in this process, and the command against it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from click.testing import CliRunner, Result

from atoll.admin import ops
from atoll.admin.cli import cli
from atoll.admin.relay import Relay
from atoll.admin.service import AdminService
from atoll.base.clock import SystemClock
from atoll.directory.server.parts import open_parts
from atoll.runtime.paths import RunPaths
from atoll.runtime.rpc import Call, Empty, RpcError, RpcServer
from atoll.sql import SqlError
from atoll.sql.sqlite import SqliteEngine


class Roles:
    """What the other roles would answer: the relay's far end."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []

    def handlers(self, role: str) -> dict[str, Any]:
        async def answer(call: Call, params: msgspec.Struct) -> msgspec.Struct:
            self.asked.append((role, call.op, params))
            return self.result(role, call.op, params)

        return {name: (op.params, answer) for name, op in ops.OPS.items() if op.where != "directory"}

    def result(self, role: str, op: str, params: Any) -> msgspec.Struct:
        if op == "session.list":
            return ops.Sessions([ops.SessionRow(f"sid-{role}", "alice@example.test", "imap", "192.0.2.1", 1000, role)])
        if op == "session.end":
            return ops.Count(int(params.sid == f"sid-{role}"))
        if op == "database.list":
            return ops.Databases([ops.DatabaseRow(f"db{role[-1]}", role, "mounted", 2, 1 << 20, 3)])
        if op == "database.check":
            problem = ops.Problem("counter", "INBOX", "total is 4, counted 5", params.repair)
            return ops.CheckReport(params.database, {"items": 10}, [problem], 0.1)
        if op == "mailbox.recoverable":
            return ops.Recoverables([ops.RecoverableRow("1a", "evil\x1b[31m\u202esubject", "x@y", "INBOX", 1000, 10)])
        if op == "mailbox.usage":
            return ops.Usage(5000, 7)
        if op == "health.show":
            return ops.Health("fail", "0", [ops.HealthRow("transport", "queue", "fail", "disk full")])
        if op in ("mailbox.recover", "queue.retry", "queue.remove"):
            return ops.Count(3)
        if op == "database.rescan":
            return ops.Rescanned(params.database, 2, 1, 1, 3)
        if op == "database.backup":
            raise RpcError("temporary", "busy")
        return Empty()


class Island:
    """A thread with the directory role's parts; the command runs in the test's own thread."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.roles = Roles()
        self.doubts: list[SqlError] = []
        self._ready = threading.Event()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        paths = RunPaths(self.data)
        self.parts = parts = await open_parts(
            SqliteEngine(), self.data / "dir", SystemClock(), instance="directory.test", island="here",
            is_role=lambda pid, name: True, on_doubt=self.doubts.append)
        for number in (1, 2):
            await parts.register.add_database(f"db{number}", f"mailbox-{number}", "here")
        parts.sessions.key_for("mailbox-1.start")
        relay = Relay(paths.op)
        admin = AdminService(parts, relay, audit_path=self.data / "dir" / "audit.log",
                             sockets={"imap": paths.imap, "pop3": paths.pop})
        servers = [(RpcServer(admin.handlers(), lambda peer: True), paths.admin)]
        servers += [(RpcServer(self.roles.handlers(role), lambda peer: True), paths.op(role))
                    for role in ("mailbox-1", "mailbox-2", "transport", "supervisor")]
        listeners = [await server.serve(_bound(path)) for server, path in servers]
        self._ready.set()
        await self._stop.wait()
        for listener, (server, _) in zip(listeners, servers, strict=True):
            listener.close()
            server.close_connections()
        await relay.close()
        await asyncio.sleep(0.01)
        await parts.close()

    def start(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._main(),))
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    def run(self, *args: str, stdin: str | None = None) -> Result:
        """One command line; its Result has output, stderr and exit_code."""
        return CliRunner().invoke(cli, ["--data", str(self.data), *args], input=stdin)

    def json(self, *args: str, stdin: str | None = None) -> Any:
        """One command line with --json, which must succeed."""
        result = self.run(*args, "--json", stdin=stdin)
        assert result.exit_code == 0, result.output
        return msgspec.json.decode(result.stdout)


def _bound(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


@pytest.fixture
def island(tmp_path: Path) -> Iterator[Island]:
    island = Island(tmp_path / "d")
    island.start()
    yield island
    island.stop()


@pytest.fixture
def alice(island: Island) -> Island:
    """The island with example.test and alice@example.test."""
    assert island.run("domain", "create", "example.test").exit_code == 0
    island.json("mailbox", "create", "alice@example.test", "--display", "Alice Doe", "--password-stdin",
                stdin="secret words\n")
    return island
