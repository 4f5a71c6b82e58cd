"""The transport role: takes mail from frontends, finds its way, delivers it or keeps it in the queue.

In     listeners smtp-in (anonymous mail), submit (signed-in sessions), op (the directory relays queue calls).
Out    LMTP to the mailbox processes; DATA/queue/queue.sqlite and tracking/.
Spec   PROCESSES 3, 7; ISLANDS 11.14; docs/seams.md 6.
Fails  no room to open the queue in: the role waits for it, nothing is taken in (room.opened);
       a queue in doubt: the role ends, the supervisor starts it anew; nothing unanswered was accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from atoll.base.config import Config
from atoll.delivery.into_mailbox import IntoMailbox
from atoll.directory.client.backend import Backend
from atoll.directory.client.tokens import TokenVerifier
from atoll.protocols.smtp.hop import HopServer
from atoll.roles.room import opened
from atoll.roles.transport_op import TransportOp
from atoll.runtime.egress import Egress
from atoll.runtime.paths import DataPaths, RunPaths
from atoll.runtime.peers import Peer
from atoll.runtime.questions import Questions
from atoll.runtime.role import RoleContext, run
from atoll.runtime.rpc import RpcClient, RpcError
from atoll.runtime.sockets import serve_unix
from atoll.sql import SqlError
from atoll.sql.sqlite import SqliteEngine
from atoll.transport.lanes import Lanes
from atoll.transport.pipeline import Pipeline
from atoll.transport.pressure import Pressure
from atoll.transport.queue import Queue
from atoll.transport.rates import HOUR, MINUTE, Rate
from atoll.transport.send.sender import Sender, Smarthost
from atoll.transport.tracking import Tracking

if TYPE_CHECKING:  # loaded by islands that send: cryptography alone is 10 MB
    from atoll.edge.arrival import Arrival
    from atoll.edge.signer import Signed, Signer

DRAIN_SECONDS = 10.0
"""How long messages under way are waited for, at least, when the role stops."""
log = logging.getLogger(__name__)


async def main(ctx: RoleContext) -> None:
    """Open the queue, serve, finish what is in flight."""
    paths, folder = RunPaths(ctx.data), DataPaths(ctx.data).queue
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    sender, questions = _sender(ctx), _questions(ctx)  # read what they need before the file system closes
    # Before the first thread: a thread keeps what it could open.
    ctx.restrict(read=[], write=[folder], connect_tcp=sender is not None)
    directory = RpcClient(paths.backend)
    backend = Backend(directory, ctx.clock, ctx.born)
    backend.start()
    await backend.audience(ctx.instance)

    def in_doubt(error: SqlError) -> None:
        log.error("the queue is in doubt", extra={"f": {"error": str(error)}})
        ctx.stopping.set()

    queue = await opened(ctx, "queue", folder, lambda: Queue.open(
        SqliteEngine(), folder / "queue.sqlite", backend, ctx.clock, process=ctx.instance,
        on_doubt=in_doubt), away=True)
    if queue is None:
        await directory.close()
        return
    tracking = Tracking(folder / "tracking", ctx.clock, lambda state, detail: ctx.health("tracking", state, detail))

    def poison(count: int) -> None:
        ctx.health("poison", "warn" if count else "ok",
                   f"{count} messages end their mailbox process: atoll queue show QUEUE" if count else "")

    def is_mailbox(peer: Peer) -> bool:
        # Until a role calls listen() itself, the supervisor is who listens (PROCESSES 3).
        return ctx.is_role(peer.pid, "mailbox") or peer.pid in (os.getppid(), os.getpid())

    mailboxes = IntoMailbox(paths.lmtp, is_mailbox)
    pressure = Pressure(folder, lambda state, detail: ctx.health("disk", state, detail))
    signer = _signer(ctx, questions, backend)
    pipeline = Pipeline(backend, mailboxes, queue, tracking, pressure, ctx.clock, ctx.metrics,
                        host=ctx.config.island.host, sender=_signed(sender, signer), check=_checks(ctx, questions))
    ctx.metrics.gauge("queue_recipients", queue.depth)
    relay, submit = _hops(ctx, pipeline, backend, await backend.verifier(ctx.instance, "submit"))
    lanes = Lanes(pipeline, queue, tracking, ctx.clock, poison)
    op = TransportOp(ctx, queue, lanes, pipeline, submit, folder / "tracking", signer)
    servers = [await serve_unix(relay, ctx.listeners["smtp-in"]),
               await serve_unix(submit, ctx.listeners["submit"]),
               await op.serve(ctx.listeners["op"])]
    trying = asyncio.create_task(lanes.run())
    await ctx.ready()
    await ctx.stopping.wait()
    for server in servers:
        server.close()
    trying.cancel()
    drain = max(DRAIN_SECONDS, ctx.drain)  # a restart gives 30 s [PROCESSES 11]
    await asyncio.gather(relay.drain(drain), submit.drain(drain))
    op.close()
    if sender is not None:
        sender.close()
    pressure.close()
    mailboxes.close()
    await queue.close()
    await tracking.close()
    await directory.close()


def _questions(ctx: RoleContext) -> Questions | None:
    """What the DNS is asked on account of strangers; None: nothing."""
    sending = ctx.config.sending
    return None if sending.mode == "off" else Questions(sending.name_servers, ctx.clock,
                                                        lambda state, text: ctx.health("dns", state, text))


def _checks(ctx: RoleContext, questions: Questions | None) -> Arrival | None:
    """What strangers' mail is checked by."""
    checks = ctx.config.checks
    if questions is None or checks.mode == "off":
        return None
    from atoll.edge.arrival import Arrival

    arrival = Arrival(questions, ctx.clock, host=ctx.config.island.host)

    def configured(config: Config) -> None:
        now = config.checks  # to begin or to end checking takes a new process
        arrival.set(now.networks, now.trusted_sealers, enforce=now.mode == "enforce")

    configured(ctx.config)
    ctx.on_reload(configured)
    return arrival


def _signer(ctx: RoleContext, questions: Questions | None, backend: Backend) -> Signer | None:
    """What signs the mail that leaves."""
    if questions is None:
        return None
    from atoll.edge.signer import Signer

    wrong: dict[str, str] = {}

    def tell(domain: str, what: str) -> None:
        if what == wrong.get(domain, ""):
            return
        wrong[domain] = what
        problems = [text for text in wrong.values() if text]
        ctx.health("dkim", "warn" if problems else "ok", "; ".join(problems[:3]))

    return Signer(backend, questions, ctx.clock, tell, host=ctx.config.island.host)


def _signed(sender: Sender | None, signer: Signer | None) -> Signed | None:
    """The way to other servers, with signatures of ours."""
    if sender is None or signer is None:
        return None
    from atoll.edge.signer import Signed

    return Signed(sender, signer)


def _sender(ctx: RoleContext) -> Sender | None:
    """The way to other servers, if there is to be one; what it is made of is for the whole life of the process."""
    sending = ctx.config.sending
    if sending.mode == "off":
        return None
    smart = None
    if sending.mode == "smarthost":
        host, _, port = sending.smarthost.partition(":")
        password = Path(sending.smarthost_password_file).read_text("utf-8").strip() if sending.smarthost_user else ""
        smart = Smarthost(host, int(port or 587), sending.smarthost_user, password)
    egress = Egress(servers=sending.name_servers, allowed=sending.allowed_networks)
    return Sender(egress, ctx.clock, helo=ctx.config.island.host, smarthost=smart, port=sending.port)


def _hops(ctx: RoleContext, pipeline: Pipeline, backend: Backend,
          verifier: TokenVerifier) -> tuple[HopServer, HopServer]:
    """The servers of smtp-in and submit."""
    smtp, host = ctx.config.smtp, ctx.config.island.host

    def admit(peer: Peer) -> bool:
        return ctx.is_role(peer.pid, "frontend")

    relay = HopServer(pipeline.accept, ctx.clock, admit=admit, host=host, limit=smtp.message_bytes,
                      recipients=smtp.recipients, rate=Rate(ctx.clock, smtp.messages_per_minute, MINUTE))
    submit = HopServer(pipeline.accept, ctx.clock, admit=admit, host=host, limit=smtp.message_bytes,
                       recipients=smtp.recipients, verifier=verifier, may_send_as=backend.may_send_as,
                       may_send=backend.may_send, rate=Rate(ctx.clock, smtp.recipients_per_hour, HOUR))
    backend.on_revoked(submit.revoke)
    backend.on_away(submit.end_all)
    telling: set[asyncio.Task[None]] = set()

    def tell_ended(sid: str) -> None:
        task = asyncio.create_task(_tell_ended(backend, sid))
        telling.add(task)
        task.add_done_callback(telling.discard)

    def reload(config: Config) -> None:
        for server in (relay, submit):
            server.limit, server.recipients = config.smtp.message_bytes, config.smtp.recipients
        for rate, limit in ((relay.rate, config.smtp.messages_per_minute),
                            (submit.rate, config.smtp.recipients_per_hour)):
            if rate is not None:
                rate.limit = limit

    submit.ended = tell_ended
    ctx.on_reload(reload)
    return relay, submit


async def _tell_ended(backend: Backend, sid: str) -> None:
    """A directory that is away forgets its sessions anyway."""
    with contextlib.suppress(RpcError):
        await backend.ended([sid])


if __name__ == "__main__":
    run(main)
