"""Long work of many takes one slice a turn."""

from __future__ import annotations

import asyncio

from atoll.runtime.turns import Turns


async def test_one_slice_between_two_looks_at_the_rest() -> None:
    turns, log = Turns(), []
    loop = asyncio.get_running_loop()

    async def long(name: str) -> None:
        for _ in range(5):
            await turns.take()
            log.append(name)

    def tick() -> None:
        log.append(".")
        if log.count(".") < 60:
            loop.call_soon(tick)

    loop.call_soon(tick)
    await asyncio.gather(*(long(name) for name in "abcd"))
    text = "".join(log)
    assert all(len(run) <= 1 for run in text.split("."))
    assert text.replace(".", "") == "abcd" * 5


async def test_those_who_left_are_passed_over() -> None:
    turns = Turns()
    tasks = [asyncio.create_task(turns.take()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks[1:])
    await asyncio.wait_for(turns.take(), 1)
