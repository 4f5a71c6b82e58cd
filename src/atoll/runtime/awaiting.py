"""runtime.awaiting -- whichever of several things happens first.

In     awaitables, a time. Out  the moment one of them is done. Fails  never. Not  results: ask whoever was waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


async def first(*events: Awaitable[object], within: float | None = None) -> None:
    """Until one of them is there, or the time is over. The others are cancelled: shield what must go on."""
    tasks = [asyncio.ensure_future(event) for event in events]
    try:
        await asyncio.wait(tasks, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
