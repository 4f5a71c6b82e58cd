"""protocols.pop3.wire.answers -- what a server says.

In     texts and message octets. Out  lines; dot-stuffed text [RFC 1939 §3].
Spec   [RFC 2449 §8] (response codes), [RFC 3206] (SYS, AUTH).
Fails  never.
Not    flow control.
"""

from __future__ import annotations

TERMINATOR = b".\r\n"


def ok(text: str = "") -> bytes:
    """A positive answer."""
    return f"+OK {text}\r\n".encode("ascii", "replace") if text else b"+OK\r\n"


def err(text: str, code: str = "") -> bytes:
    """A negative answer, with a response code if there is one."""
    lead = f"-ERR [{code}] " if code else "-ERR "
    return (lead + text.replace("\r", " ").replace("\n", " ")).encode("ascii", "replace") + b"\r\n"


def stuffed(text: bytes) -> bytes:
    """A whole message as the body of a multi-line answer, the terminator included."""
    stuffer = Stuffer()
    return stuffer.feed(text) + stuffer.end()


class Stuffer:
    """Dot-stuffing of a text that comes in pieces. Line ends come out as CRLF, whatever they were."""

    def __init__(self) -> None:
        self._line_start = True
        self._held = b""  # a CR at the end of a piece: its LF may follow

    def feed(self, piece: bytes) -> bytes:
        """The next octets of the answer."""
        piece = self._held + piece
        self._held = b""
        if piece.endswith(b"\r"):
            piece, self._held = piece[:-1], b"\r"
        if not piece:
            return b""
        if piece.count(b"\n") != piece.count(b"\r\n"):
            piece = piece.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        out = piece.replace(b"\n.", b"\n..")
        if self._line_start and piece.startswith(b"."):
            out = b"." + out
        self._line_start = piece.endswith(b"\n")
        return out

    def end(self) -> bytes:
        """What completes the answer."""
        if self._held:
            return b"\r\n" + TERMINATOR  # the message ended in a bare CR
        return TERMINATOR if self._line_start else b"\r\n" + TERMINATOR
