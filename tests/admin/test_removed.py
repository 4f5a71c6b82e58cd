"""Disabled, removed, restored, purged: as people and the Internet meet it, by IMAP and SMTP, on a whole island."""

from __future__ import annotations

import imaplib
import json
import smtplib
from collections.abc import Iterator

import pytest

from tests.island import Island
from tests.roles.people import imap, message, subjects, works

from .test_quota_steps import atoll, fails, soon

ALICE, BOB = "alice@example.test", "bob@example.test"


@pytest.fixture(scope="module")
def island() -> Iterator[Island]:
    with Island() as island:
        yield island


def send(island: Island, subject: str, to: str) -> None:
    with smtplib.SMTP("localhost", island.ports["smtp"], timeout=20) as client:
        assert client.send_message(message(subject, to), "x@elsewhere.example", [to]) == {}


def rcpt(island: Island, to: str) -> tuple[int, bytes]:
    with smtplib.SMTP("localhost", island.ports["smtp"], timeout=20) as client:
        client.ehlo()
        client.mail("x@elsewhere.example")
        return client.rcpt(to)


def signs_in(island: Island, who: str, password: str = "") -> bool:
    try:
        with imaplib.IMAP4_SSL("localhost", island.ports["imaps"], ssl_context=island.tls(), timeout=20) as client:
            client.login(who, password or island.password(who))
            return True
    except imaplib.IMAP4.error:
        return False


def shared_box(island: Island, of: str) -> imaplib.IMAP4_SSL:
    """Bob in a folder of alice's."""
    owner = imap(island, of)
    owner.setacl("INBOX", BOB, "lrs")
    box = imap(island, "bob")
    _, spaces = box.namespace()
    others = spaces[0].decode().split('"')
    prefix = next(word for word in others if word.startswith("Other"))
    assert box.select(f'"{prefix}{ALICE}/INBOX"')[0] == "OK", box.list()
    return box


def test_disabled(island: Island) -> None:
    box = imap(island, "alice")
    atoll(island, "mailbox", "disable", ALICE)
    soon(lambda: not works(box))
    assert not signs_in(island, ALICE)
    with smtplib.SMTP_SSL("localhost", island.ports["submissions"], context=island.tls(), timeout=20) as client, \
            pytest.raises(smtplib.SMTPAuthenticationError):
        client.login(ALICE, island.password(ALICE))
    send(island, "while disabled", ALICE)
    atoll(island, "mailbox", "enable", ALICE)
    assert "while disabled" in subjects(imap(island, "alice"))


def test_removed_and_restored(island: Island) -> None:
    atoll(island, "alias", "create", "info@example.test", ALICE)
    send(island, "before", ALICE)
    own, others = imap(island, "alice"), shared_box(island, "alice")
    atoll(island, "mailbox", "remove", ALICE, "--yes")
    for to in (ALICE, "info@example.test"):
        code, text = rcpt(island, to)
        assert (code, text[:5]) == (550, b"5.1.1"), text
    soon(lambda: not works(own), 2)
    soon(lambda: not works(others), 3)
    assert not signs_in(island, ALICE)
    rows = json.loads(atoll(island, "mailbox", "removed", "--json"))["mailboxes"]
    assert [row["address"] for row in rows] == [ALICE]
    assert rows[0]["purged_after"] - rows[0]["removed"] == 30 * 86_400_000
    # Over deaths of everybody who knows of it.
    for role in ("directory", "mailbox-1", "mailbox-2"):
        island.wait_back(role, island.kill(role))
    assert "restored" in atoll(island, "mailbox", "restore", ALICE)
    soon(lambda: signs_in(island, ALICE), 20)
    assert {"before", "while disabled"} <= set(subjects(imap(island, "alice")))
    send(island, "after", "info@example.test")
    soon(lambda: "after" in subjects(imap(island, "alice")))
    assert fails(island, "mailbox", "restore", ALICE)[0] == 3


def test_the_name_was_given_to_somebody_else(island: Island) -> None:
    atoll(island, "mailbox", "remove", ALICE, "--yes")
    made = json.loads(atoll(island, "mailbox", "create", ALICE, "--json"))
    code, told = fails(island, "mailbox", "restore", ALICE)
    assert code == 1
    assert "taken" in told
    atoll(island, "mailbox", "restore", ALICE, "--as", "alice.old@example.test")
    assert signs_in(island, ALICE, made["password"])
    with imaplib.IMAP4_SSL("localhost", island.ports["imaps"], ssl_context=island.tls(), timeout=20) as client:
        client.login("alice.old@example.test", island.password(ALICE))
        assert "before" in subjects(client)
    with imaplib.IMAP4_SSL("localhost", island.ports["imaps"], ssl_context=island.tls(), timeout=20) as client:
        client.login(ALICE, made["password"])
        assert client.select()[1] == [b"0"]


def test_purged(island: Island) -> None:
    atoll(island, "mailbox", "remove", "alice.old@example.test", "--yes")
    assert fails(island, "mailbox", "purge", "alice.old@example.test")[0] == 2  # --yes
    atoll(island, "mailbox", "purge", "alice.old@example.test", "--yes")
    code, told = fails(island, "mailbox", "restore", "alice.old@example.test")
    assert code == 3
    assert "its mail is gone" in told
    assert json.loads(atoll(island, "mailbox", "removed", "--json"))["mailboxes"] == []
    soon(lambda: "a removed mailbox was purged" in island.log())
    assert ": 0 problems" in atoll(island, "database", "check", "db1")
