"""Wiring: one readable module per role, and the table of who is started with what. Nothing is joined anywhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atoll.base.config import Config


@dataclass(frozen=True, slots=True)
class Role:
    """One kind of process: `listeners` are the names of docs/seams.md 1 that it serves; `folder` is what it writes."""

    kind: str
    listeners: tuple[str, ...]
    folder: str = ""
    clients: bool = False
    """Whether it accepts connections of people: it is let in last and stopped first."""
    numbered: bool = False
    hands_over: bool = False
    """Whether it leaves something to its next process when it is restarted (runtime.handover)."""

    @property
    def module(self) -> str:
        """What its process runs."""
        return f"atoll.roles.{self.kind}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of a role: "mailbox-2" is the mailbox role's number 2; a role that runs once has number 0."""

    role: Role
    number: int = 0

    @property
    def name(self) -> str:
        return f"{self.role.kind}-{self.number}" if self.number else self.role.kind

    def folder(self, data: Path) -> Path | None:
        """The one directory it writes."""
        if not self.role.folder:
            return None
        return data / self.role.folder / str(self.number) if self.number else data / self.role.folder

    def environment(self, data: Path) -> dict[str, str]:
        """What its allocator and its temporary files need."""
        folder = self.folder(data)
        # glibc keeps freed 19 MiB blocks of Argon2 in its arenas unless they are mapped (PROCESSES 5). One thread of
        # Python per process: more arenas are only holes.
        made = {"MALLOC_ARENA_MAX": "2"}
        if self.role.kind == "directory":
            made["MALLOC_MMAP_THRESHOLD_"] = "1048576"
        if folder is not None:
            made |= {"TMPDIR": str(folder), "SQLITE_TMPDIR": str(folder)}
        return made


ROLES = (
    Role("directory", ("signin", "backend", "admin"), folder="dir", hands_over=True),
    Role("content", ("content",)),
    Role("mailbox", ("imap", "pop", "lmtp", "mbox-imap", "op"), folder="mbox", numbered=True),
    Role("transport", ("smtp-in", "submit", "op"), folder="queue"),
    Role("frontend", ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s"), clients=True,
         numbered=True),
)
"""In the order of starting."""

STOP_ORDER = ("frontend", "transport", "mailbox", "content", "directory")
"""Who needs others stops before them [PROCESSES 11]."""

CLIENT_PORTS = {"smtp": 25, "submission": 587, "submissions": 465, "imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995}
HEALTH_PORT = 8080


def instances(config: Config) -> list[Instance]:
    """The processes of an island with this configuration."""
    counts = {"mailbox": config.processes.mailboxes, "frontend": config.processes.frontends}
    made = []
    for role in ROLES:
        made += [Instance(role, number) for number in range(1, counts[role.kind] + 1)] if role.numbered \
            else [Instance(role)]
    return made
