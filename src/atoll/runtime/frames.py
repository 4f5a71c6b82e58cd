"""Frames of inside calls: 4-byte big-endian length and as many bytes of msgpack (docs/seams.md 2).

In     bytes as they come; values to send.
Out    whole frames; bytes to write. No I/O.
Fails  ValueError on a frame that is longer than allowed.
"""

from __future__ import annotations

import msgspec

MAX_FRAME = 8 * 1024 * 1024
MAX_GREETING = 4096

_encode = msgspec.msgpack.Encoder().encode


class FrameReader:
    """Cuts the stream into frames. Does no I/O: feed() gives the whole frames so far.

    ValueError when a frame is longer than allowed; the first frame (the greeting) may be 4 KiB.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._limit = MAX_GREETING

    def feed(self, data: bytes) -> list[bytes]:
        """Whole frames, without their length."""
        buffer = self._buffer
        buffer += data
        frames: list[bytes] = []
        start = 0
        while len(buffer) - start >= 4:
            size = int.from_bytes(buffer[start : start + 4], "big")
            if size > self._limit:
                raise ValueError("frame too long")
            if len(buffer) - start - 4 < size:
                break
            frames.append(bytes(buffer[start + 4 : start + 4 + size]))
            start += 4 + size
            self._limit = MAX_FRAME
        if start:
            del buffer[:start]
        return frames


def frame(value: object) -> bytes:
    """One frame of the wire; ValueError when it would be longer than MAX_FRAME."""
    body = _encode(value)
    if len(body) > MAX_FRAME:
        raise ValueError("too long for one frame")
    return len(body).to_bytes(4, "big") + body
