"""The directory role: who exists, who may sign in, what administrators change.

In     DATA/dir; listeners signin (frontends), backend (mailbox roles and transport), admin (the operator).
Out    answers, tokens, pushes; DATA/dir/directory.sqlite and audit.log.
Spec   PROCESSES 3 to 6; docs/seams.md 3 and 7.
Fails  no room to write that it is the owner: it reads, people sign in, changes are refused until there is room. No
       room to open its files: it waits (room.opened). A commit in doubt ends the role: the supervisor starts it anew.
Not    a process that dials out: it speaks only over Unix sockets of this island.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from atoll.admin.relay import Relay
from atoll.admin.service import AdminService, admits
from atoll.base import ids
from atoll.directory.server import demo
from atoll.directory.server.parts import Parts, open_parts
from atoll.roles.room import AGAIN_SECONDS, opened
from atoll.runtime.paths import DataPaths, RunPaths
from atoll.runtime.role import RoleContext, run
from atoll.runtime.rpc import Call, Handler, RpcError, RpcServer
from atoll.sql import Full, ReadOnly, SqlError
from atoll.sql.sqlite import SqliteEngine

OUTCOMES = ("granted", "credentials", "temporary", "disabled", "protocol", "slow", "authorization")


async def main(ctx: RoleContext) -> None:
    """Open, serve, close."""
    folder, paths = DataPaths(ctx.data).directory, RunPaths(ctx.data)

    def in_doubt(error: SqlError) -> None:
        ctx.health("database", "fail", str(error))
        ctx.stopping.set()

    # Before anything is opened: threads that run already would not be restricted.
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _warm_up()
    ctx.restrict(read=[], write=[folder])
    parts = await opened(ctx, "database", folder, lambda: open_parts(
        SqliteEngine(), folder, ctx.clock, instance=ctx.instance, island=ctx.config.island.name, is_role=ctx.is_role,
        born=ctx.born, on_doubt=in_doubt, on_audit_state=lambda state, detail: ctx.health("audit", state, detail)))
    if parts is None:
        return
    await _first_start(ctx, parts)
    known = _take(ctx, parts)
    relay = Relay(paths.op)
    service = parts.service
    admin = AdminService(parts, relay, audit_path=folder / "audit.log",
                         sockets={"imap": paths.imap, "pop3": paths.pop},
                         keep_days=ctx.config.store.removed_days)
    servers = {
        "signin": RpcServer(_told(service.signin_handlers()), lambda peer: ctx.is_role(peer.pid, "frontend"),
                            on_close=service.left),
        "backend": RpcServer(_told(service.backend_handlers()), on_close=service.left,
                             admit=lambda peer: ctx.is_role(peer.pid, "mailbox") or ctx.is_role(peer.pid, "transport")),
        "admin": RpcServer(_told(admin.handlers()), lambda peer: admits(peer.uid)),
    }
    owning = asyncio.create_task(_own(ctx, parts))
    listeners = [await server.serve(ctx.listeners[name]) for name, server in servers.items()]
    _gauges(ctx, parts, servers)
    parts.audit.append("directory.start", instance=ctx.instance, remembered=known)
    await ctx.ready()
    await ctx.stopping.wait()
    owning.cancel()
    for listener in listeners:
        listener.close()
    for server in servers.values():
        server.close_connections()
    await relay.close()
    if ctx.handing_over:
        ctx.hand_over(msgspec.msgpack.encode((parts.sign_in.remembered.left(), parts.sessions.left())))
    parts.audit.append("directory.stop", instance=ctx.instance)
    await parts.close()


async def _own(ctx: RoleContext, parts: Parts) -> None:
    """Whoever started without room for it becomes the owner when there is some."""
    if parts.database.owned:
        return
    ctx.health("database", "fail", "no room: people sign in, nothing can be changed")
    while not parts.database.owned:
        await asyncio.sleep(AGAIN_SECONDS)
        with contextlib.suppress(SqlError):
            await parts.database.write(lambda tx: None)
    ctx.health("database", "ok")


def _told(handlers: Mapping[str, Handler]) -> dict[str, Handler]:
    """A disk that takes no writes, in words that the asker can show."""
    def told(handler: Callable[[Call, Any], Awaitable[Any]]) -> Callable[[Call, Any], Awaitable[Any]]:
        async def answer(call: Call, ask: Any) -> Any:
            try:
                return await handler(call, ask)
            except (Full, ReadOnly) as error:
                raise RpcError("temporary", f"the directory takes no changes: {error}") from error
        return answer
    return {name: (params, told(handler)) for name, (params, handler) in handlers.items()}


def _take(ctx: RoleContext, parts: Parts) -> int:
    """Go on where the process before this one was stopped for us: sign-ins cost no hash, delegates keep their way to
    other processes. How many credentials are remembered."""
    try:
        remembered, sessions = msgspec.msgpack.decode(ctx.handed_over(), type=tuple[bytes, bytes])
    except msgspec.DecodeError:
        return 0
    parts.sessions.take(sessions)
    return parts.sign_in.remembered.take(remembered)


async def _first_start(ctx: RoleContext, parts: Parts) -> None:
    """Make the configured databases known, and the demo's people if there is nobody yet."""
    for at in ctx.config.databases:
        await parts.register.add_database(at.name, f"mailbox-{at.process}", ctx.config.island.name)
    accounts = [demo.Account(one.address, one.password, one.database, one.role != "user") for one in ctx.config.demo]
    if accounts and await demo.create(parts.database, parts.register, parts.lane, accounts):
        await parts.audit.durable("directory.demo", accounts=len(accounts))


def _warm_up() -> None:
    """Import what is imported at first use: afterwards the file system is closed to us."""
    "ä.example".encode("idna")
    ids.to_text(ids.new_id()).encode("ascii", "backslashreplace")


def _gauges(ctx: RoleContext, parts: Parts, servers: dict[str, RpcServer]) -> None:
    """What `/metrics` shows of this role."""
    counts = parts.sign_in.counts
    for outcome in OUTCOMES:
        ctx.metrics.gauge("signins", lambda outcome=outcome: counts[outcome], outcome=outcome)  # type: ignore[misc]
    for name, server in servers.items():
        ctx.metrics.gauge("directory_clients", lambda server=server: len(server.connections),  # type: ignore[misc]
                          socket=name)
    ctx.metrics.gauge("hash_lane_waiting", lambda: parts.lane.waiting)
    ctx.metrics.gauge("directory_change", parts.database.last_change)


if __name__ == "__main__":
    run(main)
