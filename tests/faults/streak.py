"""Death after death in one life of an island: what kills.py and test_killed_by_hand.py do once a start, by the dozen.

In     an island that does not run; seeds of kills.plan, or of what is killed by hand.
Out    a ledger, after all of them have died, one after the other and together, and the last delivery.
Spec   R01, as in kills.py. ATOLL_FAILPOINTS has what is armed after each death of a role; `role restart` lets nobody
       wait for a back-off: each role's next life is armed at once, while the others die of what they have armed.
Fails  AssertionError when nothing dies for DEATH_SECONDS though something is armed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

from atoll.admin import ops
from atoll.runtime.paths import RunPaths
from atoll.runtime.rpc import RpcClient, RpcError
from tests.faults import kills
from tests.faults.kills import DEATH_SECONDS, Plan
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.island import Island

LOOK_SECONDS = 0.01
STALL_SECONDS = 0.5
"""Nothing died for so long: roles that have nothing armed any more die by hand, and those left get to their point."""
DIRECTORY_COMMITS = 3, 12
"""The passage at which it dies: each mount of a mailbox database is a commit of the directory."""
SERVING = {"mailbox-1", "mailbox-2", "transport"}
ROLES = {"content", "directory", "frontend-1"} | SERVING


class Streak:
    """The deaths of one life of an island, seen in its log."""

    def __init__(self, island: Island) -> None:
        self.island = island
        self.deaths: Counter[str] = Counter()
        self.ready: set[str] = set()
        self.quiet_since = time.monotonic()
        self._read = island.log_start
        self._part = b""
        self._directory_died = False
        self._waiting: set[str] = set()
        self._admin = RpcClient(RunPaths(island.data).admin, timeout=1)
        self._asks = asyncio.create_task(self._restarts())

    async def close(self) -> None:
        self._asks.cancel()
        await self._admin.close()

    async def until(self, done: Callable[[], bool], seconds: float = DEATH_SECONDS) -> None:
        """Look at the log until it says so."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"not in {seconds} s; dead {self.deaths}, ready {self.ready}"
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """What has been logged since the last look."""
        for event in self._events():
            role = str(event.get("of"))
            if event["event"] == "role ready":
                self.ready.add(role)
                self._waiting.discard(role)
                if role == "directory" and self._directory_died:
                    self._directory_died = False
                    self._waiting.add(role)  # who is asked to let nobody wait has died itself: it waits next time
            elif event["event"] == "role died":
                self.ready.discard(role)
                self.deaths[role] += 1
                self.quiet_since = time.monotonic()
                if role == "directory":
                    self._directory_died = True
                elif event["again_in"] > LOOK_SECONDS:
                    self._waiting.add(role)

    def _events(self) -> Iterator[dict[str, Any]]:
        with self.island.log_path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        *lines, self._part = (self._part + new).split(b"\n")
        for line in lines:
            if line.startswith(b"{") and b'"role ' in line:
                yield json.loads(line)

    async def _restarts(self) -> None:
        """Ask for each that waits, again and again: the directory, which takes such words, may be away."""
        while True:
            for role in sorted(self._waiting):
                with contextlib.suppress(RpcError):
                    await self._admin.call("role.restart", ops.RoleRestart(role, 0.0), ops.RoleRow)
                    self._waiting.discard(role)
                    if role == "directory":
                        self.ready.discard(role)
            await asyncio.sleep(LOOK_SECONDS)

    def directory_fresh(self) -> bool:
        """It serves, and its next death is the first in a row: nobody could shorten its back-off."""
        return "directory" in self.ready and "directory" not in self._waiting and not self._directory_died

    def kill(self, roles: Iterable[str]) -> None:
        """All at once; one that does not run is left alone."""
        self.look()
        pids = self.island.pids()
        for role in roles:
            self.ready.discard(role)
            with contextlib.suppress(ProcessLookupError, KeyError):
                os.kill(pids[role], signal.SIGKILL)


def armed(plans: Sequence[Plan]) -> tuple[str, dict[str, int]]:
    """ATOLL_FAILPOINTS, and how often each role dies of it."""
    chance = random.Random(plans[0].seed)
    after = [{name: nth for name, nth in plan.armed.items() if name in kills.MAILBOX + kills.TRANSPORT}
             for plan in plans]
    of_directory = [name for plan in plans for name in plan.armed if name in kills.DIRECTORY]
    for one, name in zip(after, of_directory, strict=False):
        one[name] = chance.randint(*DIRECTORY_COMMITS)
    after += [{"mailbox.dismount.before": 1}] * 100  # who stops in order dies of that
    text = ";".join(",".join(f"{name}=kill@{nth}" for name, nth in one.items()) for one in after)
    return text, dict.fromkeys(SERVING, len(plans)) | {"directory": len(of_directory)}


async def all_die(streak: Streak, plans: Sequence[Plan], wanted: dict[str, int]) -> None:
    """Until every role has died of each point that is armed in it."""
    def left() -> dict[str, int]:
        return {role: count for role, all_ in wanted.items() if (count := all_ - streak.deaths[role]) > 0}

    short = left()
    deadline = time.monotonic() + DEATH_SECONDS
    while short:
        await asyncio.sleep(LOOK_SECONDS)
        streak.look()
        if (now := left()) != short:
            short, deadline = now, time.monotonic() + DEATH_SECONDS
        assert time.monotonic() < deadline, f"nothing dies of what is armed; {streak.deaths} of {wanted}: {plans}"
        idle = {"mailbox-1", "mailbox-2"} & streak.ready - short.keys()
        if idle and time.monotonic() - streak.quiet_since > STALL_SECONDS:
            streak.kill(idle)


def run(island: Island, seeds: range) -> Ledger:
    """Start it armed, load it until each role has died of every seed's point, read everything, end it."""
    plans = [kills.plan(seed) for seed in seeds]
    environment, wanted = armed(plans)
    return _run(island, f"s{seeds[0]}", environment, lambda streak: all_die(streak, plans, wanted),
                crash=seeds[0] // len(seeds) % 3 > 0)


def by_hand(island: Island, seeds: range) -> Ledger:
    """The same with every role, at any moment of its life."""
    chance = random.Random(f"by hand {seeds[0]}")

    async def deaths(streak: Streak) -> None:
        await streak.until(lambda: streak.ready >= ROLES)
        left = sorted(ROLES) * 2 * len(seeds)
        chance.shuffle(left)
        while left:
            count = chance.choice((1, 1, 1, 2, 3))
            together, left = set(left[:count]), left[count:]
            moment = time.monotonic() + chance.uniform(0, 0.4)
            await streak.until(lambda until=moment: time.monotonic() > until)
            if "directory" in together:
                await streak.until(streak.directory_fresh)
            await streak.until(lambda who=together: who <= island.pids().keys())
            streak.kill(together)

    return _run(island, f"h{seeds[0]}", "", deaths, crash=seeds[0] // len(seeds) % 2 > 0)


def _run(island: Island, name: str, environment: str, deaths: Callable[[Streak], Awaitable[None]], *,
         crash: bool) -> Ledger:
    prepare(island)
    ledger = Ledger()
    with kills.ended(island):
        island.environment = {"ATOLL_FAILPOINTS": environment}
        island.start(wait=False)
        load = Load(island, ledger, name, sum(name.encode()))
        with load.running():
            asyncio.run(_watched(island, deaths, settle=not crash))
            if crash:
                island.crash()
        if crash:
            island.environment = {}
            island.start()
        assert load.refused == []
        kills.read_all(island, ledger, hurry=lambda: asyncio.run(_hurry(island)))
        for who in kills.PEOPLE:
            kills.empty(island, who)
        island.stop()
    return ledger


async def _watched(island: Island, deaths: Callable[[Streak], Awaitable[None]], *, settle: bool) -> None:
    streak = Streak(island)
    try:
        await deaths(streak)
        if settle:
            await streak.until(lambda: streak.ready >= SERVING)
    finally:
        await streak.close()


async def _hurry(island: Island) -> None:
    """Who died twice with the same mail under way has it wait for a quarter of an hour (transport.lanes)."""
    admin = RpcClient(RunPaths(island.data).admin, timeout=2)
    with contextlib.suppress(RpcError):
        await admin.call("queue.retry", ops.QueueAct(), ops.Count)
    await admin.close()


def prepare(island: Island) -> None:
    """One that never ran knows neither its ports nor its people."""
    if not (island.data / "demo.json").exists():
        island.start()
        island.stop()
