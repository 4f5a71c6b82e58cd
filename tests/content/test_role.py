"""The content role in a whole island: what large mail becomes while the role lives, dies and is stopped."""

from __future__ import annotations

import contextlib
import re
import signal
import smtplib
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from tests.admin.test_quota_steps import soon
from tests.island import Island
from tests.roles.people import imap, subjects


@pytest.fixture(scope="module")
def island() -> Iterator[Island]:
    with Island() as island:
        yield island


def large(subject: str) -> bytes:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "x@elsewhere.example", "alice@example.test", subject
    made.set_content("The word zanzibar stands here.\n" + ("filler words\n" * 100))
    made.add_alternative("<p>" + "<b>more</b> words<br>\n" * 60_000 + "</p>", subtype="html")
    made.add_attachment(b"x" * 300_000, "application", "pdf", filename="paper.pdf")
    return made.as_bytes().replace(b"\n", b"\r\n")


def send(island: Island, data: bytes) -> None:
    with smtplib.SMTP("localhost", island.ports["smtp"], timeout=60) as client:
        assert client.sendmail("x@elsewhere.example", ["alice@example.test"], data) == {}


def looks(island: Island, outcome: str) -> float:
    pattern = rf'content_looks{{[^}}]*outcome="{outcome}"[^}}]*}} (\d+)'
    return sum(float(number) for number in re.findall(pattern, island.http("/metrics").decode()))


def structures(island: Island) -> list[bytes]:
    box = imap(island, "alice")
    _, rows = box.fetch("1:*", "(BODYSTRUCTURE)")
    box.logout()
    return [row if isinstance(row, bytes) else b" ".join(row) for row in rows]


def test_large_mail_is_looked_at_by_the_content_role(island: Island) -> None:
    send(island, large("one"))
    assert imap(island, "alice").append("INBOX", None, None, large("two"))[0] == "OK"
    found = structures(island)
    assert len(found) == 2
    assert all(b"paper.pdf" in structure and b"alternative" in structure for structure in found)
    box = imap(island, "alice")
    assert box.search(None, "TEXT", "zanzibar")[1] == [b"1 2"]
    end = time.monotonic() + 10
    while looks(island, "elsewhere") < 4:  # two scans, two texts
        assert time.monotonic() < end, island.http("/metrics").decode()
        time.sleep(0.2)
    before = looks(island, "elsewhere")
    _, rows = box.fetch("1", "(BODY.PEEK[1.1] BODY.PEEK[2.MIME] BINARY.SIZE[2])")
    told = b" ".join(b" ".join(row) if isinstance(row, tuple) else row for row in rows)
    assert b"The word zanzibar stands here." in told
    assert b'filename="paper.pdf"' in told
    assert b"BINARY.SIZE[2] 300000" in told
    soon(lambda: looks(island, "elsewhere") == before + 1)
    assert looks(island, "refused") == looks(island, "away") == 0


def test_a_role_that_hangs_holds_no_mail_up_for_ever(island: Island) -> None:
    island.kill("content", signal.SIGSTOP)  # the supervisor ends it when it misses its pings
    begin = time.monotonic()
    send(island, large("hung"))
    box = imap(island, "alice")
    while "hung" not in subjects(box):
        assert time.monotonic() - begin < 60
        time.sleep(0.5)


def test_deaths_of_the_role_lose_and_refuse_nothing(island: Island) -> None:
    """Killed at every sight, it soon waits a minute between its lives: large mail is not held up for it."""
    before = len(structures(island))
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.1):
            with contextlib.suppress(KeyError, ProcessLookupError):
                island.kill("content")

    killer = threading.Thread(target=kill)
    killer.start()
    begin = time.monotonic()
    try:
        for number in range(6):
            send(island, large(f"killed-{number}"))
    finally:
        stop.set()
        killer.join()
    assert time.monotonic() - begin < 40
    end = time.monotonic() + 30
    while len(structures(island)) < before + 6:  # what took too long comes by the queue
        assert time.monotonic() < end
        time.sleep(0.5)
    told = subjects(imap(island, "alice"))
    assert sorted(one for one in told if one.startswith("killed-")) == [f"killed-{number}" for number in range(6)]
    assert looks(island, "away") > 0
    assert all(b"paper.pdf" in structure or b"octet-stream" in structure for structure in structures(island))
