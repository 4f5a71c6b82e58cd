"""protocols.imap.wire.boundary -- is a server's stream between two responses right now?

In     the bytes a server sends, as they pass. Out  at_boundary: the next byte would begin a response.
Spec   [RFC 9051 §4.3]: a line that ends in {n} goes on after n octets. Used to place a BYE where a client can read it.
Fails  never. Costs one find() a chunk, nothing inside a long literal.
"""

from __future__ import annotations

import re

_HEADER = re.compile(rb"\{(\d{1,19})\+?\}\r\n\Z")
_TAIL = 26
"""The longest "{number+}" with its CRLF, and one."""


class Boundary:
    """Follows the framing of one server's stream."""

    __slots__ = ("_left", "_open", "_tail")

    def __init__(self) -> None:
        self._left = 0       # octets of a literal still to come
        self._open = False   # inside a line
        self._tail = b""     # the end of that line so far: a header may be cut between two chunks

    @property
    def at_boundary(self) -> bool:
        return not self._left and not self._open

    def passed(self, data: bytes) -> None:
        """These bytes went by."""
        if self._left:
            if self._left >= len(data):
                self._left -= len(data)
                return
            data = data[self._left :]
            self._left = 0
        text = self._tail + data if self._tail else data
        at = 0
        # the single octet first: it is looked for by memchr, and most of what goes by has none
        while (brace := text.find(b"}", at)) >= 0 and (end := text.find(b"}\r\n", brace)) >= 0:
            header = _HEADER.search(text, max(at, end + 3 - _TAIL), end + 3)
            at = end + 3
            self._open = header is not None
            if header is not None:
                at += int(header.group(1))
                if at >= len(text):
                    self._left, self._tail = at - len(text), b""
                    return
        if at < len(text):
            self._open = not text.endswith(b"\r\n", at)
        self._tail = text[max(at, len(text) - _TAIL) :] if self._open else b""
