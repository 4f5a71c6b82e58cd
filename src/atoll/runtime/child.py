"""One role's process, seen from the supervisor: started, talked to, watched, stopped.

In     a role's name, its listeners, its start message.
Out    a fresh `python -m MODULE NAME` with exactly these descriptors; its messages; the moment it ended.
Spec   PROCESSES 2, 10, 11; the control channel of runtime.control.
Fails  OSError when no process can be started.
Not    when to start again (runtime.backoff) and in which order (roles.supervisor).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.runtime.control import ControlProtocol

PING_SECONDS = 5.0
MISSES = 3
"""Pings without an answer before the role is told to dump its stacks and die."""
DUMP_SECONDS = 2.0
ANSWER_SECONDS = 1.0

_log = logging.getLogger("atoll.supervisor")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose rights a role runs with; None: the supervisor's own."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


class Child:
    """A living process. `ended` resolves to its return code (negative: the signal)."""

    def __init__(self, name: str, on_message: Callable[[dict[str, Any]], None]) -> None:
        self.name = name
        self.pid = 0
        self.born = 0
        """Clock tick at which it was started: with the pid, this process and no other."""
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._on_message = on_message
        self._channel: ControlProtocol
        self._process: subprocess.Popen[bytes]
        self._unanswered = 0
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._watch: asyncio.Task[None] | None = None

    async def start(self, module: str, listeners: Mapping[str, socket.socket], environment: Mapping[str, str],
                    identity: Identity | None, more: Iterable[int] = ()) -> None:
        """Start the process; it waits for the start message before it does anything. more: descriptors beside these."""
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno(), *(sock.fileno() for sock in listeners.values()), *more]
        who: dict[str, Any] = {}
        if identity is not None:
            who = {"user": identity.uid, "group": identity.gid, "extra_groups": list(identity.groups)}
        with theirs:  # the name is for those who look at a process list
            # -P: the working directory is no place to import from. An own process group: a terminal's Ctrl-C is
            # the supervisor's to act on, in its order.
            self._process = subprocess.Popen(  # noqa: S603, ASYNC220 - a spawn takes a millisecond
                [sys.executable, "-P", "-m", module, self.name], pass_fds=fds, stdin=subprocess.DEVNULL,
                env={**environment, "ATOLL_CONTROL": str(theirs.fileno())}, process_group=0, **who)
        self.pid = self._process.pid
        self.born = born(self.pid)
        loop = asyncio.get_running_loop()
        pidfd = os.pidfd_open(self.pid)
        ours.setblocking(False)
        self._channel = ControlProtocol(self._received, lambda: None)
        await loop.create_connection(lambda: self._channel, sock=ours)
        loop.add_reader(pidfd, self._exited, pidfd)  # it may be dead already: that is seen now

    def send(self, message: dict[str, Any]) -> None:
        """Tell the role something."""
        self._channel.send(message)

    async def ask(self, kind: str) -> dict[str, Any] | None:
        """The role's answer to a question ("metrics"), or None when it does not come within a second."""
        self._number += 1
        number = self._number
        waiter = self._asked[number] = asyncio.get_running_loop().create_future()
        self.send({"type": kind, "id": number})
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer: dict[str, Any] = await waiter
                return answer
        except TimeoutError:
            return None
        finally:
            del self._asked[number]

    def watch(self) -> None:
        """Ping it from now on: a role whose event loop is stuck is ended, with its stacks in the log."""
        self._watch = asyncio.create_task(self._ping(), name=f"ping {self.name}")

    def signal(self, number: int) -> None:
        """Send a signal to a process that has not been reaped: its pid cannot be another's yet."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self, seconds: float, drain: float, *, hand_over: bool = False) -> None:
        """Ask it to stop; end it when that takes longer than `seconds`. hand_over: its next life begins at once."""
        self.send({"type": "stop", "drain": drain, "hand_over": hand_over})
        await self.end_within(seconds)

    async def end_within(self, seconds: float) -> None:
        """Wait for its end, which it was asked for; bring it about after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self.ended)
        except TimeoutError:
            _log.error("role does not stop", extra={"f": {"of": self.name, "seconds": seconds}})
            await self.abort()

    async def abort(self) -> None:
        """Stacks to the log, then the end."""
        self.signal(signal.SIGABRT)
        done, _ = await asyncio.wait([self.ended], timeout=DUMP_SECONDS)
        if not done:
            self.signal(signal.SIGKILL)
            await asyncio.shield(self.ended)

    def _received(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "pong":
            self._unanswered = 0
        elif "id" in message:
            waiter = self._asked.get(message["id"])
            if waiter is not None and not waiter.done():
                waiter.set_result(message)
        else:
            self._on_message(message)

    async def _ping(self) -> None:
        number = 0
        while not self.ended.done():
            if self._unanswered >= MISSES:
                _log.error("role does not answer", extra={"f": {"of": self.name, "pid": self.pid}})
                await self.abort()
                return
            number += 1
            self._unanswered += 1
            self.send({"type": "ping", "id": number})
            await asyncio.wait([self.ended], timeout=PING_SECONDS)

    def _exited(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        code = self._process.wait()
        if self._watch is not None and asyncio.current_task() is not self._watch:
            self._watch.cancel()
        if self._channel.transport is not None:
            self._channel.transport.close()
        self.ended.set_result(code)


def born(pid: int) -> int:
    """When a process was started, in clock ticks since boot: field 22 of proc_pid_stat(5). 0: it cannot be seen."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
