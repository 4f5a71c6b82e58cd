"""Ask the content role to look at a message.

In     a message's bytes.
Out    what formats.mime.scan and search_text give.
Spec   one connection per question: the job's name with a descriptor of a sealed memory file, then the answer until the
       end of the stream.
Fails  ContentError("refused") when it is over the budget for time or memory, or killed the role that read it;
       ContentError("temporary") when nobody answers in time. The caller's message is none the worse.
Not    a reason to hold mail up: the caller decides what a message without it is worth.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from pathlib import Path
from typing import Any

import msgspec

from atoll.content.jobs import DONE, MAX_ANSWER, MAX_INPUT, RESULTS
from atoll.formats.mime import Scanned, SearchText

SECONDS = 20.0
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

    def __init__(self, path: Path, *, seconds: float = SECONDS) -> None:
        self._path = str(path)
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

    async def _ask(self, job: str, data: bytes) -> Any:
        if len(data) > MAX_INPUT:
            raise ContentError("refused")
        async with self._turns:
            try:
                async with asyncio.timeout(self._seconds):
                    answer = await self._exchange(job, data)
            except (OSError, TimeoutError):
                raise ContentError("temporary") from None
        if answer[:1] != DONE:
            raise ContentError("refused")
        try:
            return msgspec.msgpack.decode(memoryview(answer)[1:], type=RESULTS[job])
        except msgspec.DecodeError:
            raise ContentError("refused") from None

    async def _exchange(self, job: str, data: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, self._path)
            fd = await asyncio.to_thread(_memory_file, data)  # a copy of megabytes is none of the loop's business
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
        # No answer at all: it died over this message. Asking again would kill it again.
        return b"".join(pieces)


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
