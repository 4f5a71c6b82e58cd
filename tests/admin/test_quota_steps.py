"""The three steps of a quota as people meet them: real submission, IMAP and the command, on a whole island."""

from __future__ import annotations

import contextlib
import imaplib
import json
import os
import smtplib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage

import pytest

from tests.island import ROOT, Island
from tests.roles.people import imap, message, subjects

ALICE = "alice@example.test"


@pytest.fixture(scope="module")
def island() -> Iterator[Island]:
    with Island() as island:
        yield island


def _run(island: Island, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", "from atoll.admin.cli import main; main()", "--data",
               str(island.data), *args]
    return subprocess.run(command, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL,
                          env={**os.environ, "PYTHONPATH": str(ROOT / "src")})


def atoll(island: Island, *args: str) -> str:
    """One command line; its output."""
    done = _run(island, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails(island: Island, *args: str) -> tuple[int, str]:
    """The exit code, and what is said on standard error."""
    done = _run(island, *args)
    return done.returncode, done.stderr


def soon(check: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextlib.contextmanager
def submission(island: Island) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("localhost", island.ports["submission"], timeout=20) as client:
        client.starttls(context=island.tls())
        client.login(ALICE, island.password(ALICE))
        yield client


def mail_from(client: smtplib.SMTP) -> tuple[int, bytes]:
    answer = client.mail(ALICE)
    client.rset()
    return answer


def fill(island: Island, octets: int) -> None:
    big = EmailMessage()
    big["From"], big["To"], big["Subject"] = "x@elsewhere.example", ALICE, "big"
    big.set_content("x" * 70 + "\n" * 1)
    big.add_attachment(os.urandom(octets * 3 // 4), "application", "octet-stream")
    with smtplib.SMTP("localhost", island.ports["smtp"], timeout=20) as client:
        client.send_message(big, "x@elsewhere.example", [ALICE])


def test_sending_stops_and_goes_on(island: Island) -> None:
    atoll(island, "quota", "set", ALICE, "--warn", "100K", "--send", "200K", "--receive", "400K")
    with submission(island) as client:
        assert mail_from(client)[0] == 250
        fill(island, 250_000)
        soon(lambda: mail_from(client)[0] == 552)  # the session that was open before as well
        _, text = mail_from(client)
        assert text.startswith(b"5.2.2 Your mailbox is over its limit for sending")
    box = imap(island, "alice")
    assert "Your mailbox is full: you can no longer send" in subjects(box)
    _, (_, line) = box.getquotaroot("INBOX")
    assert b"STORAGE" in line[0]
    notes = box.untagged_responses.get("NO", [])
    assert any(b"[OVERQUOTA]" in note for note in notes), notes
    assert "may not send" in atoll(island, "quota", "show", ALICE)
    rows = json.loads(atoll(island, "quota", "list", "--json"))["mailboxes"]
    assert [(row["address"], row["reached"]) for row in rows] == [(ALICE, "no-sending")]
    # Still receiving, and others send.
    with smtplib.SMTP("localhost", island.ports["smtp"], timeout=20) as client:
        assert client.send_message(message("still here"), "x@elsewhere.example", [ALICE]) == {}
    # The step survives the deaths of those who know of it.
    for role in ("directory", "mailbox-1", "transport"):
        island.wait_back(role, island.kill(role))

    def refused() -> bool:
        try:
            with submission(island) as client:
                return mail_from(client)[0] == 552
        except (smtplib.SMTPException, OSError):
            return False

    soon(refused, 20)
    box = imap(island, "alice")
    box.store("1:*", "+FLAGS", r"(\Deleted)")
    box.expunge()
    with submission(island) as client:
        soon(lambda: mail_from(client)[0] == 250)
    assert "within its limits" in atoll(island, "quota", "show", ALICE)
    assert json.loads(atoll(island, "quota", "list", "--json"))["mailboxes"] == []


def test_receiving_stops_last(island: Island) -> None:
    atoll(island, "quota", "set", "bob@example.test", "--receive", "10K")
    big = message("too big", "bob@example.test")
    big.set_content("x" * 60 + "\n" + ("y" * 70 + "\n") * 300)
    with smtplib.SMTP("localhost", island.ports["smtp"], timeout=20) as client:
        with pytest.raises(smtplib.SMTPDataError) as caught:
            client.send_message(big, "x@elsewhere.example", ["bob@example.test"])
        assert caught.value.smtp_code == 552
        assert caught.value.smtp_error.startswith(b"5.2.2")
    box: imaplib.IMAP4_SSL = imap(island, "bob")
    assert box.append("INBOX", None, None, big.as_bytes().replace(b"\n", b"\r\n"))[0] == "NO"
