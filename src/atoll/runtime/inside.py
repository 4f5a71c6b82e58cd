"""A role in the supervisor's own process (`--single-process`): for debuggers, tests and tiny machines.

In     the same start message, listeners and control messages as a process gets.
Out    the same answers; `ended` resolves when the role's main returns or raises.
Spec   PROCESSES 10: the same sockets, tokens, limits, pid checks and import contracts.
Fails  a role that raises ends the island: what it holds (locks, connections) stays held in this process.
Not    separation: one address space, one slow role delays all; no Landlock, no own uid.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from atoll.runtime.child import ANSWER_SECONDS, Identity
from atoll.runtime.role import RoleContext

_log = logging.getLogger("atoll.supervisor")


class InsideRole:
    """Stands where a Child stands."""

    def __init__(self, name: str, on_message: Callable[[dict[str, Any]], None]) -> None:
        self.name = name
        self.pid = os.getpid()
        self.born = 0
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._on_message = on_message
        self._module = ""
        self._listeners: dict[str, socket.socket] = {}
        self._context: RoleContext | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, module: str, listeners: Mapping[str, socket.socket], environment: Mapping[str, str],
                    identity: Identity | None, more: Iterable[int] = ()) -> None:
        """Keep what the role begins with; it begins with the start message."""
        self._module = module
        # A server closes the socket that it is given: ours stays open for the role's next life.
        self._listeners = {name: sock.dup() for name, sock in listeners.items()}

    def send(self, message: dict[str, Any]) -> None:
        """What a process would read from its control channel."""
        if message["type"] == "start":
            self._context = RoleContext(message, self._listeners, self._answer)
            main = importlib.import_module(self._module).main
            self._task = asyncio.create_task(main(self._context), name=self.name)
            self._task.add_done_callback(self._finished)
        elif self._context is not None:
            self._context.told(message)

    async def ask(self, kind: str) -> dict[str, Any] | None:
        """The answer to a question ("metrics")."""
        assert self._context is not None
        return {"rows": self._context.metrics.snapshot()} if kind == "metrics" else None

    def watch(self) -> None:
        """Nothing: a stuck role has stuck us as well; systemd's watchdog sees that."""

    async def stop(self, seconds: float, drain: float, *, hand_over: bool = False) -> None:
        """Ask it to stop; end it when that takes longer than `seconds`."""
        self.send({"type": "stop", "drain": drain, "hand_over": hand_over})
        await self.end_within(seconds)

    async def end_within(self, seconds: float) -> None:
        """Wait for its end, which it was asked for; bring it about after so many seconds."""
        done, _ = await asyncio.wait([self.ended], timeout=seconds)
        if not done and self._task is not None:
            self._task.cancel()
            await asyncio.wait([self.ended], timeout=ANSWER_SECONDS)

    def _answer(self, message: dict[str, Any]) -> None:
        if message["type"] in ("ready", "health"):
            self._on_message(message)

    def _finished(self, task: asyncio.Task[None]) -> None:
        failed = not task.cancelled() and task.exception() is not None
        if failed:
            _log.error("the role failed", exc_info=task.exception(), extra={"f": {"of": self.name}})
        for sock in self._listeners.values():
            sock.close()
        self.ended.set_result(int(failed))
