"""Evil moments of a start: whoever is slow, stopped or killed in it, the island becomes ready [PROCESSES 2, 11]."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.island import Island, IslandError
from tests.roles.people import imap, works

ROLES = ("directory", "content", "mailbox-1", "mailbox-2", "transport", "frontend-1")
READY_SECONDS = 20.0


@contextlib.contextmanager
def starting() -> Iterator[Island]:
    """One whose processes are being started."""
    island = Island()
    try:
        island.start(wait=False)
        yield island
    finally:
        island.close()


def spawned(island: Island, role: str) -> int:
    """Its pid as soon as there is one."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if role in island.pids():
            return island.pids()[role]
    raise IslandError(f"{role} is not started")


@pytest.mark.parametrize("role", ["frontend-1", "mailbox-2"])
def test_a_slow_role_only_delays_the_ready_line(role: str) -> None:
    with starting() as island:
        pid = spawned(island, role)
        os.kill(pid, signal.SIGSTOP)
        deadline = time.monotonic() + READY_SECONDS
        while island.log().count('"role ready"') < len(ROLES) - 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)  # its ports are probed
        assert "Atoll is ready" not in island.log()
        os.kill(pid, signal.SIGCONT)
        island.wait_ready(8)
        assert island.health()["state"] != "fail"
        assert works(imap(island, "alice"))


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_is_killed_while_it_starts(role: str) -> None:
    chance = random.Random(role)
    with starting() as island:
        pid = spawned(island, role)
        time.sleep(chance.uniform(0, 0.8))
        os.kill(pid, signal.SIGKILL)
        island.wait_ready(READY_SECONDS)
        assert set(island.healthz().values()) == {"ok"}
        assert works(imap(island, "bob"))


@pytest.mark.parametrize("seed", range(4))
def test_a_supervisor_that_is_killed_while_roles_start(seed: int) -> None:
    chance = random.Random(seed)
    with starting() as island:
        for _ in range(2):
            time.sleep(chance.uniform(0.2, 1.0))
            assert island.process is not None
            os.kill(island.process.pid, signal.SIGKILL)
            island.process.wait()
            offset = island.offset
            island.start(wait=False)  # at once: roles of before hold the ports, perhaps they have not begun yet
        island.wait_ready(READY_SECONDS)
        assert island.offset == offset
        assert works(imap(island, "alice"))


def test_a_role_that_cannot_start_is_shown_and_does_not_keep_the_others_from_serving() -> None:
    island = Island()
    (island.data / "queue" / "queue.sqlite").mkdir(parents=True)
    try:
        island.start(wait=False)
        island.wait_ready(30)
        assert works(imap(island, "alice"))
        assert island.healthz()["transport"] == "fail"
        assert island.health()["state"] == "fail"
    finally:
        island.close()


@pytest.mark.parametrize("commit", [3, 4, 5, 6])
def test_the_demo_is_whole_though_the_directory_dies_while_it_makes_it(commit: int) -> None:
    with Island(environment={"ATOLL_FAILPOINTS": f"directory.commit.after=kill@{commit}"}) as island:
        for who in ("alice", "bob", "admin"):
            assert works(imap(island, who))
