"""What the content role can do, and the frames that ask for it. Pure.

In     the name of a job and the message's bytes.
Out    the job's value in msgpack, behind a first byte that says how it went.
Fails  OverBudget from the caller's timer passes through; MemoryError likewise.
Not    sockets, timers, limits of the process (content.server).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from atoll.formats.mime import Scanned, SearchText, scan, search_text

JOBS: Final[dict[str, Callable[[bytes], Any]]] = {"scan": scan, "text": search_text}
RESULTS: Final[dict[str, type]] = {"scan": Scanned, "text": SearchText}
DONE, REFUSED = b"\x00", b"\x01"
MAX_REQUEST = 64
"""The name of a job; the message itself comes as a file."""
MAX_INPUT = 128 << 20
MAX_ANSWER = 64 << 20


def run(job: str, data: bytes) -> bytes:
    """The answer's bytes; a job that we do not know is refused."""
    work = JOBS.get(job)
    if work is None:
        return REFUSED
    answer = msgspec.msgpack.encode(work(data))
    return DONE + answer if len(answer) < MAX_ANSWER else REFUSED
