"""A process that cannot be started leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from atoll.base.clock import SystemClock
from atoll.base.config import Config
from atoll.roles import instances
from atoll.roles.lives import Lives
from atoll.runtime.child import Child


class NoSockets:
    def of(self, role: object) -> dict[str, Any]:
        return {}

    def identity(self, role: object) -> None:
        return None


async def test_the_memory_for_a_hand_over_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*args: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(Child, "start", refuse)
    roles = [one for one in instances(Config()) if one.role.hands_over]
    lives = Lives(tmp_path, NoSockets(), roles, {}, SystemClock(), message=lambda role: {},  # type: ignore[arg-type]
                  stopping=asyncio.Event(), on_end=None)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Resource"):
        await lives._begin(lives.roles[0])
    assert os.listdir("/proc/self/fd") == before
