"""Deaths and restarts at any moment: of roles while the island starts, and of roles that are being replaced.

In     a seed: which roles, when.
Out    what is wrong afterwards: a role that does not come back, a process too many, a person who cannot sign in.
Spec   PROCESSES 11: a role that dies is started again, whatever it died of; the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from pathlib import Path

from atoll.admin import ops
from atoll.runtime.paths import RunPaths
from atoll.runtime.rpc import RpcClient, RpcError
from tests.island import Island
from tests.roles.people import imap_again

CONFIG = "[processes]\nfrontends = 2\ndrain_seconds = 0\n"
ROLES = ("directory", "content", "mailbox-1", "mailbox-2", "transport", "frontend-1", "frontend-2")
CALM_SECONDS = 40.0
"""After the last death: backing off takes up to 5 s for a role that died four times."""


def deaths_in_a_start(seed: int) -> list[str]:
    """Up to six roles are killed in the first seconds of an island."""
    chance = random.Random(seed)
    island = Island(config=CONFIG)
    try:
        island.start(wait=False)
        begin = time.monotonic()
        for at in sorted(chance.uniform(0.05, 2.5) for _ in range(chance.randint(2, 6))):
            time.sleep(max(0.0, begin + at - time.monotonic()))
            _kill(island, chance)
        island.wait_ready(CALM_SECONDS)
        return wrong(island)
    finally:
        island.close()


def deaths_in_restarts(seed: int) -> list[str]:
    """Ten times a role is restarted or killed, the next one before the last is over."""
    chance = random.Random(seed)
    with Island(config=CONFIG) as island:
        for _ in range(10):
            time.sleep(chance.uniform(0, 0.5))
            if chance.random() < 0.6:
                with contextlib.suppress(RpcError):  # it is being restarted already
                    asyncio.run(_restart(island, chance.choice(ROLES), chance.choice((0.0, 1.0, 3.0))))
            else:
                _kill(island, chance)
        found = wrong(island)
        if island.stop() != 0 or "Traceback" in island.log():
            found.append("it does not stop in order")
        return found


def wrong(island: Island) -> list[str]:
    """After at most CALM_SECONDS: every role once and healthy, both databases serve."""
    assert island.process is not None
    children = Path(f"/proc/{island.process.pid}/task/{island.process.pid}/children")
    deadline = time.monotonic() + CALM_SECONDS
    while True:
        ill = {role: state for role, state in island.healthz().items() if state != "ok"}
        count = len(children.read_text().split())
        if (not ill and count == len(ROLES)) or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    found = [f"{role} is {state}" for role, state in ill.items()]
    if count != len(ROLES):
        found.append(f"{count} processes")
    for who in ("alice", "bob"):
        try:
            imap_again(island, who)[0].logout()
        except Exception as error:
            found.append(f"{who}: {error}")
    return found


def _kill(island: Island, chance: random.Random) -> None:
    role = chance.choice(ROLES)
    pid = island.pids().get(role)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def _restart(island: Island, role: str, drain: float) -> None:
    client = RpcClient(RunPaths(island.data).admin, timeout=3)
    try:
        await client.call("role.restart", ops.RoleRestart(role, drain), ops.RoleRow)
    finally:
        await client.close()
