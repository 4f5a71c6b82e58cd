"""protocols.imap.limits -- every number of IMAP, its source and its place.

In     nothing. Out  Limits, frozen. Not  the rates of whole networks (runtime.admission).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may send. Bytes, counts and seconds."""

    line: int = 64 * 1024            # a command line without its literals; mbsync sends long UID sets
    literal: int = 256 * 1024        # a literal of any command but APPEND
    command: int = 1024 * 1024       # all of a command but APPEND, literals included
    append: int = 50 * 1024 * 1024   # one message [RFC 7889 §4]: announced as APPENDLIMIT
    append_command: int = 256 * 1024 * 1024  # all messages of one MULTIAPPEND
    in_flight: int = 512 * 1024 * 1024       # large commands of all sessions of a process together
    large: int = 1024 * 1024         # what counts as large
    append_messages: int = 1000      # messages of one MULTIAPPEND
    across_messages: int = 10_000    # messages of one COPY from one person's mailbox to another's
    drain: int = 1024 * 1024         # how much of a refused non-synchronizing literal is read away
    depth: int = 100                 # parentheses and search keys
    fetch_items: int = 200           # data items of one FETCH
    part_depth: int = 50             # BODY[1.1.1...]
    idle_seconds: float = 1800       # [RFC 9051 §5.4]: at least 30 minutes
    bad_commands: int = 50           # BAD answers in a row, then BYE
    read_ahead: int = 256 * 1024     # pipelined bytes kept while a command runs
    show_recoverable: bool = False   # LIST shows the folders of recoverable items to their owner

    def literal_limit(self, head: bytes) -> tuple[int, int]:
        """How large the next literal and the whole command may be: only APPEND carries messages."""
        words = head[:80].split(b" ", 2)
        if len(words) > 1 and words[1].upper() == b"APPEND":
            return self.append, self.append_command
        return self.literal, self.command


DEFAULT = Limits()
PRE_AUTH_LINE = 8 * 1024
"""Bytes of a line, and of a literal, before sign-in (PROCESSES 6); LITERAL- promises 4096 [RFC 7888 §5]."""
PRE_AUTH_DEPTH = 50
HANDSHAKE_SECONDS = 30.0
SIGN_IN_SECONDS = 60.0
PRE_AUTH_BAD_COMMANDS = 10
PASSWORD_BYTES = 1024
