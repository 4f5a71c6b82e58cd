"""mailsite(7): an island as a client's test sees it: ports, a CA, accounts, and a second pair of eyes on its mailboxes.

In:    tests/island.py, which starts the island.
Out:   `Site`: accounts made on demand, what the server holds (read back by another client than the one under test).
Not:   a mock: every byte goes over TLS through every role.
"""

from __future__ import annotations

import contextlib
import ctypes
import imaplib
import itertools
import os
import re
import signal
import smtplib
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.island import Island

HOST = "localhost"
ROOT = Path(__file__).resolve().parents[2]
NUMBER = itertools.count(1)


@dataclass(frozen=True)
class Account:
    address: str
    password: str


@dataclass(frozen=True)
class Seen:
    """One message as the server holds it."""

    uid: int
    flags: frozenset[str]
    data: bytes

    @property
    def subject(self) -> str:
        return self.header("Subject")

    def header(self, name: str) -> str:
        """The first such header, or nothing."""
        found = re.search(rb"(?im)^%s: (.*?)\r$" % name.encode(), self.data.partition(b"\r\n\r\n")[0] + b"\r\n")
        return found.group(1).decode() if found else ""


@dataclass
class Site:
    """A running island."""

    island: Island
    ports: dict[str, int] = field(default_factory=dict)
    domain: str = ""
    ca: Path = Path()

    @classmethod
    def of(cls, island: Island) -> Site:
        demo = island.demo
        return cls(island, dict(demo["ports"]), demo["domain"], Path(demo["ca"]))

    @property
    def data(self) -> Path:
        return Path(self.island.data)

    # ---- accounts

    def account(self, stem: str = "user") -> Account:
        """A new mailbox with a password of its own."""
        made = Account(f"{stem}{next(NUMBER)}@{self.domain}", f"pass+word_{stem}-{next(NUMBER)}")
        self.atoll("mailbox", "create", made.address, "--password-stdin", stdin=made.password)
        return made

    def atoll(self, *words: str, stdin: str = "") -> str:
        """The `atoll` command on this island; raises with its words when it refuses."""
        command = [str(Path(sys.executable).parent / "atoll"), *words]
        env = {**os.environ, "ATOLL_DATA": str(self.data)}
        got = subprocess.run(command, input=stdin, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert got.returncode == 0, f"{command}: exit {got.returncode}\n{got.stdout}\n{got.stderr}"
        return got.stdout

    # ---- the other client: Python's own

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    @contextlib.contextmanager
    def imap(self, who: Account, folder: str = "") -> Iterator[imaplib.IMAP4_SSL]:
        client = imaplib.IMAP4_SSL(HOST, self.ports["imaps"], ssl_context=self.tls(), timeout=30)
        try:
            client.login(who.address, who.password)
            if folder:
                status, answer = client.select(f'"{folder}"')
                assert status == "OK", answer
            yield client
        finally:
            with contextlib.suppress(OSError, imaplib.IMAP4.error):
                client.logout()

    def held(self, who: Account, folder: str = "INBOX") -> list[Seen]:
        """Every message of a folder, as the server gives it now."""
        with self.imap(who, folder) as client:
            status, answer = client.uid("FETCH", "1:*", "(UID FLAGS BODY.PEEK[])")
            assert status == "OK", answer
            found = []
            for part in answer:
                if isinstance(part, tuple):
                    head = part[0].decode()
                    tail = answer[answer.index(part) + 1]
                    text = head + (tail.decode() if isinstance(tail, bytes) else "")
                    uid, flags = re.search(r"UID (\d+)", text), re.search(r"FLAGS \(([^)]*)\)", text)
                    assert uid, text
                    assert flags, text
                    found.append(Seen(int(uid.group(1)), frozenset(flags.group(1).split()) - {r"\Recent"}, part[1]))
            return found

    def subjects(self, who: Account, folder: str = "INBOX") -> list[str]:
        return sorted(message.subject for message in self.held(who, folder))

    def folders(self, who: Account) -> set[str]:
        with self.imap(who) as client:
            status, answer = client.list()
            assert status == "OK", answer
            names = set()
            for line in answer:
                assert isinstance(line, bytes)
                found = re.match(rb'\(.*?\) (?:"."|NIL) (.*)$', line)
                assert found, line
                names.add(found.group(1).decode().strip('"'))
            return names

    def put(self, who: Account, subject: str, folder: str = "INBOX", flags: str = "", body: str = "text\n") -> None:
        """APPEND a message, as another client of the same person would."""
        with self.imap(who) as client:
            data = bytes(letter(subject, to=who.address, body=body)).replace(b"\n", b"\r\n")
            status, answer = client.append(f'"{folder}"', flags, imaplib.Time2Internaldate(time.time()), data)
            assert status == "OK", answer

    def send(self, to: Account, subject: str, body: str = "text\n", sender: str = "somebody@outside.example") -> None:
        """A message by SMTP from outside."""
        with smtplib.SMTP(HOST, self.ports["smtp"], timeout=30) as client:
            client.starttls(context=self.tls())
            client.send_message(letter(subject, to=to.address, body=body, sender=sender))

    def wait(self, question: Callable[[], Any], seconds: float = 15) -> Any:
        """Ask until the answer is true; returns it."""
        deadline = time.monotonic() + seconds
        while not (answer := question()):
            assert time.monotonic() < deadline, f"not within {seconds} s: {question}"
            time.sleep(0.1)
        return answer


def letter(subject: str, to: str, body: str = "text\n", sender: str = "somebody@outside.example") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, to, subject
    message["Message-ID"] = f"<{next(NUMBER)}.{time.time_ns()}@outside.example>"
    message["Date"] = "Mon, 03 Aug 2026 10:00:00 +0000"
    message.set_content(body)
    return message


def run(
    command: list[str],
    home: Path,
    *,
    stdin: str | None = None,
    timeout: float = 60,
    ok: tuple[int, ...] = (0,),
    **env: str,
) -> subprocess.CompletedProcess[str]:
    """Run a client with a home of its own; fails with all it said."""
    home.mkdir(parents=True, exist_ok=True)
    full = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm",
        "USER": "somebody",
        **env,
    }
    got = subprocess.run(
        command,
        input=stdin,
        env=full,
        cwd=home,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        **({"stdin": subprocess.DEVNULL} if stdin is None else {}),
    )
    assert got.returncode in ok, f"{command}: exit {got.returncode}\n{got.stdout[-4000:]}\n{got.stderr[-4000:]}"
    return got


def dies_with_us() -> None:
    """For preexec_fn: a client that outlives the test run is told to end (PR_SET_PDEATHSIG), however the run ended."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def secret(path: Path, text: str) -> Path:
    """A configuration file that holds a password: clients insist on its mode."""
    path.write_text(text)
    path.chmod(0o600)
    return path
