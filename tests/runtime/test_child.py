"""A role's process as its supervisor sees it: start message, questions, pings, stop, death."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from atoll.base.config import Config, Log
from atoll.runtime import child as child_module
from atoll.runtime.child import Child

ROOT = Path(__file__).resolve().parents[2]
Start = Callable[..., Any]


class Started:
    """A child and what it said."""

    def __init__(self, name: str) -> None:
        self.said: list[dict[str, Any]] = []
        self.child = Child(name, self.said.append)

    async def start(self, tmp_path: Path, listeners: dict[str, socket.socket] | None = None) -> None:
        listeners = listeners or {}
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        await self.child.start("tests.runtime.stuck", listeners, environment, None)
        self.child.send({"type": "start", "name": self.child.name, "data": str(tmp_path), "pids": {"1": "init"},
                         "config": msgspec.json.encode(Config()).decode(), "supervisor": os.getpid(),
                         "listeners": {name: sock.fileno() for name, sock in listeners.items()}})
        while {"type": "ready"} not in self.said and not self.child.ended.done():
            await asyncio.sleep(0.01)


async def started(name: str, tmp_path: Path) -> Started:
    made = Started(name)
    async with asyncio.timeout(20):
        await made.start(tmp_path)
    assert not made.child.ended.done()
    return made


async def test_it_answers_and_stops_when_it_is_asked(tmp_path: Path) -> None:
    made = await started("good", tmp_path)
    made.child.watch()
    answer = await made.child.ask("metrics")
    assert answer is not None
    assert ["counter", "things_total", {"kind": "small"}, 3] in answer["rows"]
    made.child.send({"type": "reload", "tls": None,
                     "config": msgspec.json.encode(Config(log=Log(level="debug"))).decode()})
    await made.child.stop(5, 0)
    assert made.child.ended.result() == 0
    assert {"type": "health", "name": "level", "state": "ok", "detail": "debug"} in made.said


async def test_sigterm_stops_it_as_well(tmp_path: Path) -> None:
    made = await started("good", tmp_path)
    made.child.signal(signal.SIGTERM)
    assert await asyncio.wait_for(made.child.ended, 5) == 0
    made.child.signal(signal.SIGKILL)  # its pid may be another's by now: nothing is sent


async def test_the_end_of_the_channel_stops_it(tmp_path: Path) -> None:
    made = await started("good", tmp_path)
    transport = made.child._channel.transport
    assert transport is not None
    transport.abort()
    assert await asyncio.wait_for(made.child.ended, 5) == 0


async def test_an_error_is_logged_and_is_exit_code_1(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = Started("broken")
    await made.start(tmp_path)
    assert await asyncio.wait_for(made.child.ended, 20) == 1
    assert "broken on purpose" in capfd.readouterr().err


async def test_a_stuck_role_dumps_its_stacks_and_dies(tmp_path: Path, capfd: pytest.CaptureFixture[str],
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "PING_SECONDS", 0.1)
    made = await started("stuck", tmp_path)
    made.child.watch()
    assert await asyncio.wait_for(made.child.ended, 10) == -signal.SIGABRT
    dump = capfd.readouterr().err
    assert "Fatal Python error: Aborted" in dump
    assert "stuck.py" in dump


async def test_a_stopped_process_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "PING_SECONDS", 0.1)
    monkeypatch.setattr(child_module, "DUMP_SECONDS", 0.2)
    made = await started("good", tmp_path)
    made.child.signal(signal.SIGSTOP)
    made.child.watch()
    assert await asyncio.wait_for(made.child.ended, 10) == -signal.SIGKILL


async def test_a_healthy_role_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "PING_SECONDS", 0.05)
    made = await started("good", tmp_path)
    made.child.watch()
    await asyncio.sleep(0.5)
    assert not made.child.ended.done()
    await made.child.stop(5, 0)


async def test_one_that_does_not_stop_is_ended(tmp_path: Path) -> None:
    made = await started("slow", tmp_path)
    await made.child.stop(0.3, 0)
    assert made.child.ended.result() == -signal.SIGABRT


async def test_it_gets_its_listeners_and_no_other_descriptor(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    secret = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(secret, True)
    made = Started("good")
    await made.start(tmp_path, {"imap": listener})
    links = {os.readlink(link) for link in Path(f"/proc/{made.child.pid}/fd").iterdir()} if os.geteuid() == 0 else set()
    await made.child.stop(5, 0)
    os.close(secret)
    if links:
        assert f"socket:[{os.fstat(listener.fileno()).st_ino}]" in links
        assert sum(link == "/dev/null" for link in links) <= 1  # its stdin


async def test_when_it_was_started_is_told_apart_from_another_of_the_same_pid(tmp_path: Path) -> None:
    made = await started("good", tmp_path)
    now = Path("/proc/uptime").read_text().split()[0]
    assert 0 < float(now) - made.child.born / os.sysconf("SC_CLK_TCK") < 20
    assert made.child.born == child_module.born(made.child.pid)
    assert child_module.born(os.getppid()) != made.child.born
    await made.child.stop(5, 0)
    assert child_module.born(made.child.pid) == 0


async def test_one_that_is_killed_before_it_was_spoken_to_has_ended(tmp_path: Path) -> None:
    made = Started("good")
    loop = asyncio.get_running_loop()
    starting = loop.create_task(made.child.start("tests.runtime.stuck", {}, {"PATH": os.environ["PATH"]}, None))
    await asyncio.sleep(0)  # the process is there, the channel is being made
    os.kill(made.child.pid, signal.SIGKILL)
    while Path(f"/proc/{made.child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.001)
    await starting
    assert await asyncio.wait_for(made.child.ended, 5) == -signal.SIGKILL
