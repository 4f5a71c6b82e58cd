"""The health port: /healthz and /metrics, and nothing else.

In     connections on a port of this machine; functions that know the answers.
Out    one answer per connection, then it is closed.
Spec   [RFC 9112 §3] a strict subset: GET or HEAD, exact paths, one Host field, no body. Prometheus text format 0.0.4.
Fails  400, 404, 405 or 503; a head over 4 KiB, one that takes 5 s, or the 33rd connection at once: closed.
Not    an HTTP server for people.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

MAX_HEAD = 4096
SECONDS = 5.0
MAX_OPEN = 32
_REQUEST = re.compile(rb"([A-Z]{1,16}) (/[!-~]{0,255}) HTTP/1\.[01]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*([ -~\t]*)")
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}

_log = logging.getLogger("atoll.status")


class Answer(NamedTuple):
    """A status, a media type, a body."""

    status: int
    kind: str
    body: bytes


Page = Callable[[], Awaitable[Answer]]


def parse(head: bytes) -> tuple[bytes, bytes] | None:
    """(method, path) of a request head without its empty line, or None when it is not one."""
    first, *fields = head.split(b"\r\n")
    request = _REQUEST.fullmatch(first)
    names = []
    for line in fields:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        names.append(field[1].lower())
    # [RFC 9112 §3.2] exactly one Host; a body is nothing that we read
    if request is None or names.count(b"host") != 1 or b"transfer-encoding" in names or b"content-length" in names:
        return None
    return request[1], request[2]


class StatusServer:
    """Serves pages by exact path."""

    def __init__(self, pages: dict[bytes, Page]) -> None:
        self._pages = pages
        self._open = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its end."""
        self._open += 1
        try:
            if self._open <= MAX_OPEN:
                async with asyncio.timeout(SECONDS):
                    head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
                    writer.write(await self._answer(head))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # gone, slow or too long: nothing to say to it
        except Exception:
            _log.exception("health port")
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, head: bytes) -> bytes:
        request = parse(head)
        if request is None:
            return _encode(Answer(400, "text/plain", b"bad request\n"), b"GET")
        method, path = request
        page = self._pages.get(path)
        if page is None:
            return _encode(Answer(404, "text/plain", b"not here\n"), method)
        if method not in (b"GET", b"HEAD"):
            return _encode(Answer(405, "text/plain", b"GET or HEAD\n"), method)
        return _encode(await page(), method)


def _encode(answer: Answer, method: bytes) -> bytes:
    head = (f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\nContent-Type: {answer.kind}\r\n"
            f"Content-Length: {len(answer.body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
            + ("Allow: GET, HEAD\r\n" if answer.status == 405 else "") + "Connection: close\r\n\r\n")
    return head.encode() + (b"" if method == b"HEAD" else answer.body)
