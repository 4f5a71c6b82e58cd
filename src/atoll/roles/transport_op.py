"""What the administrator asks of transport: queues, traces, submission sessions (docs/seams.md 7).

In     calls that the directory relays to the role's op socket.
Out    the answers of admin/ops.py.
Fails  RpcError("invalid") for an id that is none, "not_found" for one that does not wait here.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from atoll.admin import ops
from atoll.base.ids import from_text, to_text
from atoll.protocols.smtp.hop import HopServer, HopSession
from atoll.runtime.role import RoleContext
from atoll.runtime.rpc import Call, Empty, RpcError, RpcServer
from atoll.transport.lanes import Lanes, by_message, remove
from atoll.transport.pipeline import Pipeline
from atoll.transport.queue import Job, Length, Queue
from atoll.transport.tracking import search

if TYPE_CHECKING:
    from atoll.edge.signer import Signer

MESSAGES_AT_ONCE = 1000
PIECE = 4 << 20
"""Octets of a message in one answer."""


class TransportOp:
    """The op socket of transport."""

    def __init__(self, ctx: RoleContext, queue: Queue, lanes: Lanes, pipeline: Pipeline, submit: HopServer,
                 tracking: Path, signer: Signer | None = None) -> None:
        self._ctx = ctx
        self._queue = queue
        self._lanes = lanes
        self._pipeline = pipeline
        self._submit = submit
        self._tracking = tracking
        self._signer = signer
        self._server = RpcServer({
            "queue.list": (Empty, self._list),
            "queue.show": (ops.QueueName, self._show),
            "queue.retry": (ops.QueueAct, self._retry),
            "queue.remove": (ops.QueueAct, self._remove),
            "queue.suspend": (ops.QueueStop, self._suspend),
            "queue.export": (ops.PieceOf, self._export),
            "message.trace": (ops.TraceFilter, self._trace),
            "dkim.check": (ops.DkimFilter, self._dkim),
            "session.list": (ops.SessionFilter, self._sessions),
            "session.end": (ops.SessionEnd, self._end),
        }, admit=lambda peer: ctx.is_role(peer.pid, "directory"))

    async def serve(self, sock: socket.socket) -> asyncio.Server:
        """Accept on the role's listener; keep the Server."""
        return await self._server.serve(sock)

    def close(self) -> None:
        """End the directory's connection."""
        self._server.close_connections()

    # -- queues

    async def _list(self, _: Call, __: Empty) -> ops.Queues:
        return ops.Queues([self._row(one) for one in self._queue.lengths()])

    def _row(self, one: Length) -> ops.QueueRow:
        lane = self._lanes.lane(one.queue)
        if lane is None:
            return ops.QueueRow(one.queue, one.messages, one.size, "ready", one.due, one.last)
        return ops.QueueRow(one.queue, one.messages, one.size, lane.state(self._ctx.clock.now_ms()),
                            max(one.due, lane.closed_until), lane.last or one.last)

    async def _show(self, _: Call, params: ops.QueueName) -> ops.QueuedMessages:
        return ops.QueuedMessages([_message(jobs) for jobs in
                                   by_message(self._queue.waiting(queue=params.queue, limit=params.limit))])

    async def _retry(self, _: Call, params: ops.QueueAct) -> ops.Count:
        count = await self._queue.hurry(_id(params.id), params.queue)
        if params.id and not count:
            raise RpcError("not_found", "no such message waits here")
        self._lanes.hurry(params.queue)
        return ops.Count(count)

    async def _remove(self, _: Call, params: ops.QueueAct) -> ops.Count:
        message, count = _id(params.id), 0
        if not message and not params.queue:
            raise RpcError("invalid", "a message or a queue")
        told: set[bytes] = set()  # reports may wait in the same queue: they are not what was meant
        while jobs := [job for job in self._queue.waiting(message=message, queue=params.queue,
                                                          limit=MESSAGES_AT_ONCE + len(told))
                       if job.envelope.id not in told]:
            for group in by_message(jobs):
                told.add(await remove(self._pipeline, self._queue, group, notify=params.notify))
                count += 1
        if message and not count:
            raise RpcError("not_found", "no such message waits here")
        return ops.Count(count)

    async def _suspend(self, _: Call, params: ops.QueueStop) -> Empty:
        await self._lanes.suspend(params.queue, stop=params.stop)
        return Empty()

    async def _export(self, _: Call, params: ops.PieceOf) -> ops.Piece:
        content = self._queue.content(_id(params.id))
        if content is None:
            raise RpcError("not_found", "no such message waits here")
        return ops.Piece(content[params.offset : params.offset + PIECE], len(content))

    async def _trace(self, _: Call, params: ops.TraceFilter) -> ops.Trace:
        events = await asyncio.to_thread(
            search, self._tracking, sender=params.sender, recipient=params.recipient,
            ident=_id(params.id).hex(), since=params.since, limit=params.limit)
        return ops.Trace([ops.TraceRow(one.time, one.event, to_text(bytes.fromhex(one.id)), one.sender, one.recipient,
                                       one.detail) for one in events])

    async def _dkim(self, _: Call, params: ops.DkimFilter) -> ops.DkimStates:
        if self._signer is None:
            raise RpcError("refused", "this island does not send: nothing is signed, and no name server is asked")
        return ops.DkimStates([ops.DkimState(one.selector, one.kind, one.state)
                               for one in await self._signer.check(params.domain)])

    # -- sessions

    async def _sessions(self, _: Call, params: ops.SessionFilter) -> ops.Sessions:
        return ops.Sessions([
            ops.SessionRow(claims.sid, claims.adr, "submit", claims.ip, one.since, self._ctx.name)
            for one in self._submit.connections if (claims := one.claims) is not None
            and (not params.user or to_text(claims.sub) == params.user)
            and (not params.address or claims.adr == params.address)])

    async def _end(self, _: Call, params: ops.SessionEnd) -> ops.Count:
        found: list[HopSession] = [one for one in self._submit.connections if one.claims is not None and
                                   (one.claims.sid == params.sid if params.sid else one.claims.adr == params.address)]
        for one in found:
            one.end()
        return ops.Count(len(found))


def _id(text: str) -> bytes:
    if not text:
        return b""
    try:
        return from_text(text)
    except ValueError:
        raise RpcError("invalid", "not the id of a message") from None


def _message(jobs: list[Job]) -> ops.QueuedMessage:
    first = jobs[0]
    return ops.QueuedMessage(to_text(first.envelope.id), first.envelope.sender, [job.address for job in jobs],
                             first.size, first.envelope.received, max(job.tries for job in jobs), first.last)
