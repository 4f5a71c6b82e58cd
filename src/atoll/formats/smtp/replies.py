"""SMTP replies: what is said, and their parsing on the client side of our own hops.

Spec   [RFC 5321 §4.2], [RFC 3463] enhanced codes, [RFC 2034].
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply; text is for the peer: generic, never a path, a rule's name or a database."""

    code: int
    status: str
    text: str
    wire: bytes = field(init=False, repr=False, compare=False)
    """Its octets; several lines of text become several lines."""

    def __post_init__(self) -> None:
        head = f"{self.status} " if self.status else ""
        *before, last = self.text.split("\n")
        lines = [f"{self.code}-{head}{line}\r\n" for line in before]
        octets = ("".join(lines) + f"{self.code} {head}{last}\r\n").encode("ascii", "replace")
        object.__setattr__(self, "wire", octets)

    @property
    def temporary(self) -> bool:
        """The same later may succeed."""
        return 400 <= self.code < 500


OK = Reply(250, "2.0.0", "Ok")
BYE = Reply(221, "2.0.0", "Bye")
START_DATA = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
START_TLS = Reply(220, "2.0.0", "Ready to start TLS")
SYNTAX = Reply(501, "5.5.4", "Syntax error in parameters")
UNKNOWN = Reply(500, "5.5.1", "Command not recognized")
SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")
BARE_COMMAND = Reply(500, "5.5.2", "Bare CR, LF or NUL in a command")
BARE_CONTENT = Reply(550, "5.5.2", "Bare CR or LF in the message: lines end with CRLF")
NUL_CONTENT = Reply(550, "5.5.2", "NUL in the message")
TOO_BIG = Reply(552, "5.3.4", "Message too big")
NO_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")
LOOP = Reply(554, "5.4.6", "Too many hops: the message loops")
TRY_LATER = Reply(451, "4.3.0", "Not now, try again later")
FAULT = Reply(451, "4.3.0", "The message could not be handled")
LOST = Reply(451, "4.4.2", "The connection was lost")
LOST_ALONE = Reply(451, "4.4.2", "The connection was lost over this message alone")
NO_SPACE = Reply(452, "4.3.1", "No space left, try again later")
NO_MAILBOX = Reply(550, "5.1.1", "No such recipient here")
NO_DOMAIN = Reply(550, "5.1.2", "Not a domain name")
EXPANDED = Reply(250, "2.1.5", "The members of the group get it")
GROUP_CLOSED = Reply(550, "5.7.1", "You may not send to this group")
TOO_MANY_MEMBERS = Reply(550, "5.5.3", "The group stands for too many recipients")
NO_RELAY = Reply(550, "5.7.1", "This server does not send to other domains: local recipients only")
TO_BE_SENT = Reply(450, "4.0.0", "Waiting to be sent")
NEED_TLS = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
NEED_AUTH = Reply(530, "5.7.0", "Authentication required")
AUTH_FAILED = Reply(535, "5.7.8", "Authentication credentials invalid")
AUTH_TEMPORARY = Reply(454, "4.7.0", "Temporary authentication failure")
AUTH_SLOW = Reply(454, "4.7.0", "Too many failed attempts, try again later")
AUTH_CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
NOT_SASL = Reply(501, "5.5.2", "Invalid response")
NO_AUTH = Reply(500, "5.5.1", "No AUTH on this port: submit mail at port 587 or 465")
NO_MECHANISM = Reply(504, "5.5.4", "Mechanism not supported")
NEED_ENCRYPTION = Reply(538, "5.7.11", "Encryption required: STARTTLS first")
AUTH_OK = Reply(235, "2.7.0", "Authentication succeeded")
OVER_SENDING_LIMIT = Reply(552, "5.2.2", "Your mailbox is over its limit for sending: delete messages you do not need "
                           "and empty the trash, then send again")
NOT_YOURS = Reply(550, "5.7.60", "Not permitted to send as this sender")
TOO_FAST = Reply(421, "4.7.0", "Too much at once, try again later")
TOO_MANY_MESSAGES = Reply(450, "4.7.1", "Too many messages this minute, try again later")
TOO_MANY_THIS_HOUR = Reply(450, "4.7.1", "Too many recipients this hour, try again later")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors")
SHUTTING_DOWN = Reply(421, "4.3.2", "Shutting down")
NOT_TRUSTED = Reply(550, "5.7.0", "Not permitted")
NOT_VERIFIED = Reply(252, "2.1.5", "Send some mail, I will try to deliver it")
NOT_EXPANDED = Reply(502, "5.5.1", "Lists are not expanded")
NOT_SMTP = Reply(521, "5.7.0", "This is SMTP")
IDLE_TOO_LONG = Reply(421, "4.4.2", "Timeout")


SHORT = 24
"""Octets of a reply that is said again and again."""
MAX_SAID = 256
_SAID: dict[bytes, Reply] = {}


class ReplyParser:
    """Replies of a peer of ours, one after another. Does no I/O; ValueError: it does not speak SMTP."""

    __slots__ = ("_buffer", "_lines")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lines: list[str] = []

    def feed(self, data: bytes) -> None:
        """More octets."""
        self._buffer += data

    @property
    def waiting(self) -> bool:
        """Are there octets of a reply that was not asked for yet?"""
        return bool(self._buffer or self._lines)

    def next(self) -> Reply | None:
        """The next whole reply."""
        while True:
            end = self._buffer.find(b"\r\n")
            if end < 0:
                if len(self._buffer) > 4096:
                    raise ValueError("reply too long")
                return None
            raw = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            if not self._lines and (known := _SAID.get(raw)) is not None:
                return known
            line = raw.decode("ascii", "replace")
            if len(line) < 3 or not line[:3].isdigit() or len(self._lines) > 100:
                raise ValueError("not a reply")
            self._lines.append(line[4:])
            if line[3:4] != "-":
                break
        texts, self._lines = self._lines, []
        reply = _reply(int(line[:3]), texts)
        if len(texts) == 1 and len(raw) <= SHORT and len(_SAID) < MAX_SAID:
            _SAID[raw] = reply
        return reply


def _reply(code: int, texts: list[str]) -> Reply:
    first = texts[-1].split(" ", 1)[0]
    if first.count(".") != 2 or not first.replace(".", "").isdigit():
        return Reply(code, "", "\n".join(texts))
    return Reply(code, first, "\n".join([text.removeprefix(first).lstrip() for text in texts]))
