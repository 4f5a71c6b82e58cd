"""A directory on real sockets, with both of its clients, in this process."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from atoll.base.clock import SystemClock
from atoll.directory.client.backend import Backend
from atoll.directory.client.signin import SignIn
from atoll.directory.server.auth import hashes
from atoll.directory.server.parts import Parts, open_parts
from atoll.runtime.rpc import RpcClient, RpcServer
from atoll.sql import SqlError
from atoll.sql.sqlite import SqliteEngine

PASSWORD = b"correct horse battery staple"


class House:
    """DATA/dir, the two sockets, and the clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: Parts
        self.clients: list[RpcClient] = []
        self.is_role: Callable[[int, str], bool] = lambda pid, name: pid == os.getpid()
        self.clock = SystemClock()
        self.doubts: list[SqlError] = []

    async def start(self) -> None:
        self.parts = await open_parts(
            SqliteEngine(), self.folder / "dir", self.clock, instance="directory.test", island="here", floor=0.0,
            is_role=lambda pid, name: self.is_role(pid, name), on_doubt=self.doubts.append)
        service = self.parts.service
        self.servers = [RpcServer(service.signin_handlers(), lambda peer: True, on_close=service.left),
                        RpcServer(service.backend_handlers(), lambda peer: True, on_close=service.left)]
        self.listeners = [await server.serve(self._bind(name))
                          for server, name in zip(self.servers, ("signin", "backend"), strict=True)]

    def _bind(self, name: str) -> socket.socket:
        path = self.folder / name
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.listen()
        return sock

    async def stop(self) -> None:
        for listener, server in zip(self.listeners, self.servers, strict=True):
            listener.close()
            server.close_connections()
        await asyncio.sleep(0)
        await self.parts.close()

    async def close(self) -> None:
        for client in self.clients:
            await client.close()
        await self.stop()

    def sign_in(self) -> SignIn:
        client = RpcClient(self.folder / "signin")
        self.clients.append(client)
        return SignIn(client)

    def backend(self) -> Backend:
        client = RpcClient(self.folder / "backend")
        self.clients.append(client)
        return Backend(client)

    async def people(self) -> None:
        """example.test with alice (db1, mailbox-1) and bob (db2, mailbox-2), and both backends waiting."""
        register = self.parts.register
        await register.create_domain("example.test")
        for number, name in enumerate(("alice", "bob"), 1):
            await register.add_database(f"db{number}", f"mailbox-{number}", "here")
            await register.create_mailbox(f"{name}@example.test", display=name.capitalize(), database=f"db{number}",
                                          hash_=hashes.make(PASSWORD))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    await house.start()
    await house.people()
    yield house
    await house.close()
