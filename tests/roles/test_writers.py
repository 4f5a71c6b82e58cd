"""A mailbox process whose writer is stuck says so, and ends [PROCESSES 11]."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from atoll.mailbox.store import Store
from atoll.roles import writers
from tests.mailbox.kit import mounted

SECONDS = 0.05


@contextlib.asynccontextmanager
async def proving(store: Store, end: Callable[[], None]) -> AsyncIterator[list[tuple[str, str]]]:
    said: list[tuple[str, str]] = []
    task = asyncio.create_task(writers.prove(store, lambda name, state, _: said.append((name, state)), end, SECONDS))
    yield said
    task.cancel()


async def test_a_writer_that_works_is_left_alone(tmp_path: Path) -> None:
    async with mounted(tmp_path) as store, proving(store, lambda: ended.append(1)) as said:
        ended: list[int] = []
        before = store.database("db1").writer.groups
        await asyncio.sleep(SECONDS * 8)
        assert store.database("db1").writer.groups >= before + 3
        assert (said, ended) == ([], [])


async def test_a_stuck_one_is_shown_and_ended_and_one_that_is_only_slow_is_not(tmp_path: Path) -> None:
    async with mounted(tmp_path) as store:
        ended: list[int] = []
        for seconds, stuck in ((SECONDS * 2.5, False), (SECONDS * 8, True)):
            go_on = threading.Event()
            holding = asyncio.create_task(store.database("db1").writer.between(lambda go_on=go_on: go_on.wait(10)))
            await asyncio.sleep(0)
            async with proving(store, lambda: ended.append(1)) as said:
                await asyncio.sleep(seconds)
                assert said[0] == ("writer db1", "fail")
                assert bool(ended) == stuck
                go_on.set()
                await holding
                await asyncio.sleep(SECONDS * 3)
                assert said[-1] == ("writer db1", "ok")


async def test_a_dismounted_database_is_not_asked(tmp_path: Path) -> None:
    async with mounted(tmp_path) as store, proving(store, lambda: ended.append(1)) as said:
        ended: list[int] = []
        await store.dismount("db1")
        await asyncio.sleep(SECONDS * 6)
        assert (said, ended) == ([], [])
