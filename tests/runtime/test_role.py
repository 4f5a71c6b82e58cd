"""A role's control channel from its first byte: what was read before the loop ran comes before what follows."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import msgspec
import uvloop

from atoll.base.config import Config
from atoll.runtime import role
from atoll.runtime.control import Lines, encode
from atoll.runtime.role import RoleContext


def test_the_newest_pid_table_stays(tmp_path: Path) -> None:
    """Tables that come during the start: an older one taken for the newest would refuse a process for good."""
    seen: list[str | None] = []

    async def main(context: RoleContext) -> None:
        await asyncio.sleep(0.05)
        seen.append(context.role_of_pid(7))

    ours, theirs = socket.socketpair()
    with ours:
        start = {"type": "start", "name": "good", "data": str(tmp_path), "listeners": {}, "pids": {"1": "init"},
                 "config": msgspec.json.encode(Config()).decode()}
        ours.sendall(encode(start) + encode({"type": "pids", "pids": {"1": "init", "6": "frontend-1"}}))
        lines = Lines()
        first, *more = role._first_messages(theirs, lines)
        assert len(more) == 1
        ours.sendall(encode({"type": "pids", "pids": {"1": "init", "7": "frontend-1"}}))
        uvloop.run(role._live(main, first, {}, theirs, lines, more))
    assert seen == ["frontend-1"]
