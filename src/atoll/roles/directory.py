"""The directory role: who exists, who may sign in, what administrators change.

In     DATA/dir; listeners signin (frontends), backend (mailbox roles and transport), admin (the operator).
Out    answers, tokens, pushes; DATA/dir/directory.sqlite and audit.log.
Spec   PROCESSES 3 to 6; docs/seams.md 3 and 7.
Not    a process that dials out: it speaks only over Unix sockets of this island.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import apsw

from atoll.admin.relay import Relay
from atoll.admin.service import AdminService, admits
from atoll.directory.server import demo
from atoll.directory.server.parts import Parts, open_parts
from atoll.runtime.paths import RunPaths
from atoll.runtime.peers import Peer
from atoll.runtime.role import run
from atoll.runtime.rpc import RpcServer

if TYPE_CHECKING:
    from atoll.runtime.role import RoleContext


async def main(ctx: RoleContext) -> None:
    """Open, serve, close."""

    def is_role(pid: int, name: str) -> bool:
        # A connection from this very process exists only where every role runs in it (--single-process).
        return pid == os.getpid() or ctx.role_of_pid(pid) == name

    def is_kind(peer: Peer, *kinds: str) -> bool:
        return peer.pid == os.getpid() or (ctx.role_of_pid(peer.pid) or "").partition("-")[0] in kinds

    parts = open_parts(apsw, ctx.data / "dir", ctx.clock, instance=f"{ctx.name}.{ctx.start_id}",
                       island=ctx.config.island.name, is_role=is_role,
                       on_audit_state=lambda state, detail: ctx.health("audit", state, detail))
    paths = RunPaths(ctx.data)
    await _first_start(ctx, parts)
    relay = Relay(paths.op)

    def socket_of(backend: str, protocol: str) -> object:
        number = int(backend.rpartition("-")[2])
        return paths.imap(number) if protocol == "imap" else paths.pop(number)

    admin = AdminService(parts, relay, audit_path=ctx.data / "dir" / "audit.log", socket_of=socket_of)
    service = parts.service
    servers = {
        "signin": RpcServer(service.signin_handlers(), lambda peer: is_kind(peer, "frontend"), on_close=service.left),
        "backend": RpcServer(service.backend_handlers(), lambda peer: is_kind(peer, "mailbox", "transport"),
                             on_close=service.left),
        "admin": RpcServer(admin.handlers(), lambda peer: admits(peer.uid)),
    }
    listeners = [await server.serve(ctx.listeners[name]) for name, server in servers.items()]
    "example.test".encode("idna")  # the codec is imported at first use: before the file system closes
    ctx.restrict(read=[], write=[ctx.data / "dir"])
    await ctx.ready()
    await ctx.stopping.wait()
    for listener in listeners:
        listener.close()
    for server in servers.values():
        server.close_connections()
    await relay.close()
    await parts.close()


async def _first_start(ctx: RoleContext, parts: Parts) -> None:
    """Make the configured databases known, and the demo's people if there is nobody yet."""


if __name__ == "__main__":
    run(main)
