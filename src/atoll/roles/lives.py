"""The lives of an island's processes: started, kept alive, replaced while they serve, stopped in order.

In     who should run (roles.instances), their listeners, the start message of each, restarts that an operator asks for.
Out    a living process per role; during a graceful restart of a frontend two, one of which only lets its sessions end.
Spec   PROCESSES 2 (start), 5 (what the directory leaves to its next process), 11 (failures, restarts); docs/seams.md 1.
Fails  a role that dies is started again after a back-off, whatever it died of; the others go on.
Not    configuration, health as a whole, the island's start and end: roles.supervisor.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from atoll.admin.ops import HealthRow, RoleRow
from atoll.base.clock import Clock
from atoll.roles import STOP_ORDER, Instance
from atoll.roles.sockets import Sockets
from atoll.runtime import handover
from atoll.runtime.awaiting import first
from atoll.runtime.backoff import Backoff
from atoll.runtime.child import Child
from atoll.runtime.inside import InsideRole
from atoll.runtime.rpc import RpcError
from atoll.runtime.sockets import listen_again

STOP_SECONDS = 10.0
"""For a role to stop beyond its drain time: a commit, a checkpoint."""
RESTART_SECONDS = 30.0
"""For a role without clients to finish what is under way when it is restarted."""
ANSWER_SECONDS = 0.2
"""The directory's restart waits so long: the one who asked for it is answered through the directory."""
NEW_SECONDS = 60.0
"""For a new frontend to become ready beside the old one."""
MOST_LEAVING = 2
"""Frontends of before that let their sessions end, per role; one more restart ends the oldest."""

State = Literal["ok", "warn", "fail"]

_log = logging.getLogger("atoll.supervisor")


class Life:
    """One process of a role, from its start to its end."""

    def __init__(self, child: Child | InsideRole, clock: Clock) -> None:
        self.child = child
        self.up = asyncio.Event()
        self.health: dict[str, tuple[State, str]] = {}
        self.leave_by = 0.0
        """Monotonic time at which the last session of one that leaves is ended."""
        self.handover = -1
        """Descriptor of what it writes for the next one."""
        self.began = clock.monotonic()

    @property
    def alive(self) -> bool:
        return not self.child.ended.done()


class Running:
    """A role that should run, and the processes that do."""

    def __init__(self, instance: Instance, sockets: dict[str, socket.socket]) -> None:
        self.instance = instance
        self.sockets = sockets
        self.backoff = Backoff()
        self.life: Life | None = None
        self.coming: Life | None = None
        """Becomes `life` when it is ready."""
        self.leaving: list[Life] = []
        self.swapped = asyncio.Event()
        self.again = asyncio.Event()
        """Whoever asked for a restart does not wait for a back-off."""
        self.alone = False
        """It died while there was no directory, perhaps of that."""
        self.restarting = False
        """From an operator's word until it is ready again."""
        self.planned = False
        """Its process ends because it was asked to."""
        self.handover = -1
        """Descriptor of what the life before left."""
        self.settled = asyncio.Event()
        """Ready, or given up for now."""
        self.keeper: asyncio.Task[None] | None = None
        self.starts = 0
        self.deaths = 0
        """How many of its processes ended otherwise than in order."""
        self.trouble = ""

    @property
    def name(self) -> str:
        return self.instance.name

    @property
    def ready(self) -> bool:
        return self.life is not None and self.life.up.is_set()

    @property
    def lives(self) -> list[Life]:
        """Every process of it that runs."""
        return [life for life in (self.life, self.coming, *self.leaving) if life is not None and life.alive]

    @property
    def old(self) -> int:
        """How many processes of before let their sessions end."""
        return sum(life.alive for life in self.leaving)

    def row(self, now: float) -> RoleRow:
        """How its processes are: for `atoll role list`, and the first row of its health."""
        seconds = now - self.life.began if self.life is not None else 0.0
        pid = self.life.child.pid if self.life is not None and self.life.alive else 0
        state, detail = self._state(now)
        return RoleRow(self.name, state, pid, self.starts, seconds, self.old, self.restarting, self.trouble,
                       detail)

    def _state(self, now: float) -> tuple[State, str]:
        if self.restarting and not self.ready:
            return "warn", "restarting"
        if self.backoff.loops(now):
            return "fail", "dies again and again; it is started each minute"
        if not self.ready:
            return "fail", "starting"
        return "ok", f"ready, started {self.starts} times" if self.starts > 1 else "ready"

    def health(self, now: float) -> list[HealthRow]:
        """What there is to say of it."""
        row = self.row(now)
        rows = [HealthRow(self.name, "process", row.state, row.detail)]
        if self.trouble:
            rows.append(HealthRow(self.name, "restart", "warn", self.trouble))
        for life in self.leaving:
            if life.alive:
                rows.append(HealthRow(self.name, "old process", "ok", f"pid {life.child.pid} lets its sessions end, "
                                      f"{max(life.leave_by - now, 0):.0f} s at most"))
        if self.life is not None:
            rows += [HealthRow(self.name, name, state, detail)
                     for name, (state, detail) in sorted(self.life.health.items())]
        return rows


class Lives:
    """All of them. message: the start message of a role. on_end: in one process, a role has ended."""

    def __init__(self, data: Path, sockets: Sockets, roles: list[Instance], environment: dict[str, str],
                 clock: Clock, *, message: Callable[[Running], dict[str, Any]],
                 stopping: asyncio.Event, on_end: Callable[[], None] | None) -> None:
        self.roles = [Running(one, sockets.of(one)) for one in roles]
        self._data = data
        self._sockets = sockets
        self._environment = environment
        self._clock = clock
        self._message = message
        self._stopping = stopping
        self._on_end = on_end
        self._restarts: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start them all and keep them alive."""
        for role in self.roles:
            role.keeper = asyncio.create_task(self._keep(role), name=f"keep {role.name}")

    def pids(self) -> dict[str, str]:
        """Which role a process is."""
        return {str(os.getpid()): "supervisor"} | {
            str(life.child.pid): role.name for role in self.roles for life in role.lives}

    def table(self) -> dict[str, Any]:
        """The pid table as roles are told it."""
        return {"pids": self.pids(), "born": {
            str(life.child.pid): life.child.born for role in self.roles for life in role.lives}}

    def _tell_pids(self) -> None:
        table = {"type": "pids", **self.table()}
        for role in self.roles:
            for life in role.lives:
                life.child.send(table)

    # -- one life after the other ----------------------------------------------------------------------------------
    async def _keep(self, role: Running) -> None:
        while not self._stopping.is_set():
            code = await self._live(role)
            listen_again(role.sockets.values())
            if self._stopping.is_set():
                return
            if self._on_end is not None:
                self._on_end()  # what it left open in this process, nobody else can open
                return
            self._tell_pids()
            planned, role.planned = role.planned, False
            if role.coming is None and not planned:
                await self._pause(role, code)
            elif planned and code:
                _log.error("role died", extra={"f": {"of": role.name, "code": code, "again_in": 0.0, "loop": False}})

    async def _live(self, role: Running) -> int:
        """From its start to the end of its last process that serves; the return code."""
        life, role.coming = role.coming, None
        if life is None:
            role.backoff.started(self._clock.monotonic())
            try:
                life = await self._begin(role)
            except OSError as error:
                _log.error("role not started", extra={"f": {"of": role.name, "error": error.strerror}})
                return -1
        role.life = life
        self._settle(role, life)
        while True:
            await first(asyncio.shield(life.child.ended), role.swapped.wait())
            if role.life is life:
                break
            role.swapped.clear()
            life = role.life
        code = life.child.ended.result()
        life.up.clear()
        role.settled.clear()
        self._keep_handover(role, life, code)
        role.deaths += code != 0
        return code

    async def _pause(self, role: Running, code: int) -> None:
        """After a death: wait before the next start, unless somebody asks for it or the directory is back."""
        role.again.clear()
        role.alone = not all(one.ready for one in self.roles if one.instance.role.kind == "directory")
        role.restarting = False
        now = self._clock.monotonic()
        delay = role.backoff.died(now, random.random())  # noqa: S311 - jitter
        loops = role.backoff.loops(now)
        _log.error("role died", extra={"f": {"of": role.name, "code": code, "again_in": round(delay, 1),
                                             "loop": loops}})
        if loops:
            role.settled.set()
        await first(self._stopping.wait(), role.again.wait(), within=delay)
        role.alone = False

    async def _begin(self, role: Running) -> Life:
        """A new process that has its start message."""
        kind = Child if self._on_end is None else InsideRole
        life = Life(kind(role.name, lambda message: self._told(role, life, message)), self._clock)
        environment = dict(self._environment, **role.instance.environment(self._data))
        armed = environment.pop("ATOLL_FAILPOINTS", "").split(";")
        if role.deaths < len(armed):  # what kills a role is not armed in its next life
            environment["ATOLL_FAILPOINTS"] = armed[role.deaths]
        role.starts += 1
        before, role.handover = role.handover, -1
        if role.instance.role.hands_over and kind is Child:
            life.handover = handover.create(role.name)
        fds = {name: fd for name, fd in (("in", before), ("out", life.handover)) if fd >= 0}
        try:
            await life.child.start(role.instance.role.module, role.sockets, environment,
                                   self._sockets.identity(role.instance), fds.values())
        except OSError:
            if life.handover >= 0:
                os.close(life.handover)
            raise
        finally:
            if before >= 0:
                os.close(before)  # it is the new process's now: should that crash, it is gone
        role.coming = life  # in the pid table before it is spoken to
        life.child.send(self._message(role) | {"handover": fds})
        self._tell_pids()
        role.coming = None
        life.child.watch()
        return life

    def _told(self, role: Running, life: Life, message: dict[str, Any]) -> None:
        if message["type"] == "health":
            life.health[message["name"]] = (message["state"], message["detail"])
        elif message["type"] == "ready":
            life.up.set()
            self._settle(role, life)
            _log.info("role ready", extra={"f": {"of": role.name}})
            if role.instance.role.kind == "directory":
                for one in self.roles:
                    if one.alone:
                        one.again.set()

    def _settle(self, role: Running, life: Life) -> None:
        if role.life is life and life.up.is_set():
            role.settled.set()
            role.restarting = False

    def _keep_handover(self, role: Running, life: Life, code: int) -> None:
        """Only from a process that ended in order, to one that begins at once."""
        fd, life.handover = life.handover, -1
        if fd < 0:
            return
        if code == 0 and role.planned and handover.is_sealed(fd):
            role.handover = fd
        else:
            os.close(fd)

    # -- restarts --------------------------------------------------------------------------------------------------
    def restart(self, name: str, drain: float) -> RoleRow:
        """Begin to replace a role's process; how it is now. RpcError. drain: seconds that a frontend's sessions get."""
        role = next((one for one in self.roles if one.name == name), None)
        if role is None:
            raise RpcError("not_found", f"no such role; there are {', '.join(one.name for one in self.roles)}")
        if self._on_end is not None:
            raise RpcError("refused", "all roles are in one process: restart the island")
        if self._stopping.is_set() or role.restarting:
            raise RpcError("temporary", f"{name} is being restarted or stopped")
        role.restarting = True
        _log.info("role restarts", extra={"f": {"of": role.name}})
        task = asyncio.create_task(
            self._replace(role, drain) if role.instance.role.clients and role.ready else self._again(role))
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)
        return role.row(self._clock.monotonic())

    async def _again(self, role: Running) -> None:
        """One process after the other: it finishes what is under way; new connects wait in the listener's backlog."""
        role.backoff = Backoff()
        life = role.life
        if life is None or not life.alive:
            role.again.set()
            return
        if role.instance.role.kind == "directory":
            await asyncio.sleep(ANSWER_SECONDS)
            if not life.alive:  # it has died meanwhile: its next life is as good as the one that was asked for
                role.again.set()
                return
        role.planned = True
        await life.child.stop(RESTART_SECONDS + STOP_SECONDS, RESTART_SECONDS, hand_over=True)

    async def _replace(self, role: Running, drain: float) -> None:
        """A new process on the same listeners; when it is ready the old one accepts no more and lets sessions end."""
        role.trouble = ""
        try:
            new = role.coming = await self._begin(role)
        except OSError as error:
            self._failed(role, f"no new process: {error.strerror}; the old one goes on")
            return
        await first(new.up.wait(), asyncio.shield(new.child.ended), self._stopping.wait(), within=NEW_SECONDS)
        if role.coming is not new:
            return  # the old one died meanwhile: the new one serves already
        if not new.up.is_set() or not new.alive:
            role.coming = None
            self._failed(role, "the new process did not become ready; the old one goes on")
            await new.child.stop(STOP_SECONDS, 0)
            self._tell_pids()
            return
        old, role.life, role.coming = role.life, new, None
        role.swapped.set()
        role.restarting = False
        role.backoff = Backoff()
        role.backoff.started(new.began)
        if old is not None and old.alive:
            await self._let_go(role, old, drain)

    def _failed(self, role: Running, why: str) -> None:
        role.restarting, role.trouble = False, why
        _log.error("role not restarted", extra={"f": {"of": role.name, "why": why}})

    async def _let_go(self, role: Running, old: Life, drain: float) -> None:
        for oldest in role.leaving[:len(role.leaving) + 1 - MOST_LEAVING]:
            oldest.child.send({"type": "stop", "drain": 0})
        role.leaving.append(old)
        old.leave_by = self._clock.monotonic() + drain
        old.child.send({"type": "leave", "drain": drain})
        await old.child.end_within(drain + STOP_SECONDS)
        role.leaving.remove(old)
        self._tell_pids()
        _log.info("old process ended", extra={"f": {"of": role.name, "pid": old.child.pid}})

    # -- the end ---------------------------------------------------------------------------------------------------
    async def stop(self, drain: float, hurry: asyncio.Event) -> None:
        """Whoever needs others stops before them."""
        for kind in STOP_ORDER:
            group = [life.child for role in self.roles if role.instance.role.kind == kind for life in role.lives]
            await asyncio.gather(*(_stop_child(child, drain, hurry) for child in group))
        for task in (*self._restarts, *(role.keeper for role in self.roles if role.keeper is not None)):
            task.cancel()


async def _stop_child(child: Child | InsideRole, drain: float, hurry: asyncio.Event) -> None:
    stop = asyncio.create_task(child.stop(drain + STOP_SECONDS, drain))
    await first(asyncio.shield(stop), hurry.wait())
    if not stop.done() and isinstance(child, Child) and child.name.startswith("frontend"):
        child.signal(signal.SIGKILL)  # it holds nothing; the others only finish what they have begun
    await stop
    _log.info("role stopped", extra={"f": {"of": child.name}})
