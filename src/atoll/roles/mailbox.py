"""The mailbox role: owns its databases, serves them over IMAP and POP3 to frontends and takes deliveries by LMTP.

In     DATA/mbox/N; listeners imap, pop, mbox-imap, lmtp, op; the directory's backend socket.
Out    answers in the client's own protocol; deliveries committed before they are acknowledged.
Spec   PROCESSES 3, 5, 6; docs/seams.md 1; ISLANDS 4 and 11.15 (a database that cannot be mounted is tried again).
Fails  a database in doubt is unmounted and mounted again; a fenced one stays away.
Not    a process that dials out: it speaks only over Unix sockets of this island.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from atoll.base.config import DatabaseAt
from atoll.content import ContentClient, Scanner
from atoll.directory.client.backend import Backend
from atoll.mailbox.quota import QuotaWatch
from atoll.mailbox.removal import RemovalWatch
from atoll.mailbox.shares import ShareWatch
from atoll.mailbox.store import Store
from atoll.protocols.imap.limits import Limits
from atoll.protocols.imap.server import ImapServer
from atoll.protocols.lmtp.server import LmtpServer
from atoll.protocols.pop3.server import Pop3Server
from atoll.roles import writers
from atoll.roles.operate import Operator, dismounted
from atoll.roles.room import takes_no_writes
from atoll.runtime.paths import DataPaths, RunPaths
from atoll.runtime.peers import Peer
from atoll.runtime.role import RoleContext, run
from atoll.runtime.rpc import RpcClient, RpcError, RpcServer
from atoll.runtime.turns import Turns
from atoll.sql import SqlError
from atoll.sql.sqlite import SqliteEngine

FINISH_SECONDS = 5.0
"""For commands that run when the process is told to stop."""
MOUNT_AGAIN = 1.0
TOLD_AT_ONCE = 5000
"""Seconds between attempts to mount a database that could not be."""

FIGURES = ("groups", "units", "deliveries", "log_bytes", "checkpoints", "unindexed_mailboxes", "indexed")

log = logging.getLogger(__name__)


async def main(ctx: RoleContext) -> None:
    """Mount, serve, dismount."""
    folder, paths = DataPaths(ctx.data).mailbox(ctx.name), RunPaths(ctx.data)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ctx.restrict(read=[], write=[folder])  # before the first thread: a thread keeps what it could open
    directory = RpcClient(paths.backend)
    backend = Backend(directory, ctx.clock, ctx.born)
    backend.start()
    engine = SqliteEngine()
    turns, scanner = Turns(), Scanner(ContentClient(paths.content, runs=lambda: ctx.runs("content")))
    store = Store(engine, backend.mailbox, backend, process=ctx.instance, clock=ctx.clock,
                  recoverable_days=ctx.config.store.recoverable_days, turns=turns, scanner=scanner)

    def from_frontend(peer: Peer) -> bool:
        return ctx.is_role(peer.pid, "frontend") or ctx.is_role(peer.pid, "mailbox")

    limits = Limits(append=ctx.config.imap.append_bytes, idle_seconds=ctx.config.imap.idle_seconds,
                    show_recoverable=ctx.config.imap.show_recoverable)
    imap = ImapServer(store, backend, await backend.verifier(ctx.instance, "imap"), ctx.clock, admit=from_frontend,
                      backend=ctx.name, limits=limits, socket_of=paths.mbox_imap, turns=turns, scanner=scanner)
    pop3 = Pop3Server(store, await backend.verifier(ctx.instance, "pop3"), ctx.clock, admit=from_frontend)
    lmtp = LmtpServer(store, admit=lambda peer: ctx.is_role(peer.pid, "transport"), scanner=scanner)
    backend.on_revoked(imap.revoke)
    backend.on_revoked(pop3.revoke)
    backend.on_away(imap.end_all)
    backend.on_away(pop3.end_all)
    quotas, removals = QuotaWatch(store, backend), RemovalWatch(store, backend, ctx.config.store.removed_days)
    ended: list[str] = []
    imap.ended = pop3.ended = ended.append
    telling = asyncio.create_task(_tell_ended(backend, ended))
    shares = ShareWatch(store, backend)
    mounting = [asyncio.create_task(_mount(ctx, backend, store, at))
                for at in ctx.config.databases if f"mailbox-{at.process}" == ctx.name]
    if mounting:
        await asyncio.wait(mounting, timeout=10)
    await imap.serve(ctx.listeners["imap"])
    await imap.serve(ctx.listeners["mbox-imap"])
    await pop3.serve(ctx.listeners["pop"])
    await lmtp.serve(ctx.listeners["lmtp"])
    operator = Operator(store, engine, backend, ctx.name, folder, {"imap": imap, "pop3": pop3}, scanner, ctx.health)
    op = RpcServer(operator.handlers(), lambda peer: ctx.is_role(peer.pid, "directory"))
    listening = await op.serve(ctx.listeners["op"])
    for at in ctx.config.databases:
        for figure in FIGURES:
            ctx.metrics.gauge(f"store_{figure}", _figure(store, at.name, figure), database=at.name)
    for outcome in scanner.counts:
        ctx.metrics.gauge("content_looks", lambda outcome=outcome: scanner.counts[outcome],  # type: ignore[misc]
                          outcome=outcome)
    proving = asyncio.create_task(writers.prove(store, ctx.health))
    await ctx.ready()
    await ctx.stopping.wait()
    listening.close()
    op.close_connections()
    await shares.close()
    await asyncio.gather(imap.close(FINISH_SECONDS), pop3.close(FINISH_SECONDS), lmtp.close())
    for task in (*mounting, telling, proving):
        task.cancel()
    await asyncio.gather(quotas.close(), removals.close())
    await store.close()
    await directory.close()


def _figure(store: Store, name: str, figure: str) -> Callable[[], float]:
    return lambda: store.figures().get(name, {}).get(figure, 0)


async def _tell_ended(backend: Backend, ended: list[str]) -> None:
    """Sessions that are over, once a second: nothing is exchanged for them any more."""
    while True:
        await asyncio.sleep(1)
        if ended:
            gone = ended[:TOLD_AT_ONCE]  # a directory that was away for long is told in parts
            try:
                await backend.ended(gone)
            except RpcError:
                continue  # the directory forgets sessions by itself when it starts anew
            del ended[:len(gone)]


async def _mount(ctx: RoleContext, backend: Backend, store: Store, at: DatabaseAt) -> None:
    """Until it is mounted, unless an administrator has dismounted it; `atoll health` shows either, and a failure."""
    path = DataPaths(ctx.data).mailbox(ctx.name) / f"{at.name}.sqlite"
    ctx.health(f"database {at.name}", "warn", "being opened; one of an older version is migrated first")
    while True:
        try:
            if any(one.name == at.name and not one.mounted for one in await backend.databases(ctx.name)):
                store.leave(at.name, path)
                ctx.health(f"database {at.name}", "warn", dismounted(at.name))
                return
            await store.mount(at.name, path)
        except (SqlError, RpcError, OSError) as error:
            why = takes_no_writes(path.parent)  # an error of the engine says less on a disk that is full
            detail = f"{error} ({why})" if why else str(error)
            ctx.health(f"database {at.name}", "fail", detail)
            log.error("database not mounted", extra={"f": {"database": at.name, "error": detail}})
            await asyncio.sleep(MOUNT_AGAIN)
        else:
            ctx.health(f"database {at.name}", "ok")
            return


if __name__ == "__main__":
    run(main)
