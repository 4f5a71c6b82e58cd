"""postfix(7): Debian's Postfix as some organization's sender: takes mail on a loopback port, relays it to the island.

In:    the packages of `make test-deps`; the island's port 25 and CA.
Out:   `Postfix`: a port to inject into, the queue's length, what its log says of each message.
Spec:  its own mount namespace: packages lie over /usr, /etc/passwd and /etc/group know its users, /mnt is its folder.
       TLS to the island is mandatory and verified. Deferred mail is tried again every few seconds.
Fails: `available()` says why it cannot run here: its master process changes users, which needs root.
"""

from __future__ import annotations

import os
import re
import signal
import smtplib
import socket
import subprocess
import time
from pathlib import Path

from tests.clients.mailsite import Site, dies_with_us

TREE = Path(__file__).resolve().parents[2] / ".cache" / "clients" / "root"
USERS = {"postfix": 5991, "postdrop": 5992}
SPOOL = (
    "active",
    "bounce",
    "corrupt",
    "defer",
    "deferred",
    "flush",
    "hold",
    "incoming",
    "private",
    "saved",
    "trace",
    "pid",
    "public",
    "maildrop",
)
SERVICES = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
SETTINGS = """
compatibility_level = 3.6
queue_directory = /mnt/spool
data_directory = /mnt/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
shlib_directory = /usr/lib/postfix
meta_directory = /mnt/etc
mail_owner = postfix
setgid_group = postdrop
default_privs = nobody
myhostname = sender.outside.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtp_host_lookup = native
alias_maps =
alias_database =
local_recipient_maps =
relayhost = [localhost]:{island}
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = localhost
smtp_tls_CAfile = /mnt/ca.pem
smtp_tls_loglevel = 1
maillog_file = /mnt/log
maillog_file_prefixes = /mnt
minimal_backoff_time = 1s
maximal_backoff_time = 3s
queue_run_delay = 1s
smtp_connect_timeout = 5s
smtp_destination_concurrency_failed_cohort_limit = 0
smtp_destination_concurrency_limit = 10
"""


def available() -> str:
    """Nothing when it can run here, else why not."""
    if os.geteuid():
        return "Postfix's master process needs root to change users"
    return "" if (TREE / "usr/sbin/postconf").exists() else "its packages are not unpacked: make test-deps"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Postfix:
    """`with Postfix(site, folder) as sender`. settings, services: lines that are added to its own."""

    def __init__(self, site: Site, folder: Path, *, settings: str = "", services: str = "",
                 port: int = 0) -> None:
        self.site, self.folder = site, folder
        self._settings, self._services = settings, services
        self.port = port or free_port()

    def __enter__(self) -> Postfix:
        self._lay_out()
        script = (
            'mount --make-rprivate / && mount --bind "$0" /mnt && cd /mnt && mount --bind passwd /etc/passwd && '
            'mount --bind group /etc/group && mkdir -p /mnt/over && mount --bind "$1" /mnt/over && '
            "mount -t overlay overlay -o lowerdir=/mnt/over:/usr /usr && cd / && "
            "exec /usr/lib/postfix/sbin/master -c /mnt/etc -d"
        )
        with (self.folder / "start.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", script, str(self.folder), str(TREE / "usr")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=dies_with_us,
            )
        deadline = time.monotonic() + 20
        while True:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            if time.monotonic() > deadline or self.process.poll() is not None:
                said = (self.folder / "start.log").read_text() + self.log()[-2000:]
                self.__exit__()
                raise AssertionError(f"Postfix did not start:\n{said}")
            time.sleep(0.05)

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def _lay_out(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # its users have to get in
        for name in ("etc", "data", "spool", *(f"spool/{queue}" for queue in SPOOL)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for queue in SPOOL:
            path = self.folder / "spool" / queue
            path.chmod({"pid": 0o755, "public": 0o710, "maildrop": 0o730}.get(queue, 0o700))
            group = USERS["postdrop"] if queue in ("public", "maildrop") else -1
            os.chown(path, 0 if queue == "pid" else USERS["postfix"], group)
        os.chown(self.folder / "data", USERS["postfix"], -1)
        for kind in ("passwd", "group"):
            lines = [line for line in Path("/etc", kind).read_text().splitlines() if line.split(":")[0] not in USERS]
            for user, number in USERS.items():
                lines.append(
                    f"{user}:x:{number}" + (f":{number}::/nonexistent:/bin/false" if kind == "passwd" else ":")
                )
            (self.folder / kind).write_text("\n".join(lines) + "\n")
        (self.folder / "ca.pem").write_bytes(self.site.ca.read_bytes())
        (self.folder / "etc/main.cf").write_text(
            SETTINGS.format(island=self.site.ports["smtp"]).lstrip() + self._settings)
        (self.folder / "etc/master.cf").write_text(
            SERVICES.format(port=self.port).lstrip() + self._services)

    def inject(self, messages: list[tuple[str, bytes]]) -> None:
        """Hand over (recipient, message): each is in its queue when this returns."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=60) as client:
            for recipient, data in messages:
                assert not client.sendmail("list@outside.example", [recipient], data)

    def queued(self) -> int:
        return sum(
            len(files)
            for queue in ("incoming", "active", "deferred")
            for _, _, files in os.walk(self.folder / "spool" / queue)
        )

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def history(self) -> dict[str, list[str]]:
        """Message-ID -> the status lines of its attempts, in order."""
        ids, found = {}, dict[str, list[str]]()
        for line in self.log().splitlines():
            if match := re.search(r"cleanup\[\d+\]: (\w+): message-id=(<[^>]*>)", line):
                ids[match.group(1)] = match.group(2)
                found.setdefault(match.group(2), [])
            elif match := re.search(r"(?:smtp|error|bounce)\[\d+\]: (\w+): to=.* status=(.*)$", line):
                found.setdefault(ids.get(match.group(1), "?"), []).append(match.group(2))
        return found
