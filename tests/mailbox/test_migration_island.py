"""A whole island over a database of the first version: others are served while it is migrated, and no mail is lost."""

from __future__ import annotations

import imaplib
import smtplib
import time

import pytest

from tests.admin.test_quota_steps import soon
from tests.island import Island
from tests.postgres import files_only
from tests.roles.people import imap, message, subjects, works

from .old_schema import downgrade

pytestmark = files_only
HOLD = 13.0
"""Seconds of the migration: the island is ready after ten, with or without the database."""


def send(island: Island, subject: str, name: str) -> None:
    with smtplib.SMTP("localhost", island.ports["smtp"], timeout=20) as client:
        to = f"{name}@{island.domain}"
        assert client.send_message(message(subject, to), "x@elsewhere.example", [to]) == {}


def state(island: Island) -> str:
    return next(row["state"] for row in island.health()["rows"] if row["name"] == "database db1")


def test_mail_goes_on_while_a_database_is_migrated() -> None:
    with Island() as island:
        for number in range(20):
            send(island, f"old-{number}", "alice")
        island.stop()
        downgrade(island.data / "mbox" / "1" / "db1.sqlite")
        island.environment["ATOLL_FAILPOINTS"] = f"schema.commit.before=sleep:{HOLD}@1"
        started = time.monotonic()
        island.start()
        ready = time.monotonic() - started
        assert ready < HOLD
        pids = island.pids()
        bob = imap(island, "bob")
        send(island, "to bob", "bob")
        soon(lambda: "to bob" in subjects(bob))
        send(island, "meanwhile", "alice")
        assert state(island) == "warn"
        with pytest.raises(imaplib.IMAP4.error, match=r"UNAVAILABLE|not available"):
            imap(island, "alice")
        assert time.monotonic() - started < HOLD + 1
        soon(lambda: state(island) == "ok", 30)
        alice = imap(island, "alice")
        soon(lambda: "meanwhile" in subjects(alice), 30)
        assert set(subjects(alice)) == {"meanwhile", *(f"old-{number}" for number in range(20))}
        assert works(bob)
        assert island.pids() == pids  # nobody was taken for dead
