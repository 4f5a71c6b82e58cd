"""What administrators ask of transport: queues and message tracking. Part of ops.py's table.

In/Out  msgspec Structs; sizes in bytes, times in ms since 1970 UTC.
"""

from __future__ import annotations

import msgspec


class QueueRow(msgspec.Struct):
    queue: str
    messages: int
    size: int
    state: str
    next_try: int = 0
    last_error: str = ""


class Queues(msgspec.Struct):
    queues: list[QueueRow]


class QueueName(msgspec.Struct):
    queue: str = ""
    limit: int = 1000


class QueuedMessage(msgspec.Struct):
    id: str
    sender: str
    recipients: list[str]
    size: int
    arrived: int
    tries: int = 0
    last_error: str = ""


class QueuedMessages(msgspec.Struct):
    messages: list[QueuedMessage]


class QueueAct(msgspec.Struct):
    """One message by id, or a whole queue. notify: tell the sender (remove)."""

    id: str = ""
    queue: str = ""
    notify: bool = False


class QueueStop(msgspec.Struct):
    """stop: try nothing there until it is resumed."""

    queue: str
    stop: bool = True


class PieceOf(msgspec.Struct):
    """Octets of a message from `offset` on."""

    id: str
    offset: int = 0


class Piece(msgspec.Struct):
    """total: octets of the whole."""

    data: bytes
    total: int


class TraceFilter(msgspec.Struct):
    id: str = ""
    sender: str = ""
    recipient: str = ""
    since: int = 0
    limit: int = 1000


class TraceRow(msgspec.Struct):
    time: int
    event: str
    id: str
    sender: str = ""
    recipient: str = ""
    detail: str = ""


class Trace(msgspec.Struct):
    events: list[TraceRow]
