"""People with open sessions, as the tests of faults need them: IMAP and SMTP over TLS with the standard library."""

from __future__ import annotations

import contextlib
import imaplib
import os
import smtplib
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage

from tests.island import Island


def shared(seconds: float) -> float:
    """What is promised for a machine that does nothing else, on this one: others may be at work on its processors."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def imap(island: Island, who: str) -> imaplib.IMAP4_SSL:
    """Signed in, INBOX selected."""
    client = imaplib.IMAP4_SSL("localhost", island.ports["imaps"], ssl_context=island.tls(), timeout=20)
    client.login(f"{who}@{island.domain}", island.password(who))
    client.select()
    return client


def imap_again(island: Island, who: str, seconds: float = 10) -> tuple[imaplib.IMAP4_SSL, float]:
    """Sign in, again and again until it works; the seconds that took."""
    begin = time.monotonic()
    while True:
        try:
            return imap(island, who), time.monotonic() - begin
        except (imaplib.IMAP4.error, OSError):
            if time.monotonic() - begin > seconds:
                raise
            time.sleep(0.05)


def works(client: imaplib.IMAP4_SSL) -> bool:
    """Does the session answer?"""
    try:
        return client.noop()[0] == "OK"
    except (imaplib.IMAP4.error, OSError):
        return False


def message(subject: str, to: str = "alice@example.test") -> EmailMessage:
    """A small one."""
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "someone@elsewhere.example", to, subject
    made.set_content("A line.\n")
    return made


def subjects(client: imaplib.IMAP4_SSL, folder: str = "INBOX") -> list[str]:
    """Of every message of a folder, which is selected."""
    client.select(folder)
    _, rows = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    return [row[1].decode().split(":", 1)[1].strip() for row in rows if isinstance(row, tuple)]


class Sender:
    """Sends one message after another on port 25 and remembers which ones were acknowledged."""

    def __init__(self, island: Island, to: str, name: str) -> None:
        self.acknowledged: list[str] = []
        self.attempts: dict[str, int] = {}
        self._island, self._to, self._name = island, to, name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            subject = f"{self._name}-{number}"
            self.attempts[subject] = self.attempts.get(subject, 0) + 1
            try:
                with smtplib.SMTP("localhost", self._island.ports["smtp"], timeout=20) as client:
                    while not self._stop.is_set():
                        client.send_message(message(subject), "someone@elsewhere.example",
                                            [f"{self._to}@{self._island.domain}"])
                        self.acknowledged.append(subject)
                        number += 1
                        subject = f"{self._name}-{number}"
                        self.attempts[subject] = 1
            except (smtplib.SMTPException, OSError):
                time.sleep(0.05)

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(30)
