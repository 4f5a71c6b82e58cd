"""Roles die at each commit and reply on a message's way: what was answered 250 is there exactly once.

Each attempt to send says its own number in its subject, so that copies can be told apart: an acknowledged attempt is
stored exactly once, one that was not acknowledged at most once.
"""

from __future__ import annotations

import imaplib
import re
import smtplib
import time
from collections import Counter

import pytest

from tests.island import Island

pytestmark = pytest.mark.island
MESSAGES = 24
CASES = [
    "lmtp.reply.before=kill@7",
    "lmtp.reply.after=kill@7",
    "transport.reply.after=kill@7",
    "mailbox.commit.before=kill@9",
    "mailbox.commit.after=kill@9",
    "delivery.send.before=kill@7",
    "delivery.reply.after=kill@7",
    "transport.reply.before=kill@7",
    "lmtp.reply.before=kill@5,queue.commit.before=kill@1",
    "lmtp.reply.before=kill@5,queue.commit.after=kill@1",
    "lmtp.reply.before=kill@5,queue.reply.before=kill@1",
    "lmtp.reply.before=kill@5,queue.commit.after=kill@2",
    "lmtp.reply.before=sleep:0.3@3,delivery.reply.after=kill@4",
]


def send(island: Island, recipients: list[str]) -> tuple[set[str], set[str]]:
    """(attempts that were answered 250, attempts)."""
    acknowledged, attempts = set(), set()
    smtp: smtplib.SMTP | None = None
    for number in range(MESSAGES):
        for attempt in range(20):
            name = f"{number}-{attempt}"
            attempts.add(name)
            try:
                if smtp is None:
                    smtp = smtplib.SMTP("127.0.0.1", island.ports["smtp"], timeout=20)
                smtp.sendmail("a@out.example", recipients, f"Subject: {name}\r\n\r\nbody\r\n")
            except smtplib.SMTPServerDisconnected:
                smtp = None
            except (smtplib.SMTPException, OSError):
                time.sleep(0.1)
            else:
                acknowledged.add(name)
                break
        else:
            pytest.fail(f"message {number} was never taken")
    return acknowledged, attempts


def stored(island: Island, name: str) -> Counter[str]:
    """How often each attempt is in somebody's INBOX."""
    with imaplib.IMAP4_SSL("localhost", island.ports["imaps"], ssl_context=island.tls()) as imap:
        imap.login(f"{name}@{island.domain}", island.password(name))
        imap.select("INBOX", readonly=True)
        _, data = imap.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    headers = b"".join(part[1] for part in data if isinstance(part, tuple)).decode()
    return Counter(re.findall(r"Subject: (\d+-\d+)", headers))


def settled(island: Island, name: str, expected: set[str]) -> Counter[str]:
    """What is stored once all that was acknowledged is there, or the time is over."""
    deadline = time.monotonic() + 15
    while True:
        try:
            found = stored(island, name)
            if expected <= set(found) or time.monotonic() > deadline:
                return found
        except (imaplib.IMAP4.error, OSError):  # its mailbox process is being started
            assert time.monotonic() < deadline
        time.sleep(0.3)


@pytest.mark.parametrize("failpoints", CASES)
def test_acknowledged_is_there_exactly_once(failpoints: str) -> None:
    with Island(environment={"ATOLL_FAILPOINTS": failpoints}) as island:
        before = island.pids()
        acknowledged, attempts = send(island, [f"{name}@{island.domain}" for name in ("alice", "bob")])
        for name in ("alice", "bob"):
            found = settled(island, name, acknowledged)
            assert acknowledged <= set(found)
            assert set(found) <= attempts
            assert max(found.values()) == 1
        after = island.pids()
        assert {role for role, pid in before.items() if after.get(role) != pid}, "nothing died: the case proves nothing"
