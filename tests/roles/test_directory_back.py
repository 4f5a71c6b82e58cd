"""A back-off is cut short when the directory is back, of those that died while it was away."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from atoll.base.clock import SystemClock
from atoll.base.config import Config
from atoll.roles import instances
from atoll.roles.lives import Life, Lives


@pytest.fixture
async def lives() -> Lives:
    sockets: Any = SimpleNamespace(of=lambda instance: {})
    return Lives(Path("/nowhere"), sockets, instances(Config()), {}, SystemClock(), message=lambda role: {},
                 stopping=asyncio.Event(), on_end=None)


@pytest.fixture
def directory(lives: Lives) -> Any:
    """What the directory says to the supervisor."""
    role = next(role for role in lives.roles if role.name == "directory")
    child: Any = SimpleNamespace(ended=asyncio.Future(), pid=1)
    role.life = Life(child, SystemClock())
    return lambda what: lives._told(role, role.life, {"type": what})


def waits(lives: Lives, name: str) -> asyncio.Task[None]:
    """A role that has died again and again."""
    role = next(role for role in lives.roles if role.name == name)
    role.backoff.started(SystemClock().monotonic())
    for _ in range(5):
        role.backoff.died(SystemClock().monotonic(), 0.5)
    return asyncio.create_task(lives._pause(role, 1))


async def test_who_died_while_there_was_no_directory_is_started_when_it_is_back(lives: Lives, directory: Any) -> None:
    mailbox = waits(lives, "mailbox-1")
    await asyncio.sleep(0.05)
    assert not mailbox.done()
    directory("ready")
    await asyncio.wait_for(mailbox, 5)


async def test_who_died_of_something_else_waits_on(lives: Lives, directory: Any) -> None:
    directory("ready")
    mailbox = waits(lives, "mailbox-1")
    await asyncio.sleep(0.05)
    directory("ready")
    await asyncio.sleep(0.05)
    assert not mailbox.done()
    mailbox.cancel()
