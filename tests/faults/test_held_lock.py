"""Somebody holds the write lock of a mailbox database of a running island: an operator's sqlite3 in a transaction.

What writes is refused or queued at once, reading and other mailboxes do not wait, and when the lock is given up the
queue delivers: each message once.
"""

from __future__ import annotations

import smtplib
import threading
import time
from collections import Counter

import apsw
import pytest

from atoll.sql.sqlite import CHECKED_VFS
from tests.island import Island
from tests.roles.people import imap, message, subjects

pytestmark = pytest.mark.island
ANSWER_SECONDS = 2.0
"""SQLite would wait for five, with the whole process."""
HEAL_SECONDS = 30.0


def test_a_lock_that_is_held() -> None:
    with Island() as island:
        (path,) = island.data.rglob("db1.sqlite")
        alice, watcher, bob = imap(island, "alice"), imap(island, "alice"), imap(island, "bob")
        assert alice.append("INBOX", "", "", bytes(message("before")))[0] == "OK"
        held = apsw.Connection(str(path), vfs=CHECKED_VFS)
        held.execute("BEGIN IMMEDIATE")
        waits: list[float] = []
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                begun = time.monotonic()
                assert watcher.noop()[0] == "OK"
                assert subjects(watcher) == ["before"]
                waits.append(time.monotonic() - begun)

        thread = threading.Thread(target=watch)
        thread.start()
        acknowledged = []
        with smtplib.SMTP("localhost", island.ports["smtp"], timeout=20) as smtp:
            for number in range(4):
                begun = time.monotonic()
                smtp.send_message(message(f"sent {number}"), "x@out.example", [f"alice@{island.domain}"])
                acknowledged.append(f"sent {number}")
                status, (text, *_) = alice.append("INBOX", "", "", bytes(message(f"appended {number}")))
                assert (status, text.split()[0]) == ("NO", b"[UNAVAILABLE]")
                assert bob.append("INBOX", "", "", bytes(message(f"for bob {number}")))[0] == "OK"
                assert time.monotonic() - begun < ANSWER_SECONDS
        over.set()
        thread.join(10)
        assert len(waits) > 4
        assert max(waits) < ANSWER_SECONDS
        held.execute("ROLLBACK")
        held.close()
        deadline = time.monotonic() + HEAL_SECONDS
        while not set(acknowledged) <= set(subjects(alice)):
            assert time.monotonic() < deadline, "what was queued does not come"
            time.sleep(0.2)
        assert alice.append("INBOX", "", "", bytes(message("after")))[0] == "OK"
        assert Counter(subjects(alice)) == Counter(["before", *acknowledged, "after"])
        for client in (alice, watcher, bob):
            client.logout()
