"""A whole island on a file system that becomes full, or that the system makes read-only: real ones, so root is needed.

Spec   R04: 452 4.3.1, APPEND is refused with UNAVAILABLE, reading and signing in go on, nothing acknowledged is lost,
       and it heals by itself when there is space. tests/faults/test_disk.py is the same without root, part by part.
"""

from __future__ import annotations

import contextlib
import imaplib
import json
import os
import poplib
import smtplib
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from atoll.base.audit import verify
from atoll.transport import pressure
from tests.island import Island
from tests.roles.people import imap, imap_again, message, subjects

pytestmark = [pytest.mark.island, pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")]
HEAL_SECONDS = 20.0
LARGE = 400_000
"""Octets: more than what the logs of the databases have free."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one: Unix sockets allow 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="atoll-disk-", dir="/tmp"))
    yield made
    made.rmdir()


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """It has a file system of its own."""
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield
    finally:
        deadline = time.monotonic() + 10
        while subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, "somebody still uses it"
            time.sleep(0.1)


class Person:
    """Sends to alice by SMTP, appends by IMAP, and remembers what was acknowledged."""

    def __init__(self, island: Island) -> None:
        self.island = island
        self.acknowledged: set[str] = set()
        self.refused: list[str] = []
        self._smtp: smtplib.SMTP | None = None
        self.client = imap(island, "alice")

    def send(self, name: str, size: int = 2000) -> bool:
        smtp = self._smtp or smtplib.SMTP("localhost", self.island.ports["smtp"], timeout=40)
        self._smtp = smtp
        try:
            smtp.send_message(_large(name, size), "x@out.example", [f"alice@{self.island.domain}"])
        except smtplib.SMTPResponseException as error:
            said = error.smtp_error if isinstance(error.smtp_error, str) else error.smtp_error.decode()
            self.refused.append(f"{error.smtp_code} {said}")
            return False
        self.acknowledged.add(name)
        return True

    def append(self, name: str, size: int = 2000) -> str:
        status, (text, *_) = self.client.append("INBOX", "", "", bytes(_large(name, size)))
        if status == "OK":
            self.acknowledged.add(name)
        return f"{status} {text.decode()}"

    def reads(self, expected: set[str]) -> None:
        """Everything that was there before, by the old session, by a new one, by POP3; whole."""
        assert expected <= set(subjects(self.client))
        status, rows = self.client.fetch("1:*", "(FLAGS BODY.PEEK[])")
        assert status == "OK"
        assert sum(isinstance(row, tuple) and len(row[1]) > 2000 for row in rows) >= len(expected)
        fresh = imap(self.island, "alice")
        assert expected <= set(subjects(fresh))
        fresh.logout()
        pop = poplib.POP3_SSL("localhost", self.island.ports["pop3s"], context=self.island.tls(), timeout=20)
        pop.user(f"alice@{self.island.domain}")
        pop.pass_(self.island.password("alice"))
        assert pop.stat()[0] >= len(expected)
        assert pop.retr(1)[0].startswith(b"+OK")
        pop.quit()


def _large(name: str, size: int) -> EmailMessage:
    made = message(name)
    made.set_content("x" * 70 + "\n" + ("y" * 70 + "\n") * (size // 71))
    return made


def _fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", 0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 4096, 512):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filler


def _flags(client: imaplib.IMAP4_SSL) -> str:
    client.noop()
    status, (text, *_) = client.store("1", "+FLAGS", "(\\Flagged)")
    return f"{status} {text.decode()}"


def _refusals(person: Person, tag: str, large: int) -> None:
    """Whatever writes is refused, in words that say that it may be tried again."""
    for number in range(4):
        assert not person.send(f"{tag}-smtp-{number}", large)
        assert person.append(f"{tag}-append-{number}", large).startswith("NO [UNAVAILABLE]")
    assert set(person.refused) == {"452 4.3.1 No space left, try again later"}


def test_a_full_disk(folder: Path) -> None:
    with mounted(folder, "-t", "tmpfs", "-o", f"size={pressure.RESERVE * 2 + (32 << 20)}", "none"), \
            Island(folder) as island:
        person = Person(island)
        before = {f"before-{number}" for number in range(6)}
        assert all(person.send(name) for name in sorted(before))
        pids = island.pids()
        filler = _fill(folder)
        _refusals(person, "full", LARGE)
        person.reads(before)
        time.sleep(2 * pressure.LOOK_SECONDS)
        _refusals(person, "later", 2000)
        person.reads(before)
        filler.unlink()
        deadline = time.monotonic() + HEAL_SECONDS
        while not person.send("after"):
            assert time.monotonic() < deadline, "it does not heal"
            time.sleep(0.2)
        assert person.append("after-append", LARGE).startswith("OK")
        assert _flags(person.client).startswith("OK")
        assert island.pids() == pids
        _all_there(island, person)
        island.restart()
        _all_there(island, person)
        assert verify(folder / "dir" / "audit.log").broken is None
        island.stop()


def _health(island: Island, role: str) -> dict[str, tuple[str, str]]:
    """name -> (state, detail) of a role."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{island.ports['health']}/healthz", timeout=5).close()
    except urllib.error.HTTPError as error:
        rows = json.loads(error.read())["rows"]
        return {row["name"]: (row["state"], row["detail"]) for row in rows if row["role"] == role}
    return {}


def _shows(island: Island, role: str, name: str, state: str, detail: str) -> None:
    deadline = time.monotonic() + 15
    while True:
        shown = _health(island, role).get(name, ("", ""))
        if shown[0] == state and detail in shown[1]:
            return
        assert time.monotonic() < deadline, shown
        time.sleep(0.2)


def _deaths(island: Island) -> int:
    return island.log().count('"role died"')


STARTING = [("transport", "queue", "waits for room: No space left"), ("directory", "database", "people sign in"),
            ("mailbox-1", "database db1", "(No space left on device)")]


def test_roles_that_have_to_start_on_a_full_disk(folder: Path) -> None:
    """Each waits for room, alive, and says so; people sign in and read what a process has open; it heals by itself."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={pressure.RESERVE * 2 + (32 << 20)}", "none"), \
            Island(folder) as island:
        person = Person(island)
        before = {f"before-{number}" for number in range(6)}
        assert all(person.send(name) for name in sorted(before))
        filler = _fill(folder)
        for role, name, detail in STARTING:
            island.kill(role)
            _shows(island, role, name, "fail", detail)
            if role != "mailbox-1":
                person.reads(before)  # also by a new session: the directory lets it in
        deaths = _deaths(island)
        assert deaths == len(STARTING)
        person._smtp = None
        with pytest.raises((smtplib.SMTPRecipientsRefused, smtplib.SMTPServerDisconnected, AssertionError)):
            assert person.send("while")
        time.sleep(3)
        assert _deaths(island) == deaths, "a crash loop"
        pids = island.pids()
        filler.unlink()
        _heals(island, person)
        assert island.pids() == pids
        assert _deaths(island) == deaths
        _all_there(island, person)
        assert verify(folder / "dir" / "audit.log").broken is None
        island.stop()


def test_an_island_that_has_to_start_on_a_full_disk(folder: Path) -> None:
    with mounted(folder, "-t", "tmpfs", "-o", f"size={pressure.RESERVE * 2 + (32 << 20)}", "none"), \
            tempfile.TemporaryDirectory(prefix="atoll-log-", dir="/tmp") as logs, Island(folder) as island:
        person = Person(island)
        assert all(person.send(f"before-{number}") for number in range(6))
        island.crash()
        filler = _fill(folder)
        island.log_path = Path(logs) / "island.log"
        island.start()  # it is ready, so that what can be served is
        for role, name, detail in STARTING:
            _shows(island, role, name, "fail", detail)
        assert _deaths(island) == 0
        filler.unlink()
        _heals(island, person)
        assert _deaths(island) == 0
        _all_there(island, person)
        island.stop()


def _heals(island: Island, person: Person) -> None:
    deadline = time.monotonic() + HEAL_SECONDS
    while True:
        person._smtp = None
        with contextlib.suppress(smtplib.SMTPException):
            if person.send("after"):
                break
        assert time.monotonic() < deadline, "it does not heal"
        time.sleep(0.2)
    while True:
        with contextlib.suppress(imaplib.IMAP4.error):
            if "after" in subjects(imap(island, "alice")):
                return
        assert time.monotonic() < deadline, "it does not heal"
        time.sleep(0.2)


def test_a_disk_that_the_system_has_made_read_only(folder: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    if subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], capture_output=True, check=False).returncode:
        pytest.skip("no mkfs.ext4")
    with mounted(folder, "-o", "loop,errors=remount-ro", str(image)):
        island = Island(folder)
        try:
            island.start()
            person = Person(island)
            before = {f"before-{number}" for number in range(6)}
            assert all(person.send(name) for name in sorted(before))
            pids = island.pids()
            subprocess.run(["mount", "-o", "remount,abort", str(folder)], check=True, capture_output=True)
            with pytest.raises(OSError, match="Read-only"):
                (folder / "filler").write_bytes(b"x")
            _refusals(person, "read-only", 2000)
            assert _flags(person.client).startswith("NO [UNAVAILABLE]")
            person.reads(before)
            assert island.pids() == pids
            for role, name in (("transport", "queue"), ("directory", "database")):
                island.kill(role)
                _shows(island, role, name, "fail", "waits for room: Read-only file system")
            pids = island.pids()
            time.sleep(3)
            assert island.pids() == pids, "a crash loop"
        finally:
            island.crash()
    # A copy: a mount namespace that somebody made meanwhile keeps the first one busy.
    mended = tmp_path / "mended.img"
    subprocess.run(["cp", "--sparse=always", str(image), str(mended)], check=True)
    image.unlink()
    assert subprocess.run(["e2fsck", "-fy", str(mended)], capture_output=True, check=False).returncode in (0, 1)
    with mounted(folder, "-o", "loop,errors=remount-ro", str(mended)):
        try:
            island.start()
            _all_there(island, person)
            assert person.send("after")
            _all_there(island, person)
            island.stop()
        finally:
            island.crash()


def _all_there(island: Island, person: Person) -> None:
    """What was acknowledged, once each; of what was refused at most one copy an attempt."""
    client, _ = imap_again(island, "alice")
    person.client, person._smtp = client, None
    found = Counter(subjects(client))
    assert person.acknowledged <= set(found)
    assert max(found.values()) == 1
