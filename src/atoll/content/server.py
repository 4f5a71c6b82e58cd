"""The content role's end: one question after another, each under a budget.

In     connections on content.sock: a job's name with a descriptor of a sealed memory file.
Out    one answer each, then the connection is closed.
Spec   SECURITY 1, rule 1: bytes, count and processor time are bounded; what is over is refused.
Fails  Over the soft budget of time: refused. Stuck in one long call: the kernel ends the process (SIGXCPU), the
       supervisor starts another. Out of memory: refused.
Not    parallel: one thread, so that a bomb costs one process's budget and no more.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import mmap
import os
import resource
import signal
import socket
from collections.abc import Callable
from typing import Any

from atoll.content import jobs
from atoll.runtime.peers import Peer, peer_of

SOFT_SECONDS = 5.0
"""Processor time of one job; the supervisor's pings come each 5 s and may miss three times."""
HARD_SECONDS = 8
MEMORY = 1 << 30
SEND_SECONDS = 10.0
REQUEST_SECONDS = 5.0

_log = logging.getLogger("atoll.content")


class OverBudget(Exception):
    """The job's time is up."""


class ContentServer:
    """Accepts on one socket. admit: who may ask."""

    def __init__(self, admit: Callable[[Peer], bool]) -> None:
        self._admit = admit
        self._listener: socket.socket
        self._tasks: set[asyncio.Task[None]] = set()
        self.counts = {"done": 0, "refused": 0}

    def start(self, listener: socket.socket) -> None:
        """From now on."""
        listener.setblocking(False)
        self._listener = listener
        signal.signal(signal.SIGVTALRM, _out_of_time)
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept)

    def stop(self) -> None:
        """No more questions; the one at work is answered first, as there is one thread."""
        asyncio.get_running_loop().remove_reader(self._listener.fileno())

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if not self._admit(peer_of(connection)):
            connection.close()
            return
        connection.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connection:
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    await _readable(loop, connection)
                job, data = _request(connection)
                answer = self._answer(job, data)
                async with asyncio.timeout(SEND_SECONDS):
                    await loop.sock_sendall(connection, answer)
            except (OSError, TimeoutError, ValueError) as error:
                _log.warning("question not answered", extra={"f": {"error": type(error).__name__}})

    def _answer(self, job: str, data: bytes) -> bytes:
        try:
            answer = limited(jobs.run, job, data)
        except (OverBudget, MemoryError, RecursionError) as error:
            _log.warning("job refused", extra={"f": {"job": job, "bytes": len(data), "why": type(error).__name__}})
            answer = jobs.REFUSED
        self.counts["done" if answer[:1] == jobs.DONE else "refused"] += 1
        return answer


def limited(work: Callable[..., bytes], *arguments: Any) -> bytes:
    """Run it with SOFT_SECONDS of processor time, and the kernel's word at HARD_SECONDS."""
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (used + HARD_SECONDS, most))
    signal.setitimer(signal.ITIMER_VIRTUAL, SOFT_SECONDS)
    try:
        return work(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (most, most))


def bound_memory() -> None:
    """For the whole life of the role."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _out_of_time(number: int, frame: object) -> None:
    raise OverBudget


async def _readable(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    waiter: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection.fileno(), lambda: None if waiter.done() else waiter.set_result(None))
    try:
        await waiter
    finally:
        loop.remove_reader(connection.fileno())


def _request(connection: socket.socket) -> tuple[str, bytes]:
    word, fds, _, _ = socket.recv_fds(connection, jobs.MAX_REQUEST, 1)
    try:
        if len(fds) != 1:
            raise ValueError("no file")
        size = os.fstat(fds[0]).st_size
        # Sealed: it can neither shrink under the map nor change under the parser.
        if size > jobs.MAX_INPUT or not fcntl.fcntl(fds[0], fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE:
            raise ValueError("not a message")
        if not size:
            return word.decode("ascii"), b""
        with mmap.mmap(fds[0], size, access=mmap.ACCESS_READ) as mapped:
            return word.decode("ascii"), mapped[:]
    finally:
        for fd in fds:
            os.close(fd)
