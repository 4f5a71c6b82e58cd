"""A group waits for those who are likely to come, and for nobody else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from atoll.sql import gathering

from .kit import Epochs, Opened, Words, opened

FOREVER = 30.0


@pytest.fixture
async def one(tmp_path: Path):  # type: ignore[no-untyped-def]
    opening = await opened(tmp_path / "a.sqlite", Epochs())
    yield opening
    await opening.close()


async def say(one: Opened, word: str, after: float = 0) -> None:
    await asyncio.sleep(after)

    def work(context: Words) -> None:
        context.add(word)
    await one.writer.submit(work)


async def test_one_who_is_alone_never_waits(one: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "WAIT", FOREVER)
    async with asyncio.timeout(10):
        for n in range(20):
            await say(one, f"w{n}")
    assert one.writer.groups == 20


async def test_who_was_answered_together_is_waited_for(one: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "WAIT", FOREVER)
    monkeypatch.setattr(gathering, "RECENT", FOREVER)
    async with asyncio.timeout(10):
        await asyncio.gather(*(say(one, f"a{n}") for n in range(3)))
        await asyncio.gather(say(one, "b0"), say(one, "b1", 0.02), say(one, "b2", 0.04))
    assert one.writer.groups == 2


async def test_who_comes_while_a_group_is_written_is_waited_for_with_those_of_the_group(
        one: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "WAIT", FOREVER)

    async def first() -> None:
        await say(one, "a")
        await say(one, "c", 0.02)

    async def second() -> None:
        while not one.writer.busy or one.writer._waiting:
            await asyncio.sleep(0)
        await say(one, "b")  # a is being written

    async with asyncio.timeout(10):
        await asyncio.gather(first(), second())
    assert one.writer.groups == 2


async def test_a_group_goes_without_those_who_stay_away_and_the_next_expects_fewer(one: Opened) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(say(one, f"a{n}") for n in range(3)))
    began = loop.time()
    await say(one, "b")  # waits for two others
    waited = loop.time() - began
    assert waited >= gathering.WAIT * 0.9
    async with asyncio.timeout(10):
        gathering_before = one.writer.groups
        await say(one, "c")
    assert one.writer.groups == gathering_before + 1
    assert one.writer._gathering._expected == 1


async def test_nobody_is_waited_for_when_the_last_group_was_long_ago(
        one: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "WAIT", FOREVER)
    monkeypatch.setattr(gathering, "RECENT", 0.01)
    async with asyncio.timeout(10):
        await asyncio.gather(*(say(one, f"a{n}") for n in range(3)))
        await say(one, "b", 0.05)
    assert one.writer.groups == 2


async def test_a_writer_that_ends_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "WAIT", FOREVER)
    one = await opened(tmp_path / "b.sqlite", Epochs())
    async with asyncio.timeout(10):
        await asyncio.gather(*(say(one, f"a{n}") for n in range(3)))
        last = asyncio.ensure_future(say(one, "b"))
        await asyncio.sleep(0.05)
        await one.close()
        await last
