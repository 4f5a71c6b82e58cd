"""Which failpoints are armed for a seed, and one run of them on an island.

In     an island that does not run, with the databases that the runs before left.
Out    a ledger, after the deaths, the restarts and the last delivery.
Spec   R01: what was answered 250 is there exactly once within 60 s of the restart.
"""

from __future__ import annotations

import contextlib
import imaplib
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.island import Island
from tests.roles.people import imap_again

MAILBOX = ("mailbox.commit.before", "mailbox.commit.after", "mailbox.reply.before", "mailbox.notify.before",
           "lmtp.reply.before", "mailbox.search.commit.before", "mailbox.search.commit.after",
           "mailbox.mount.before_barrier", "mailbox.mount.after_barrier")
TRANSPORT = ("transport.reply.before", "delivery.send.before", "delivery.reply.after", "queue.commit.before",
             "queue.commit.after", "queue.reply.before", "queue.notify.before")
DIRECTORY = ("directory.commit.before", "directory.commit.after", "directory.reply.before", "directory.notify.before")
PEOPLE = ("alice", "bob")
DEATH_SECONDS = 40.0
BACK_SECONDS = 60.0


@dataclass(frozen=True)
class Plan:
    """failpoint -> passage at which it kills; how the island ends before it is started again."""

    seed: int
    armed: dict[str, int]
    crash: bool

    @property
    def environment(self) -> dict[str, str]:
        return {"ATOLL_FAILPOINTS": ",".join(f"{name}=kill@{nth}" for name, nth in self.armed.items())}

    @property
    def needs_queue(self) -> bool:
        return any(name.startswith("queue.") for name in self.armed)

    @property
    def dying(self) -> set[str]:
        """Roles whose death is waited for. Of two mailbox processes each passes the same points."""
        roles = {"mailbox": "mailbox-1", "lmtp": "mailbox-1", "directory": "directory"}
        waited = [name for name in self.armed if name != "mailbox.dismount.before"]
        return {roles.get(name.partition(".")[0], "transport") for name in waited}


def plan(seed: int) -> Plan:
    """One point of the mailbox, one of transport, sometimes one of the directory; 63 seeds have every pair."""
    chance = random.Random(seed)
    names = [MAILBOX[seed % len(MAILBOX)], TRANSPORT[seed % len(TRANSPORT)]]
    if seed % 5 == 4:
        names.append(DIRECTORY[seed // 5 % len(DIRECTORY)])
    crash = seed % 3 > 0
    armed = {name: _passage(name, chance) for name in names}
    if not crash:
        armed["mailbox.dismount.before"] = 1
    return Plan(seed, armed, crash)


def _passage(name: str, chance: random.Random) -> int:
    if ".mount." in name or name.startswith("directory."):
        return 1
    return chance.randint(1, 2 if "search" in name else 2 if name.startswith("queue.") else 40)


def run(island: Island, plan: Plan) -> Ledger:
    """Start armed, load it until what is armed has killed, read everything, empty the mailboxes, end it."""
    with ended(island):
        return _run(island, plan)


@contextlib.contextmanager
def ended(island: Island) -> Iterator[None]:
    """Leave no island behind when something fails: the next start would forget it."""
    try:
        yield
    except BaseException:
        island.crash()
        raise


def _run(island: Island, plan: Plan) -> Ledger:
    ledger = Ledger()
    island.environment = plan.environment
    island.start()
    load = Load(island, ledger, f"s{plan.seed}", plan.seed)
    with load.running():
        deadline = time.monotonic() + DEATH_SECONDS
        while missing := plan.dying - died(island):
            assert time.monotonic() < deadline, f"nothing killed {missing} in {DEATH_SECONDS} s: {plan}"
            if plan.needs_queue and "transport" in missing:
                to_queue(island, {"mailbox-1", "mailbox-2"} - missing)
            time.sleep(0.1)
        time.sleep(0.2)
        if plan.crash:
            island.crash()
    if plan.crash:
        island.environment = {}
        island.start()
    assert load.refused == []
    read_all(island, ledger)
    for who in PEOPLE:
        empty(island, who)
    if plan.crash:
        island.crash()
    else:
        island.stop()
    return ledger


def to_queue(island: Island, roles: set[str]) -> None:
    """Kill these as soon as they serve: what is under way to them goes to the queue, what comes then waits for them."""
    states, pids = island.healthz(), island.pids()
    for role in sorted(roles):
        if states.get(role) == "ok" and role in pids:
            os.kill(pids[role], signal.SIGKILL)


def died(island: Island) -> set[str]:
    """Roles that died since the start."""
    return {str(event["of"]) for event in island.events() if event.get("event") == "role died"}


def read_all(island: Island, ledger: Ledger, *, hurry: Callable[[], None] | None = None) -> None:
    """Every mailbox, again and again until nothing acknowledged is missing and the queue is empty, or too late.

    hurry: has the queue tried now, where deaths upon deaths have made it wait for long.
    """
    deadline = time.monotonic() + BACK_SECONDS
    while True:
        empty = queued(island) == 0
        if not empty and hurry is not None:
            hurry()
        ledger.there.clear()
        ledger.damaged.clear()
        for who in PEOPLE:
            for message in messages(island, who):
                ledger.read(who, message)
        if (empty and not ledger.lost()) or time.monotonic() > deadline:
            assert empty, "the queue does not become empty"
            return
        time.sleep(0.25)


def queued(island: Island) -> int:
    """Recipients in transport's queue."""
    found = re.search(rb'(?m)^atoll_queue_recipients\{.*\} (\d+)$', island.http("/metrics"))
    return int(found[1]) if found else -1


@contextlib.contextmanager
def inbox(island: Island, who: str) -> Iterator[imaplib.IMAP4_SSL]:
    """A session with INBOX selected; whoever serves it may just be starting."""
    client, _ = imap_again(island, who, BACK_SECONDS)
    client.sock.settimeout(BACK_SECONDS)
    yield client
    with contextlib.suppress(imaplib.IMAP4.error, OSError):
        client.logout()


def messages(island: Island, who: str) -> list[bytes]:
    """Everything in INBOX."""
    with inbox(island, who) as client:
        status, rows = client.uid("FETCH", "1:*", "(BODY.PEEK[])")
        assert status == "OK", rows
        return [row[1] for row in rows if isinstance(row, tuple)]


def empty(island: Island, who: str) -> None:
    """What comes back after this is found as unexpected by the next run."""
    with inbox(island, who) as client:
        assert client.uid("STORE", "1:*", "+FLAGS.SILENT", "(\\Deleted)")[0] == "OK"
        assert client.expunge()[0] == "OK"
