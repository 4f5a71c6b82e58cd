"""A Dovecot of one user on a socket pair: no port, no daemon, no root; it ends with its connection."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from atoll.admin.transfer.imap_client import Client

ROOT = Path(__file__).resolve().parents[2] / ".cache" / "clients" / "root"
UID = 5990
"""As root it gives itself this uid: Dovecot serves no mail to root."""


class Dovecot:
    """A mailbox served by the Debian package's imap process."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dovecot-", dir="/tmp"))
        self.folder.chmod(0o755)
        (self.folder / "mail").mkdir()
        self._uid, self._gid = (UID, UID) if os.geteuid() == 0 else (os.getuid(), os.getgid())
        self.folder.joinpath("dovecot.conf").write_text(
            f"protocols =\nmail_location = maildir:{self.folder}/mail\nbase_dir = {self.folder}/run\n"
            f"state_dir = {self.folder}/run\nlibexec_dir = {ROOT}/usr/lib/dovecot\n"
            f"mail_plugin_dir = {ROOT}/usr/lib/dovecot/modules\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n"
            f"mail_uid = {self._uid}\nmail_gid = {self._gid}\nmail_fsync = never\nlog_path = {self.folder}/log\n"
            "namespace inbox {\n  inbox = yes\n  prefix = INBOX.\n  separator = .\n"
            "  mailbox Gesendet {\n    special_use = \\Sent\n    auto = create\n  }\n}\n"
        )
        if os.geteuid() == 0:
            for path in (self.folder, self.folder / "mail"):
                os.chown(path, UID, UID)
        self._processes: list[subprocess.Popen[bytes]] = []

    def client(self) -> Client:
        """A connection of its own, signed in."""
        return Client.over(self.connection("imap"))

    def connection(self, service: str) -> socket.socket:
        """To a process of its own of the service (imap, pop3), signed in."""
        ours, theirs = socket.socketpair()
        libraries = [ROOT / "usr/lib/x86_64-linux-gnu", ROOT / "usr/lib", ROOT / "usr/lib/dovecot"]
        who = {"user": UID, "group": UID, "extra_groups": []} if os.geteuid() == 0 else {}
        command = [f"{ROOT}/usr/bin/doveconf", "-c", f"{self.folder}/dovecot.conf", "-f", f"service={service}",
                   "-m", service, "-e", f"{ROOT}/usr/lib/dovecot/{service}"]  # fmt: skip
        environment = {"LD_LIBRARY_PATH": ":".join(map(str, libraries)), "USER": "alice", "HOME": str(self.folder)}
        with theirs:
            self._processes.append(
                subprocess.Popen(command, stdin=theirs, stdout=theirs, env=environment, cwd="/", **who)
            )
        return ours

    def close(self) -> None:
        """End it and remove its folder."""
        for process in self._processes:
            process.terminate()
            process.wait(10)
        shutil.rmtree(self.folder)
