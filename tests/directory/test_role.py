"""The directory role as the supervisor starts it: a process of its own, restricted, that makes the demo's people."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from atoll.admin import ops
from atoll.base.config import Config, DemoAccount
from atoll.directory.client.backend import Backend
from atoll.directory.client.signin import SignIn
from atoll.runtime.paths import RunPaths
from atoll.runtime.peers import Peer
from atoll.runtime.rpc import Empty, RpcClient, RpcError


class Role:
    """`python -m atoll.roles.directory` with its listeners and a control channel."""

    def __init__(self, data: Path, pids: dict[int, str]) -> None:
        self.data = data
        self.pids = pids
        self.paths = RunPaths(data)
        self.listeners = {}
        for name in ("signin", "backend", "admin"):
            path = getattr(self.paths, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.listeners[name] = sock = socket.socket(socket.AF_UNIX)
            sock.bind(str(path))
            sock.listen()

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        self.control = ours
        config = Config(demo=(DemoAccount(address="alice@example.test", password="secret words", database="db1"),
                              DemoAccount(address="bob@example.test", password="secret words", database="db2")))
        fds = [theirs.fileno(), *(sock.fileno() for sock in self.listeners.values())]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "atoll.roles.directory"], pass_fds=fds,
            env={**os.environ, "ATOLL_CONTROL": str(theirs.fileno()), "MALLOC_MMAP_THRESHOLD_": "1048576"})
        theirs.close()
        start = {"name": "directory", "data": str(self.data), "config": msgspec.json.encode(config).decode(),
                 "listeners": {name: sock.fileno() for name, sock in self.listeners.items()}, "pids": self.pids}
        ours.sendall(json.dumps(start).encode() + b"\n")
        ours.settimeout(10)
        self._stream = ours.makefile("rb")
        self.told = []
        while not self.told or self.told[-1]["type"] != "ready":
            self.told.append(json.loads(self._stream.readline()))

    def stop(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        code = self.process.wait(10)
        self.control.close()
        self._stream.close()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)
        for sock in self.listeners.values():
            sock.close()


@pytest.fixture
def role(tmp_path: Path) -> Iterator[Role]:
    role = Role(tmp_path / "d", {os.getpid(): "frontend-1"})
    role.start()
    yield role
    role.close()


async def test_the_role_serves_frontends_and_the_operator_but_no_stranger(role: Role) -> None:
    admin = RpcClient(role.paths.admin)
    found = await admin.call("mailbox.list", ops.MailboxFilter(), ops.Mailboxes)
    assert [row.address for row in found.mailboxes] == ["alice@example.test", "bob@example.test"]
    signin = SignIn(RpcClient(role.paths.signin))
    assert (await signin.recipient("bob@example.test")) is not None
    backend = RpcClient(role.paths.backend, timeout=0.5)  # we are a frontend
    with pytest.raises(RpcError, match="temporary"):
        await backend.call("databases", Empty(), Empty)
    for client in (admin, signin.rpc, backend):
        await client.close()


async def test_it_survives_kill_and_keeps_its_people(role: Role) -> None:
    signin = SignIn(RpcClient(role.paths.signin))
    info = await signin.recipient("alice@example.test")
    role.stop(signal.SIGKILL)
    asking = asyncio.create_task(signin.recipient("alice+x@example.test"))  # waits in the supervisor's backlog
    role.start()
    again = await asking
    assert info is not None
    assert again is not None
    assert (again.mailbox, again.detail) == (info.mailbox, "x")
    await signin.rpc.close()
    assert role.stop() == 0


async def test_a_mailbox_role_gets_its_key_and_the_operator_a_token_for_it(tmp_path: Path) -> None:
    role = Role(tmp_path / "d", {os.getpid(): "mailbox-1"})
    role.start()
    try:
        backend = Backend(RpcClient(role.paths.backend))
        verifier = await backend.verifier("mailbox-1.x", "imap")
        assert await backend.next_epoch("db1") == 1
        admin = RpcClient(role.paths.admin)
        token = await admin.call("token.create", ops.TokenAsk("alice@example.test"), ops.Token)
        claims = verifier.verify(token.token.encode(), Peer(os.getpid(), os.getuid(), os.getgid()))
        assert (claims.mth, claims.adr) == ("admin", "alice@example.test")
        assert token.socket == str(role.paths.imap(1))
        for client in (backend.rpc, admin):
            await client.close()
    finally:
        role.close()


def test_the_process_holds_no_store_and_no_frontend_code() -> None:
    loaded = subprocess.run([sys.executable, "-c", "import sys, atoll.roles.directory\nprint('\\n'.join(sys.modules))"],
                            capture_output=True, text=True, check=True).stdout.split()
    for package in ("atoll.mailbox", "atoll.transport", "atoll.protocols", "atoll.formats", "click", "rich"):
        assert not [name for name in loaded if name == package or name.startswith(package + ".")], package
