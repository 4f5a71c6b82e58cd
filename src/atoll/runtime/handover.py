"""What a process leaves to the next one of its role: a sealed piece of memory, never a file.

In     bytes that a role hands over when it is restarted.
Out    the same bytes in its next life, once. The supervisor keeps the descriptor meanwhile and never reads it.
Spec   PROCESSES 5 and 11 (the directory's verified credentials over a graceful restart); memfd_create(2), F_ADD_SEALS.
Fails  OSError when there is no memory for it. What is not sealed was not finished: it counts as nothing.
Not    for a role that crashed: what it knew is gone with it.
"""

from __future__ import annotations

import fcntl
import os

LIMIT = 128 << 20
"""Bytes."""
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def create(name: str) -> int:
    """An empty memory file to write into; its descriptor."""
    return os.memfd_create(f"atoll {name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def write(fd: int, data: bytes) -> None:
    """Fill and seal it."""
    if len(data) > LIMIT:
        raise OSError("too much to hand over")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)


def is_sealed(fd: int) -> bool:
    """Whether its writer finished."""
    return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS


def read(fd: int) -> bytes:
    """What was handed over, b"" when that was not finished; the descriptor is closed."""
    with os.fdopen(fd, "rb") as file:
        if not is_sealed(fd) or os.fstat(fd).st_size > LIMIT:
            return b""
        file.seek(0)
        return file.read()
