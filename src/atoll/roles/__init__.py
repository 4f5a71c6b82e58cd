"""Wiring: one readable module per role, and the table of who is started with what. Nothing is joined anywhere else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Role:
    """One kind of process: `listeners` are the names of docs/seams.md 1 that it serves."""

    kind: str
    listeners: tuple[str, ...]
    clients: bool = False
    """Whether it accepts connections of people: it is let in last and stopped first."""


ROLES = (
    Role("directory", ("signin", "backend", "admin")),
    Role("content", ("content",)),
    Role("mailbox", ("imap", "pop", "lmtp", "mbox-imap", "op")),
    Role("transport", ("smtp-in", "submit", "mbox-submit", "op")),
    Role("frontend", ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s"), clients=True),
)
"""In the order of starting; stopping is the other way round."""

CLIENT_PORTS = {"smtp": 25, "submission": 587, "submissions": 465, "imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995}
HEALTH_PORT = 8080
