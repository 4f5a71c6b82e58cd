"""The administration API's words about the island's processes: parameters and results (see ops.py).

In/Out  msgspec Structs; durations in seconds.
Not     a place for behaviour.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class RoleRow(msgspec.Struct):
    """One role. pid 0: it does not run. starts: how often it was started. old: processes that only let sessions end."""

    name: str
    state: Literal["ok", "warn", "fail"]
    pid: int
    starts: int
    seconds: float
    old: int
    restarting: bool
    trouble: str
    """Why the last restart did not come about."""
    detail: str


class Roles(msgspec.Struct):
    roles: list[RoleRow]


class RoleRestart(msgspec.Struct):
    """drain: how long a frontend's sessions may go on; without it as processes.restart_drain_seconds says."""

    name: str
    drain: float | None = None
