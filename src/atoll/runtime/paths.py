"""Where an island's sockets and files are: nobody else spells a path.

Spec   docs/seams.md 1.
"""

from __future__ import annotations

from pathlib import Path


class RunPaths:
    """The Unix sockets under DATA/run."""

    def __init__(self, data: Path) -> None:
        self.run = data / "run"
        self.signin = self.run / "front-dir" / "signin.sock"
        self.backend = self.run / "back-dir" / "backend.sock"
        self.admin = self.run / "admin.sock"
        self.smtp_in = self.run / "front-trans" / "smtp.sock"
        self.submit = self.run / "front-trans" / "submit.sock"
        self.content = self.run / "mbox-content" / "content.sock"

    def lmtp(self, number: int | str) -> Path:
        """Delivery into a mailbox process: by its number, or by its role name."""
        return self.run / "trans-mbox" / f"lmtp-{_number(number)}.sock"

    def imap(self, number: int | str) -> Path:
        """IMAP of a mailbox process."""
        return self.run / "front-mbox" / f"imap-{_number(number)}.sock"

    def pop(self, number: int | str) -> Path:
        """POP3 of a mailbox process."""
        return self.run / "front-mbox" / f"pop-{_number(number)}.sock"

    def mbox_imap(self, number: int | str) -> Path:
        """IMAP between mailbox processes."""
        return self.run / "mbox-mbox" / f"imap-{_number(number)}.sock"

    def op(self, role: str) -> Path:
        """Administration calls that the directory relays to a role."""
        return self.run / "dir-op" / f"{role}.sock"


def _number(value: int | str) -> int:
    return value if isinstance(value, int) else int(value.rpartition("-")[2])


class DataPaths:
    """The files of an island."""

    def __init__(self, data: Path) -> None:
        self.config = data / "atoll.toml"
        self.demo = data / "demo.json"
        self.tls = data / "tls"
        self.directory = data / "dir"
        self.queue = data / "queue"
        self._mbox = data / "mbox"

    def mailbox(self, role: str) -> Path:
        """The folder of a mailbox process's databases: "mailbox-1" has mbox/1."""
        return self._mbox / role.rpartition("-")[2]
