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

from atoll.formats.mime import DEFAULT, Part, ScanLimits, Scanned, SearchText, find_part, parse_tree, scan, search_text

JOBS: Final[dict[str, Callable[[bytes], Any]]] = {"scan": scan, "text": search_text}
RESULTS: Final[dict[str, Any]] = {"scan": Scanned, "text": SearchText, "parts": list[Part | None]}
DONE, REFUSED = b"\x00", b"\x01"
MAX_REQUEST = 1024
"""The name of a job with its words; the message itself comes as a file."""
MAX_INPUT = 128 << 20
MAX_ANSWER = 64 << 20


def path_words(paths: list[tuple[int, ...]]) -> str:
    """"parts 1 1.2": what asks for these parts. "0" is the message itself."""
    return " ".join(["parts", *(".".join(map(str, path)) or "0" for path in paths)])


def parts(data: bytes, paths: list[tuple[int, ...]], limits: ScanLimits = DEFAULT) -> list[Part | None]:
    """Where these parts are, of one look at the message."""
    root = parse_tree(data, limits)
    return [find_part(root, path) for path in paths]


def _paths(words: list[str]) -> list[tuple[int, ...]]:
    return [() if word == "0" else tuple(map(int, word.split("."))) for word in words]


def run(job: str, data: bytes) -> bytes:
    """The answer's bytes; a job that we do not know is refused."""
    name, *words = job.split(" ")
    work = JOBS.get(name)
    if name == "parts":
        try:
            answer = msgspec.msgpack.encode(parts(data, _paths(words)))
        except ValueError:
            return REFUSED
    elif work is None:
        return REFUSED
    else:
        answer = msgspec.msgpack.encode(work(data))
    return DONE + answer if len(answer) < MAX_ANSWER else REFUSED
