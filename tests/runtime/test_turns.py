"""Long work of many shares the turns of the loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from atoll.runtime.turns import LONG, SLICE, Turns


async def logged(slices: int, names: str, seconds: float) -> str:
    """The order in which slices of so many seconds were done; a dot for each turn of the loop."""
    turns, log = Turns(), []
    loop = asyncio.get_running_loop()
    over = False

    async def long(name: str) -> None:
        for _ in range(slices):
            await turns.take()
            log.append(name)
            began = time.perf_counter()
            while time.perf_counter() - began < seconds:
                pass

    def tick() -> None:
        log.append(".")
        if not over:
            loop.call_soon(tick)

    loop.call_soon(tick)
    await asyncio.gather(*(long(name) for name in names))
    over = True
    return "".join(log)


async def test_one_long_slice_between_two_looks_at_the_rest() -> None:
    text = await logged(5, "abcd", LONG * 1.1)
    assert max(len(run) for run in text.split(".")) <= 2  # the first of all goes on at once
    assert sorted(text.replace(".", "")) == sorted("abcd" * 5)


async def test_short_slices_share_a_turn() -> None:
    text = await logged(1, "x" * 60, 0)
    assert len(text.strip(".").split(".")) <= 3
    text = await logged(3, "x" * 60, LONG / 10)
    runs = [len(run) for run in text.split(".") if run]
    assert len(runs) < 60  # 180 slices
    assert max(runs) <= 25


@pytest.mark.parametrize("gone", [0, 1, 2])
async def test_those_who_left_are_passed_over(gone: int) -> None:
    turns = Turns()
    await turns.take()
    time.sleep(SLICE)
    tasks = [asyncio.create_task(turns.take()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks.pop(gone).cancel()
    await asyncio.wait_for(asyncio.gather(*tasks), 1)
    await asyncio.wait_for(turns.take(), 1)


async def test_long_work_pauses_for_as_long_as_it_took_while_somebody_writes() -> None:
    turns, pauses = Turns(), list[float]()
    took = LONG * 1.5

    async def long() -> None:
        for _ in range(6):
            asked = time.perf_counter()
            await turns.take()
            pauses.append(time.perf_counter() - asked)
            turns.press()
            began = time.perf_counter()
            while time.perf_counter() - began < took:
                pass

    await long()
    # the first goes on at once, the second begins a turn of its own; then each waits for as long as the last one took
    assert min(pauses[2:]) > took * 0.6  # a timer of the loop is good to a millisecond


async def test_nobody_pauses_when_nobody_writes() -> None:
    turns, looks = Turns(), list[int]()
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if len(looks) < 6:
            asyncio.get_running_loop().call_soon(tick)

    asyncio.get_running_loop().call_soon(tick)
    for _ in range(6):
        before = ticks
        await turns.take()
        looks.append(ticks - before)
        began = time.perf_counter()
        while time.perf_counter() - began < LONG * 1.5:
            pass
    assert max(looks) <= 3
