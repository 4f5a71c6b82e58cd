"""Who is at the other end of a Unix socket, by the kernel's word (SO_PEERCRED, unix(7)).

In     a connected Unix socket, or an asyncio transport of one.
Out    Peer(pid, uid, gid) as they were when the peer called connect() or listen().
Fails  OSError when it is not a Unix socket or already gone.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import NamedTuple

_UCRED = struct.Struct("3i")


class Peer(NamedTuple):
    """A process of this machine: it cannot lie about these."""

    pid: int
    uid: int
    gid: int


def peer_of(end: asyncio.BaseTransport | socket.socket) -> Peer:
    """The peer's credentials."""
    # uvloop's transports are no asyncio.BaseTransport by type
    sock = end if isinstance(end, socket.socket) else end.get_extra_info("socket")
    if sock is None:
        raise OSError("no socket")
    return Peer(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))
