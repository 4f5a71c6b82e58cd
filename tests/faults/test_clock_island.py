"""The wall clock of a whole island jumps while people are at work: nobody is refused, nothing waits, numbers only grow.

In     every role reads its clock through `sitecustomize`, first on PYTHONPATH, which adds what stands in a shared page.
Not    the clocks of TLS: certificates are looked at by clients, whose clock does not jump here.
"""

from __future__ import annotations

import poplib
import re
import smtplib
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.kills import queued
from tests.faults.test_clock import JUMPS
from tests.island import ROOT, Island
from tests.roles.people import imap, imap_again, message, subjects

pytestmark = pytest.mark.island
SOON_SECONDS = 20.0
SITE = '''
import mmap, struct, time
from pathlib import Path
with Path(__file__).with_name("offset").open("rb") as file:
    page = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
real = time.time_ns
time.time_ns = lambda: real() + struct.unpack("<q", page[:8])[0] * 1_000_000
time.time = lambda: time.time_ns() / 1e9
'''


class Wall:
    """How far the island's clock is from ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._page = folder / "offset"
        self._page.write_bytes(bytes(8))
        (folder / "sitecustomize.py").write_text(SITE)

    def set(self, milliseconds: int) -> None:
        with self._page.open("r+b") as file:
            file.write(struct.pack("<q", milliseconds))


@pytest.fixture(scope="module")
def wall(tmp_path_factory: pytest.TempPathFactory) -> Wall:
    return Wall(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def ticking(wall: Wall) -> Iterator[Island]:
    with Island(environment={"PYTHONPATH": f"{wall.folder}:{ROOT / 'src'}"}) as island:
        yield island


def number(pattern: str, answer: object) -> int:
    found = re.search(pattern, str(answer))
    assert found, answer
    return int(found[1])


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_people_at_work_notice_nothing(ticking: Island, wall: Wall, jump: int) -> None:
    wall.set(0)
    old = imap(ticking, "alice")
    smtp = smtplib.SMTP("localhost", ticking.ports["smtp"], timeout=20)
    to = [f"alice@{ticking.domain}"]
    tag = f"jump {jump}"
    uids, validity, modseqs = [], [], []
    for step, offset in enumerate((0, jump, 0)):
        wall.set(offset)
        smtp.send_message(message(f"{tag} sent {step}"), "x@out.example", to)
        status, answer = old.append("INBOX", "", "", bytes(message(f"{tag} appended {step}")))
        assert status == "OK"
        uids.append(number(r"APPENDUID \d+ (\d+)", answer))
        assert old.create(f"Folder{step}")[0] == "OK"
        validity.append(number(r"UIDVALIDITY (\d+)", old.status(f"Folder{step}", "(UIDVALIDITY)")))
        assert old.delete(f"Folder{step}")[0] == "OK"
        modseqs.append(number(r"HIGHESTMODSEQ (\d+)", old.status("INBOX", "(HIGHESTMODSEQ)")))
        fresh = imap(ticking, "alice")  # new sign-ins, new tokens
        assert {f"{tag} sent {step}", f"{tag} appended {step}"} <= set(subjects(fresh))
        received = number(r"-(\d{4}) ", fresh.fetch(b"*", "(INTERNALDATE)"))
        assert received == time.gmtime(time.time() + offset / 1000).tm_year
        fresh.logout()
        pop = poplib.POP3_SSL("localhost", ticking.ports["pop3s"], context=ticking.tls(), timeout=20)
        pop.user(to[0])
        pop.pass_(ticking.password("alice"))
        pop.quit()
        with smtplib.SMTP_SSL("localhost", ticking.ports["submissions"], context=ticking.tls(), timeout=20) as submit:
            submit.login(to[0], ticking.password("alice"))
            submit.send_message(message(f"{tag} submitted {step}"), to[0], to)
    for numbers in (uids, validity, modseqs):
        assert numbers == sorted(set(numbers))
    smtp.quit()
    old.logout()


@pytest.mark.parametrize("jump", [JUMPS["a day back"], JUMPS["ten years ahead"]], ids=["back", "ahead"])
def test_what_is_queued_comes_soon_and_a_restart_works(ticking: Island, wall: Wall, jump: int) -> None:
    wall.set(0)
    name = f"queued {jump}"
    pid = ticking.kill("mailbox-1", 19)  # SIGSTOP: it takes nothing
    try:
        with smtplib.SMTP("localhost", ticking.ports["smtp"], timeout=40) as smtp:
            smtp.send_message(message(name), "x@out.example", [f"alice@{ticking.domain}"])
            wall.set(jump)
    finally:
        ticking.kill("mailbox-1", 9)
    ticking.wait_back("mailbox-1", pid)
    deadline = time.monotonic() + SOON_SECONDS
    while queued(ticking):
        assert time.monotonic() < deadline, "it waits for the clock"
        time.sleep(0.2)
    client, _ = imap_again(ticking, "alice")
    assert subjects(client).count(name) == 1
    client.logout()
    ticking.restart()
    client, _ = imap_again(ticking, "alice")
    assert subjects(client).count(name) == 1
    client.logout()
