"""An old backup is restored while clients are syncing and mail is coming in.

Clients that saw what the restore takes back, and clients that did not, end with exactly what is there; no UID ever
stands for another message; nothing acknowledged after the restore is lost; the same backup may be restored twice.
"""

from __future__ import annotations

import json
import random
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.kills import queued
from tests.faults.qresync import Copy, connected, truth
from tests.island import Island
from tests.roles.people import message

pytestmark = pytest.mark.island
SEEDS = range(2)


@pytest.fixture(scope="module")
def house() -> Iterator[Island]:
    with Island(config='[admission]\ntrusted = ["127.0.0.0/8"]\n') as island:
        yield island


def atoll(island: Island, *words: str) -> dict[str, Any]:
    """An operator's command."""
    done = subprocess.run([str(Path(sys.executable).parent / "atoll"), "--data", str(island.data), *words, "--json"],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


class Postman:
    """Sends on port 25 until told to stop; when each subject was acknowledged."""

    def __init__(self, island: Island, name: str) -> None:
        self.acknowledged: dict[str, float] = {}
        self.tried: set[str] = set()
        self._island, self._name = island, name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Postman:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        number = 0
        with smtplib.SMTP("localhost", self._island.ports["smtp"], timeout=30) as client:
            while not self._stop.is_set():
                number += 1
                subject = f"{self._name}-{number}"
                self.tried.add(subject)
                client.send_message(message(subject), "a@outside.example", [f"alice@{self._island.domain}"])
                self.acknowledged[subject] = time.monotonic()


def change(island: Island, chance: random.Random, name: str) -> None:
    """What another device does: new mail, flags, deletions."""
    with connected(island, "alice") as session, smtplib.SMTP("localhost", island.ports["smtp"], timeout=30) as client:
        for number in range(chance.randint(8, 16)):
            client.send_message(message(f"{name}.{number}"), "a@outside.example", [f"alice@{island.domain}"])
        session.ask("SELECT INBOX")
        uids = sorted(truth(island, "alice"))
        for uid in chance.sample(uids, min(6, len(uids))):
            flags = chance.choice(("+FLAGS (\\Seen)", "-FLAGS (\\Seen)", "+FLAGS (\\Flagged $Later)"))
            session.ask(f"UID STORE {uid} {flags}")
        for uid in chance.sample(uids, min(3, len(uids))):
            session.ask(f"UID STORE {uid} +FLAGS (\\Deleted)")
            session.ask(f"UID EXPUNGE {uid}")


def restored(island: Island, backup: str, name: str) -> Postman:
    """Restore while mail comes in and somebody is in IDLE; who comes back sees the difference."""
    with connected(island, "alice") as idle, Postman(island, name) as postman:
        idle.ask("SELECT INBOX")
        idle.send("IDLE")
        time.sleep(0.3)
        atoll(island, "database", "restore", "db1", backup, "--yes")
        done = time.monotonic()
        with pytest.raises(OSError, match="ended"):
            idle.until_the_end()
        deadline = time.monotonic() + 30
        while sum(moment > done for moment in [*postman.acknowledged.values()]) <= 3 and time.monotonic() < deadline:
            time.sleep(0.1)
    after = {subject for subject, moment in postman.acknowledged.items() if moment > done}
    assert len(after) > 3
    deadline = time.monotonic() + 30
    while queued(island) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert after - {subject for subject, _ in truth(island, "alice").values()} == set()
    return postman


@pytest.mark.parametrize("seed", SEEDS)
def test_every_client_ends_with_what_is_there(house: Island, seed: int) -> None:
    restore_twice(house, seed)


def restore_twice(house: Island, seed: int) -> None:
    """Six clients, one backup, two lost futures."""
    chance = random.Random(seed)
    names: dict[tuple[int, int], str] = {}
    copies = [Copy("alice", names, send_uids=number % 2 == 0) for number in range(6)]
    change(house, chance, f"s{seed}-before")
    for copy in copies[:4]:
        copy.sync(house)
    change(house, chance, f"s{seed}-unseen")
    copies[0].sync(house)
    backup = atoll(house, "database", "backup", "db1")["backup"]
    for lap in range(2):  # the same backup twice: numbers of the first lost future must not come again
        change(house, chance, f"s{seed}-lost{lap}")
        before = truth(house, "alice")
        for copy in copies[2:] if lap else copies[1:3]:
            copy.sync(house)  # these see what is going to be lost; 0 does not
        postman = restored(house, backup, f"s{seed}-post{lap}")
        now = truth(house, "alice")
        gone = {subject for subject, _ in before.values()} - {subject for subject, _ in now.values()}
        assert any(subject.startswith(f"s{seed}-lost{lap}") for subject in gone)
        assert len({subject for subject, _ in now.values()}) == len(now), "a message is there twice"
        assert {subject for subject, _ in now.values() if subject.startswith(f"s{seed}-post{lap}")} <= postman.tried
        for copy in copies:
            copy.sync(house)
            assert copy.messages == now
        change(house, chance, f"s{seed}-after{lap}")
        for copy in copies[::2]:
            copy.sync(house)
            assert copy.messages == truth(house, "alice")
    assert [copy.resyncs for copy in copies] == [0] * len(copies)


def test_a_client_that_saw_nothing_of_it_is_told_little(house: Island) -> None:
    copy = Copy("alice", {})
    change(house, random.Random(99), "little")
    copy.sync(house)
    backup = atoll(house, "database", "backup", "db1")["backup"]
    change(house, random.Random(98), "future")
    atoll(house, "database", "restore", "db1", backup, "--yes")
    count = len(copy.messages)
    copy.sync(house)
    assert copy.messages == truth(house, "alice")
    assert len(copy.messages) == count > 3
    assert [line for line in copy.told if b"FETCH" in line or b"VANISHED" in line] == []
