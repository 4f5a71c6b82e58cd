"""One island a module; accounts and mailboxes that no other test knows."""

from __future__ import annotations

import itertools
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conformance.imap import Imap, quote
from tests.island import Island

_BOXES = itertools.count(1)
_STEMS = itertools.count(1)
PASSWORD = "a-long-enough-password"
CONFIG = '[admission]\ntrusted = ["127.0.0.0/8", "::1/128"]\n'


@dataclass
class World:
    """A running island and the connections of one test."""

    island: Island
    tls: ssl.SSLContext
    open: list[Imap] = field(default_factory=list)

    @property
    def ports(self) -> dict[str, int]:
        return self.island.ports

    def demo(self, stem: str) -> tuple[str, str]:
        return f"{stem}@{self.island.domain}", self.island.password(stem)

    def account(self, stem: str = "user") -> tuple[str, str]:
        """A new mailbox: address and password."""
        address = f"{stem}{next(_STEMS)}@{self.island.domain}"
        line = [str(Path(sys.executable).parent / "atoll"), "mailbox", "create", address, "--password-stdin"]
        subprocess.run(line, input=PASSWORD.encode(), check=True, capture_output=True,
                       env={**os.environ, "ATOLL_DATA": str(self.island.data)})
        return address, PASSWORD

    def imap(self, login: tuple[str, str] | None = None, *, secure: bool = True) -> Imap:
        client = Imap(self.ports["imaps" if secure else "imap"], self.tls, login, secure=secure)
        self.open.append(client)
        return client

    def alice(self) -> Imap:
        return self.imap(self.demo("alice"))


@pytest.fixture(scope="module")
def shore() -> Iterator[Island]:
    with Island(config=CONFIG) as island:
        yield island


@pytest.fixture
def world(shore: Island) -> Iterator[World]:
    world = World(shore, shore.tls())
    yield world
    for client in world.open:
        client.close()


@pytest.fixture
def imap(world: World) -> Imap:
    """A session of alice's."""
    return world.alice()


@pytest.fixture
def box(world: World) -> str:
    """An empty mailbox of alice's that only this test uses."""
    name = f"box{next(_BOXES)}"
    world.alice().ok(f"CREATE {quote(name)}")
    return name


@pytest.fixture
def filled(world: World, box: str) -> Callable[..., list[int]]:
    """filled(message, ...): APPEND them to `box`; their uids."""

    def fill(*messages: bytes) -> list[int]:
        client = world.alice()
        return [client.append(box, message) for message in messages]

    return fill
