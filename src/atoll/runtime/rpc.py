"""Inside calls: typed requests, answers and pushes over a Unix socket (docs/seams.md 2).

In     asyncio connections; msgspec Structs.
Out    frames: 4-byte big-endian length (<= 8 MiB) + msgpack of a list. First frame each way
       ["atoll", product version, [extensions]]; request [id, op, params]; answer [id, 0, result] or
       [id, 1, [code, text]]; push [0, op, params]. Requests are pipelined; answers come in any order.
Spec   docs/seams.md 2; ISLANDS 11.18 (greeting); admission by the kernel's word (SO_PEERCRED), never the peer's.
Fails  RpcError(code, text). A frame out of form ends the connection. A call that was in flight when the connection
       went is "temporary": it may or may not have been done, so only a call marked `repeat` is made again.
Not    a public protocol: both ends are roles of one island (or the operator's own command).
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from atoll.base.version import __version__
from atoll.runtime.frames import FrameReader, frame
from atoll.runtime.peers import Peer, peer_of
from atoll.runtime.sockets import serve_unix

MAX_IN_FLIGHT = 256
"""Requests of one connection being worked on; more wait in the socket."""
MAX_UNSENT = 16 * 1024 * 1024
"""Bytes that a peer may leave unread before it is dropped (it reconnects and catches up)."""
GREETING_SECONDS = 5.0
BACK_OFF = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)

_log = logging.getLogger("atoll.rpc")
_greeting_decoder = msgspec.msgpack.Decoder(tuple[str, str, list[str]])
_request_decoder = msgspec.msgpack.Decoder(tuple[int, str, msgspec.Raw])
_answer_decoder = msgspec.msgpack.Decoder(tuple[int, int | str, msgspec.Raw])
_error_decoder = msgspec.msgpack.Decoder(tuple[str, str])

T = TypeVar("T")


class RpcError(Exception):
    """A call was answered with an error, or not at all.

    code: refused, temporary, not_found, exists, invalid, denied, gone. text: for people, holds no secret.
    """

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(f"{code}: {text}" if text else code)
        self.code = code
        self.text = text


class ConnectionLost(RpcError):
    """The connection went while a call was in flight: it may or may not have been done."""

    def __init__(self) -> None:
        super().__init__("temporary", "connection lost")


class Empty(msgspec.Struct):
    """No parameters, or nothing to say but "done"."""


class _Link(asyncio.Protocol):
    """What both ends share: framing, the greeting, bounded sending."""

    def __init__(self, extensions: Iterable[str]) -> None:
        self._reader = FrameReader()
        self._extensions = list(extensions)
        self._greeted = False
        self._timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport
        self.peer: Peer
        self.peer_version = ""
        self.peer_extensions: frozenset[str] = frozenset()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.peer = peer_of(transport)
        self._timer = asyncio.get_running_loop().call_later(GREETING_SECONDS, self.transport.abort)
        self.transport.write(frame(["atoll", __version__, self._extensions]))

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._reader.feed(data):
                if self._greeted:
                    self.frame_received(body)
                else:
                    self._greeting_received(body)
        except (ValueError, msgspec.DecodeError) as error:
            # The bytes themselves may hold a password: only the kind of error is told.
            _log.warning("bad frame", extra={"f": {"pid": self.peer.pid, "error": type(error).__name__}})
            self.transport.abort()

    def _greeting_received(self, body: bytes) -> None:
        name, version, extensions = _greeting_decoder.decode(body)
        if name != "atoll":
            raise ValueError("not ours")
        self.peer_version = version
        self.peer_extensions = frozenset(extensions)  # unknown ones are ignored (ISLANDS 11.18)
        self._greeted = True
        self._stop_timer()
        self.greeted()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send(self, data: bytes) -> None:
        """Write, or drop a peer that does not read."""
        if self.transport.is_closing():
            return
        self.transport.write(data)
        if self.transport.get_write_buffer_size() > MAX_UNSENT:
            _log.warning("peer does not read", extra={"f": {"pid": self.peer.pid}})
            self.transport.abort()

    def greeted(self) -> None:
        """The peer's greeting was read."""

    def frame_received(self, body: bytes) -> None:
        """One frame behind the greeting; ValueError or DecodeError ends the connection."""
        raise NotImplementedError


class Connection(_Link):
    """One client of an RpcServer. `peer` is the kernel's word; `state` is the handlers' own memory of this client."""

    def __init__(self, server: RpcServer) -> None:
        super().__init__(server.extensions)
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: list[tuple[int, str, msgspec.Raw]] = []
        self._paused = False
        self.state: dict[str, Any] = {}
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = peer_of(transport)
        if not self._server.admit(peer):
            self.peer = peer
            _log.warning("peer refused", extra={"f": {"pid": peer.pid, "uid": peer.uid}})
            transport.abort()  # type: ignore[attr-defined]
            return
        super().connection_made(transport)

    def greeted(self) -> None:
        if self._server.closed:  # it came while the role stopped: the next life answers it
            self.transport.abort()
            return
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._server.connections.discard(self)
        self.closed.set()
        self._waiting.clear()
        # Requests go on to their end: what they commit is committed, only the answer has nobody to go to.
        if self._server.on_close is not None and self._greeted:
            self._server.on_close(self)

    def frame_received(self, body: bytes) -> None:
        if self._server.closed:
            return
        number, op, params = _request_decoder.decode(body)
        if number <= 0:
            raise ValueError("request numbers start at 1")
        if len(self._tasks) >= MAX_IN_FLIGHT:
            if not self._paused:
                self._paused = True
                self.transport.pause_reading()
            self._waiting.append((number, op, params.copy()))
            return
        self._start(number, op, params)

    def _start(self, number: int, op: str, params: msgspec.Raw) -> None:
        row = self._server.handlers.get(op)
        if row is None:
            self._fail(number, RpcError("invalid", "unknown operation"))
            return
        decoder, handler = row
        try:
            value = decoder.decode(params)
        except msgspec.DecodeError as error:
            self._fail(number, RpcError("invalid", _public(error)))
            return
        task = asyncio.get_running_loop().create_task(self._run(number, op, handler, value))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _run(self, number: int, op: str, handler: _Handler, value: Any) -> None:
        try:
            result = await handler(Call(self, op), value)
            self.send(frame((number, 0, Empty() if result is None else result)))
        except RpcError as error:
            self._fail(number, error)
        except Exception:
            _log.exception("operation failed", extra={"f": {"op": op}})
            self._fail(number, RpcError("temporary", "internal error"))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        while self._waiting and len(self._tasks) < MAX_IN_FLIGHT:
            self._start(*self._waiting.pop(0))
        if self._paused and not self._waiting and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def _fail(self, number: int, error: RpcError) -> None:
        self.send(frame((number, 1, (error.code, error.text))))

    def push(self, op: str, params: msgspec.Struct) -> None:
        """Tell the client something it did not ask for."""
        self.send(frame((0, op, params)))

    def close(self) -> None:
        """End the connection after what is written."""
        self.transport.close()


def _public(error: msgspec.DecodeError) -> str:
    # msgspec names types and paths of the schema, never values
    return str(error)[:200]


class Call:
    """One request being answered: who asks (`peer`), on which `connection`, for which `op`."""

    __slots__ = ("connection", "op")

    def __init__(self, connection: Connection, op: str) -> None:
        self.connection = connection
        self.op = op

    @property
    def peer(self) -> Peer:
        return self.connection.peer

    @property
    def closed(self) -> asyncio.Event:
        """Set when the client has gone."""
        return self.connection.closed

    def push(self, op: str, params: msgspec.Struct) -> None:
        """Tell this client something beside the answer (progress)."""
        self.connection.push(op, params)


_Handler = Callable[[Call, Any], Awaitable[msgspec.Struct | None]]
Handler = tuple[type[msgspec.Struct], _Handler]
"""(type of the parameters, async def (call, params) -> result Struct, or None for "done")."""


class RpcServer:
    """Answers calls on one listening socket.

    admit: who may connect, by pid and uid; asked before a byte is read. on_close: a greeted client has gone.
    """

    def __init__(self, handlers: Mapping[str, Handler], admit: Callable[[Peer], bool], *,
                 extensions: Iterable[str] = (), on_close: Callable[[Connection], None] | None = None) -> None:
        self.handlers = {op: (msgspec.msgpack.Decoder(kind), handler) for op, (kind, handler) in handlers.items()}
        self.admit = admit
        self.extensions = tuple(extensions)
        self.on_close = on_close
        self.connections: set[Connection] = set()
        """Greeted clients: push to them with Connection.push."""
        self.closed = False

    async def serve(self, sock: socket.socket) -> asyncio.Server:
        """Accept on a bound Unix socket. Keep the Server: uvloop closes one that is collected."""
        sock.setblocking(False)
        self.closed = False
        return await serve_unix(lambda: Connection(self), sock)

    def close_connections(self) -> None:
        """End every client's connection, and those that are still being made (the role stops)."""
        self.closed = True
        for connection in list(self.connections):
            connection.close()


class _ClientLink(_Link):
    def __init__(self, client: RpcClient) -> None:
        super().__init__(client.extensions)
        self._client = client
        self.pending: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def greeted(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def frame_received(self, body: bytes) -> None:
        number, kind, value = _answer_decoder.decode(body)
        if number == 0:
            self._client.pushed(str(kind), bytes(value))
            return
        waiter = self.pending.pop(number, None)
        if waiter is None or waiter.done():  # the caller's time was up
            return
        if kind == 0:
            waiter.set_result(value.copy())
        else:
            waiter.set_exception(RpcError(*_error_decoder.decode(value)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("refused by the server"))
            self.ready.exception()
        for waiter in self.pending.values():
            if not waiter.done():
                waiter.set_exception(ConnectionLost())
        self.pending.clear()
        self._client.lost(self)


class RpcClient:
    """One lasting connection to an RpcServer, made at the first call or by start(), and made again whenever it ends.

    A call while disconnected waits, at most `timeout` seconds in all, then RpcError("temporary").
    on_push(op, params as msgpack bytes): pushes, in order. on_connect: called after each (re)connection, to subscribe
    again; other calls wait for its end. on_lost: the connection ended by itself. admit: which server process to believe
    (its pid and uid by SO_PEERCRED).
    """

    def __init__(self, path: Path, *, on_push: Callable[[str, bytes], None] | None = None, timeout: float = 10,
                 on_connect: Callable[[], Awaitable[None]] | None = None,
                 on_lost: Callable[[], None] | None = None,
                 admit: Callable[[Peer], bool] | None = None, extensions: Iterable[str] = ()) -> None:
        self.path = path
        self.timeout = timeout
        self.extensions = tuple(extensions)
        self.on_push = on_push
        self.on_connect = on_connect
        self.on_lost = on_lost
        self._admit = admit
        self._link: _ClientLink | None = None
        self._up: asyncio.Event | None = None
        self._connector: asyncio.Task[None] | None = None
        self._hook: asyncio.Task[None] | None = None
        self._next = 0
        self._closed = False

    @property
    def connected(self) -> bool:
        return self._link is not None

    def start(self) -> None:
        """Connect in the background; needed by those who only wait for pushes."""
        if self._up is None:
            self._up = asyncio.Event()
        if self._link is None and not self._closed and (self._connector is None or self._connector.done()):
            self._connector = asyncio.get_running_loop().create_task(self._connect())

    async def ready(self, within: float | None = None) -> None:
        """Wait until connected; RpcError("temporary") when that takes more than `within` seconds."""
        self.start()
        assert self._up is not None
        try:
            async with asyncio.timeout(self.timeout if within is None else within):
                await self._up.wait()
        except TimeoutError:
            raise RpcError("temporary", "nobody answers") from None

    async def _connect(self) -> None:
        attempt = 0
        while not self._closed:
            # Jitter: the clients of a restarted role do not come back in step.
            delay = BACK_OFF[min(attempt, len(BACK_OFF) - 1)] * random.uniform(0.8, 1.2)  # noqa: S311
            if delay:
                await asyncio.sleep(delay)
            attempt += 1
            try:
                _, link = await asyncio.get_running_loop().create_unix_connection(
                    lambda: _ClientLink(self), str(self.path))
            except OSError:
                continue
            if self._admit is not None and not self._admit(link.peer):
                _log.error("server refused", extra={"f": {"pid": link.peer.pid, "uid": link.peer.uid}})
                link.transport.abort()
                continue
            try:
                await asyncio.wait_for(asyncio.shield(link.ready), GREETING_SECONDS)
            except (OSError, TimeoutError):
                link.transport.abort()
                continue
            if link.transport.is_closing():
                continue
            self._link = link
            self._hook = asyncio.get_running_loop().create_task(self._connected(link))
            return

    async def _connected(self, link: _ClientLink) -> None:
        # Ordinary calls wait until the hook is through: the server knows us again before it is asked.
        try:
            if self.on_connect is not None:
                await self.on_connect()
        except Exception as error:
            known = isinstance(error, RpcError)
            _log.warning("subscription failed", exc_info=not known,
                         extra={"f": {"path": self.path.name, "error": str(error)}})
            await asyncio.sleep(0.2)
            link.transport.abort()  # begin again from the connection
            return
        if self._link is link and self._up is not None:
            self._up.set()

    def pushed(self, op: str, params: bytes) -> None:
        """The link's way in: a push arrived."""
        if self.on_push is not None:
            self.on_push(op, params)

    def lost(self, link: _ClientLink) -> None:
        """The link's way in: the connection ended."""
        if self._link is link:
            self._link = None
            if self._up is not None:
                self._up.clear()
            if not self._closed:
                if self.on_lost is not None:
                    self.on_lost()
                self.start()

    async def call(self, op: str, params: msgspec.Struct, result: type[T], within: float | None = None, *,
                   repeat: bool = False) -> T:
        """Ask and wait for the answer; RpcError when it is an error, comes not `within` seconds, or is out of type.

        repeat: asking twice does no harm, so ask again when the connection goes.
        """
        try:
            async with asyncio.timeout(self.timeout if within is None else within):
                while True:
                    try:
                        raw = await self._ask(op, params)
                        break
                    except ConnectionLost:
                        if not repeat:
                            raise
        except TimeoutError:
            raise RpcError("temporary", "no answer in time") from None
        try:
            return msgspec.msgpack.decode(raw, type=result)
        except msgspec.DecodeError as error:
            raise RpcError("temporary", f"answer out of form: {_public(error)}") from None

    def _ready(self) -> bool:
        return (self._up is not None and self._up.is_set()) or asyncio.current_task() is self._hook

    async def _ask(self, op: str, params: msgspec.Struct) -> msgspec.Raw:
        while self._link is None or not self._ready():
            if self._closed:
                raise RpcError("gone", "closed")
            self.start()
            assert self._up is not None
            await self._up.wait()
        link = self._link
        self._next += 1
        number = self._next
        try:
            data = frame((number, op, params))
        except ValueError as error:
            raise RpcError("invalid", str(error)) from None
        waiter: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        link.pending[number] = waiter
        try:
            link.send(data)
            return await waiter
        finally:
            link.pending.pop(number, None)

    async def close(self) -> None:
        """End the connection; calls that wait fail."""
        self._closed = True
        for task in (self._connector, self._hook):
            if task is not None and not task.done():
                task.cancel()
        if self._link is not None:
            self._link.transport.close()
        if self._up is not None:
            self._up.set()
