"""atoll(7): an island as the bench starts it: the demo of a new checkout, in its default processes, with its defaults.

In:    the checkout's virtual environment; a data directory under `.bench/atoll/`, new with each run.
Out:   a Server at port offset 21000 whose accounts are made through the administration API.
Spec:  the only setting that differs: 127.0.0.0/8 is trusted by admission, because all clients come from this machine.
Fails: RuntimeError with the end of the log when the ready line does not come within a minute.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from atoll.admin import ops
from atoll.runtime.paths import RunPaths
from atoll.runtime.rpc import RpcClient, RpcError
from bench.meter import Group
from bench.server import Server

HERE = Path(__file__).resolve().parent
BASE = HERE.parent / ".bench" / "atoll"
OFFSET = 21_000
PASSWORD = "correct horse battery"
CONFIG = """# The bench's clients all come from this machine.
[admission]
trusted = ["127.0.0.0/8", "::1/128"]
"""


class Atoll(Server):
    """`atoll serve --demo` in an accounting group of its own."""

    name = "atoll"

    def __init__(self) -> None:
        self.group = Group("atoll")
        self.data = BASE / "data"
        self.domain = "example.test"
        self.process: subprocess.Popen[bytes] | None = None
        self.made: set[str] = set()
        self.hash = ""
        self.fresh = True

    def start(self) -> None:
        if self.fresh:
            shutil.rmtree(self.data, ignore_errors=True)
            self.data.mkdir(parents=True, mode=0o755)
            (self.data / "atoll.toml").write_text(CONFIG)
            self.fresh = False
        self.group.open()
        began = time.monotonic()
        command = [
            str(Path(sys.executable).parent / "atoll"),
            "--data",
            str(self.data),
            "serve",
            "--demo",
            "--port-offset",
            str(OFFSET),
        ]
        log = (BASE / "log").open("wb")
        # NumPy's and others' thread settings of the caller's shell are not the island's business
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(BASE),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(HERE.parent / "src"),
        }
        self.process = self.group.spawn(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=env)
        log.close()
        self._wait_ready(self.process, began)
        card = json.loads((self.data / "demo.json").read_text())
        self.domain, self.ports = card["domain"], dict(card["ports"])

    def _wait_ready(self, process: subprocess.Popen[bytes], began: float) -> None:
        """The ready line says that every port answers."""
        assert process.stdout
        os.set_blocking(process.stdout.fileno(), False)
        said = b""
        while b"ready" not in said.lower():
            said += process.stdout.read() or b""
            if process.poll() is not None or time.monotonic() - began > 60:
                self.stop()
                raise RuntimeError(f"the island is not ready:\n{said.decode()}\n{(BASE / 'log').read_text()[-3000:]}")
            time.sleep(0.01)
        self.ready_after = time.monotonic() - began

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                pass
        self.group.end()

    def login(self, i: int | str) -> tuple[str, str]:
        return f"{name_of(i)}@{self.domain}", PASSWORD

    def restart(self, empty: bool = False) -> None:
        self.stop()
        if empty:
            self.fresh = True
            self.made.clear()
        self.start()

    def accounts(self, names: Iterable[int | str], database: str = "") -> None:
        missing = [name_of(name) for name in names if name_of(name) not in self.made]
        if missing:
            asyncio.run(self._create(missing, database))

    async def _create(self, names: list[str], database: str) -> None:
        rpc = RpcClient(RunPaths(self.data).admin, timeout=60)
        gate = asyncio.Semaphore(50)
        self.hash = self.hash or password_hash(PASSWORD)

        async def one(name: str) -> None:
            ask = ops.MailboxCreate(f"{name}@{self.domain}", database=database, hash=self.hash)
            async with gate:
                try:
                    await rpc.call("mailbox.create", ask, ops.MailboxCreated)
                    self.made.add(name)
                except RpcError as error:
                    raise RuntimeError(f"mailbox.create {name}: {error.code} {error.text}") from error

        try:
            await asyncio.gather(*(one(name) for name in names))
        finally:
            await rpc.close()

    def folder_files(self, login: str, folder: str) -> Path:
        return self.data / "mbox"


def name_of(i: int | str) -> str:
    return f"u{i}" if isinstance(i, int) else i


def password_hash(password: str) -> str:
    """One Argon2id hash for all accounts, with the server's own parameters: signing in costs what it costs."""
    from argon2 import PasswordHasher

    return "{ARGON2ID}" + PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1).hash(password)
