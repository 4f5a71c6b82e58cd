"""Waiting for what comes soon: a loaded machine takes longer than a quiet one, and no test may rely on how long.

In     something to ask, and its answer when all is well.
Fails  AssertionError with the last answer when it is another one for SECONDS.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

SECONDS = 10.0


async def eventually(asked: Callable[[], Any], wanted: Any = True) -> None:
    """Ask until the answer is `wanted`. asked: a function, or one that gives an awaitable."""
    deadline = time.monotonic() + SECONDS
    while True:
        answer = asked()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer == wanted or time.monotonic() > deadline:
            assert answer == wanted
            return
        await asyncio.sleep(0.005)
