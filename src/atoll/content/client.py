"""Ask the content role to look at a message.

In     a message's bytes.
Out    what formats.mime.scan and search_text give.
Spec   one connection per question: the job's name with a descriptor of a sealed memory file, then the answer until the
       end of the stream.
Fails  ContentError("refused") when it is over the budget for time or memory, or killed the role that read it, twice;
       ContentError("temporary") when nobody answers in time. The caller's message is none the worse.
Not    a reason to hold mail up: the caller decides what a message without it is worth.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from atoll.content.jobs import DONE, MAX_ANSWER, MAX_INPUT, MAX_REQUEST, RESULTS, path_words
from atoll.formats.mime import Part, Scanned, SearchText

SECONDS = 20.0
AWAY_SECONDS = 2.0
"""A role that died is back within so long, unless it dies again and again (PROCESSES 11)."""
AT_ONCE = 2
"""Questions on their way: the role has one thread."""
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class ContentError(Exception):
    """reason: "refused" (asking again gives the same) or "temporary"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ContentClient:
    """The mailbox's end of content.sock."""

    def __init__(self, path: Path, *, seconds: float = SECONDS, runs: Callable[[], bool] = lambda: True) -> None:
        """runs: is there a content role? One that dies again and again is not waited for."""
        self._path = str(path)
        self._runs = runs
        self._seconds = seconds
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def scan(self, data: bytes) -> Scanned:
        """formats.mime.scan, elsewhere."""
        scanned: Scanned = await self._ask("scan", data)
        return scanned

    async def text(self, data: bytes) -> SearchText:
        """formats.mime.search_text, elsewhere."""
        text: SearchText = await self._ask("text", data)
        return text

    async def parts(self, data: bytes, paths: list[tuple[int, ...]]) -> list[Part | None]:
        """Where these parts of the message are."""
        words = path_words(paths)
        if len(words) > MAX_REQUEST:
            raise ContentError("temporary")
        found: list[Part | None] = await self._ask(words, data)
        return found

    async def _ask(self, job: str, data: bytes) -> Any:
        if len(data) > MAX_INPUT:
            raise ContentError("refused")
        async with self._turns:
            answer = await self._answer(job, data, died="temporary")
            if not answer:
                # It died, perhaps over the question beside this one: whoever kills it twice is refused.
                answer = await self._answer(job, data, died="refused")
        if answer[:1] != DONE:
            raise ContentError("refused")
        try:
            return msgspec.msgpack.decode(memoryview(answer)[1:], type=RESULTS[job.partition(" ")[0]])
        except msgspec.DecodeError:
            raise ContentError("refused") from None

    async def _answer(self, job: str, data: bytes, *, died: str) -> bytes:
        """b"": it died without a word. died: what it means when nobody answers."""
        asking = asyncio.ensure_future(self._exchange(job, data))
        try:
            async with asyncio.timeout(self._seconds):
                while not asking.done():
                    await asyncio.wait((asking,), timeout=AWAY_SECONDS)
                    if not asking.done() and not self._runs():
                        raise TimeoutError
                return asking.result()
        except (OSError, TimeoutError):
            raise ContentError(died) from None
        finally:
            asking.cancel()

    async def _exchange(self, job: str, data: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, self._path)
            # A copy of megabytes is none of the loop's business.
            making = loop.run_in_executor(None, _memory_file, data)
            try:
                fd = await asyncio.shield(making)
            except asyncio.CancelledError:  # the thread goes on, and makes a descriptor that nobody waits for
                making.add_done_callback(_unwanted)
                raise
            try:
                socket.send_fds(sock, [job.encode("ascii")], [fd])
            finally:
                os.close(fd)
            pieces, size = [], 0
            try:
                while piece := await loop.sock_recv(sock, 1 << 18):
                    pieces.append(piece)
                    size += len(piece)
                    if size > MAX_ANSWER:
                        raise ContentError("refused")
            except ConnectionResetError:
                pieces = []
        return b"".join(pieces)


def _unwanted(made: asyncio.Future[int]) -> None:
    if not made.cancelled() and made.exception() is None:
        os.close(made.result())


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("content", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd
