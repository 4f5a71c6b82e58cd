"""Does a message run in circles? [RFC 5321 §6.3]: too many Received: lines."""

from __future__ import annotations

MAX_HOPS = 100
_HEADER_MAX = 1 << 20


def hops(content: bytes) -> int:
    """How many Received: lines the header has."""
    end = content.find(b"\r\n\r\n", 0, _HEADER_MAX)
    header = content[: end if end >= 0 else _HEADER_MAX].lower()
    return header.count(b"\nreceived:") + header.startswith(b"received:")


def is_loop(content: bytes) -> bool:
    """More hops than any route has."""
    return hops(content) > MAX_HOPS
