"""peer(7): Debian's Postfix and Dovecot, unpacked under `.bench/peer/`, never installed on the host.

In:    the packages that `tests/clients/deps.py` fetches; the configurations in bench/peer/.
Out:   a running Server on 127.0.0.1 (`Peer.ports`); any user@peer.test, password "pw".
Spec:  durable defaults of both. They run in a mount namespace of their own, where /mnt is the bench's folder and
       their packages lie over /usr, and /etc/passwd and /etc/group know their users: no file of the host changes.
Fails: raises RuntimeError with the end of the server's log when a port does not open.
Not:   a Postfix without root: its master process needs it.
"""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from bench.meter import Group
from bench.server import Server

HERE = Path(__file__).resolve().parent
BASE = HERE.parent / ".bench" / "peer"
DEPS = HERE.parent / "tests" / "clients" / "deps.py"
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
USERS = {"postfix": 5991, "postdrop": 5992, "dovecot": 5993, "dovenull": 5994, "vmail": 5990}


class Peer(Server):
    """Postfix in front, Dovecot behind, one accounting group around both."""

    name = "peer"
    domain = "peer.test"
    ports = {"smtp": 20025, "imap": 20143, "imaps": 20993, "pop3": 20110, "pop3s": 20995, "lmtp": 20024}  # noqa: RUF012

    def __init__(self) -> None:
        if os.geteuid():
            raise RuntimeError("the peers need root: Postfix and Dovecot change to users of their own")
        self.group = Group("peer")
        self.inotify = ""

    def start(self) -> None:
        done = subprocess.run(
            [sys.executable, str(DEPS), "--dest", str(BASE), "postfix", "dovecot"],
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise RuntimeError("Postfix and Dovecot could not be fetched")
        self._lay_out()
        # Debian's limit of 128 lets Dovecot watch 128 idle sessions, and poll the others every 30 s
        self.inotify = INOTIFY.read_text()
        INOTIFY.write_text("8192")
        self.spawn("/usr/sbin/dovecot", "-F", "-c", "/mnt/dovecot/dovecot.conf")
        self.spawn("/usr/lib/postfix/sbin/master", "-c", "/mnt/postfix/etc", "-d")
        for port in self.ports.values():
            self._wait(port)

    def stop(self) -> None:
        try:
            self.group.end()
        finally:
            if self.inotify:
                INOTIFY.write_text(self.inotify)

    def login(self, i: int | str) -> tuple[str, str]:
        return (f"u{i}@peer.test" if isinstance(i, int) else f"{i}@peer.test"), "pw"

    def folder_files(self, login: str, folder: str) -> Path:
        return BASE / "mail" / login / "Maildir" / ("" if folder == "INBOX" else f".{folder}")

    def all_files(self) -> Path:
        return BASE / "mail"

    def forget_cache(self, login: str, folder: str) -> None:
        (self.folder_files(login, folder) / "dovecot.index.cache").unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove all mail of earlier runs."""
        shutil.rmtree(BASE / "mail", ignore_errors=True)

    def spawn(self, *command: str) -> None:
        with (BASE / "log" / "start.log").open("ab") as log:
            self.group.spawn(self._inside(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env())

    def _env(self) -> dict[str, str]:
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C", "MAIL_CONFIG": "/mnt/postfix/etc"}

    def _inside(self, *command: str) -> list[str]:
        # its packages lie over /usr as if they were installed: Dovecot looks for its own files by absolute name
        script = (
            'mount --make-rprivate / && mount --bind "$0" /mnt && cd /mnt && '
            "mount --bind etc/passwd /etc/passwd && mount --bind etc/group /etc/group && "
            'mount -t overlay overlay -o lowerdir=/mnt/root/usr:/usr /usr && cd / && exec "$@"'
        )
        return ["unshare", "-m", "sh", "-c", script, str(BASE), *command]

    def _lay_out(self) -> None:
        for name in (
            "log",
            "mail",
            "etc",
            "tls",
            "postfix/etc",
            "postfix/spool",
            "postfix/data",
            "dovecot/run",
            "dovecot/state",
        ):
            (BASE / name).mkdir(parents=True, exist_ok=True)
        for folder, mode in (
            ("active", 0o700),
            ("bounce", 0o700),
            ("corrupt", 0o700),
            ("defer", 0o700),
            ("deferred", 0o700),
            ("flush", 0o700),
            ("hold", 0o700),
            ("incoming", 0o700),
            ("private", 0o700),
            ("saved", 0o700),
            ("trace", 0o700),
            ("pid", 0o755),
            ("public", 0o710),
            ("maildrop", 0o730),
        ):
            path = BASE / "postfix/spool" / folder
            path.mkdir(exist_ok=True)
            path.chmod(mode)
            group = USERS["postdrop"] if folder in ("public", "maildrop") else -1
            os.chown(path, 0 if folder == "pid" else USERS["postfix"], group)
        os.chown(BASE / "postfix/data", USERS["postfix"], -1)
        os.chown(BASE / "mail", USERS["vmail"], USERS["vmail"])
        for kind in ("passwd", "group"):
            lines = [line for line in Path("/etc", kind).read_text().splitlines() if line.split(":")[0] not in USERS]
            for user, number in USERS.items():
                more = f":{number}::/nonexistent:/usr/sbin/nologin" if kind == "passwd" else ":"
                lines.append(f"{user}:x:{number}{more}")
            (BASE / "etc" / kind).write_text("\n".join(lines) + "\n")
        for name in ("main.cf", "master.cf", "vmaps"):
            shutil.copy(HERE / "peer/postfix" / name, BASE / "postfix/etc" / name)
        shutil.copy(HERE / "peer/dovecot/dovecot.conf", BASE / "dovecot/dovecot.conf")
        certificate(BASE / "tls", "localhost")

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        logs = "".join(
            (BASE / "log" / n).read_text()[-1500:]
            for n in ("start.log", "dovecot.log", "postfix.log")
            if (BASE / "log" / n).exists()
        )
        raise RuntimeError(f"port {port} did not open:\n{logs}")


def certificate(folder: Path, host: str) -> None:
    """A self-signed P-256 certificate for 90 days, as files cert.pem and key.pem."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if (folder / "cert.pem").exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "key.pem").chmod(0o600)
