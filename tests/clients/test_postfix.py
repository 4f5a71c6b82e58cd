"""Debian's Postfix delivers thousands while clients work and roles are killed: what it was told is in is in, once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.mailsite import Account, Site, letter
from tests.clients.postfix import Postfix, available
from tests.clients.terminal import Terminal
from tests.clients.test_mbsync import configure as mbsync_rc
from tests.clients.test_neomutt import configure as neomutt_rc
from tests.clients.thunderbird import Thunderbird
from tests.island import Island

pytestmark = [pytest.mark.client("postfix", "mbsync", "neomutt"), pytest.mark.island]
Tool = Callable[[str], str]
ROLES = ("frontend-1", "mailbox-1", "mailbox-2", "transport", "directory")
IN_DOUBT = "end of data"  # "lost connection while sending end of data", "said: 451 ... in reply to end of DATA command"


class Loop:
    """A thread that does something again and again until it is told to stop."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.stop, self.times, self.error = threading.Event(), 0, None
        self.act = act
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self.stop.is_set():
            self.act()
            self.times += 1

    def __enter__(self) -> Loop:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        self.thread.join(60)


@contextlib.contextmanager
def reading(site: Site, tool: Tool, who: Account, home: Path) -> Iterator[Loop]:
    """mbsync in a loop, and neomutt with the INBOX open, on the mailbox that is being delivered to."""
    rc = mbsync_rc(site, who, home / "mbsync")

    def sync() -> None:
        subprocess.run([tool("mbsync"), "-c", str(rc), "-a"], cwd=home, capture_output=True, check=False, timeout=120)
        time.sleep(0.3)

    neomutt_rc(site, who, home / "neomutt")
    screen = Terminal([tool("neomutt"), "-n", "-F", str(home / "neomutt" / "muttrc")], home / "neomutt")
    with screen, Loop(lambda: screen.pump(0.3)), Loop(sync) as loop:
        yield loop


def kill_roles(site: Site, rnd: random.Random) -> Counter[str]:
    """Kill one role that runs; returns nothing when it had just gone."""
    role = rnd.choice(ROLES)
    with contextlib.suppress(ProcessLookupError, KeyError):
        os.kill(site.island.pids()[role], signal.SIGKILL)
        return Counter([role])
    return Counter()


def deliver(site: Site, tool: Tool, home: Path, total: int, kill_every: float) -> None:
    people = [site.account("reader") for _ in range(4)]
    rnd, killed = random.Random(total), Counter[str]()
    with Postfix(site, home / "postfix") as sender, reading(site, tool, people[0], home) as syncs:
        feed = threading.Thread(target=feed_all, args=(sender, people, total), daemon=True)
        feed.start()
        limit, kill_at = time.monotonic() + 60 + total / 20, time.monotonic() + kill_every
        while feed.is_alive() or sender.queued():
            if time.monotonic() > kill_at and sum(killed.values()) < max(8, total // 500):
                killed += kill_roles(site, rnd)
                kill_at = time.monotonic() + kill_every
            assert time.monotonic() < limit, f"{sender.queued()} still queued; killed {killed}\n{sender.log()[-3000:]}"
            time.sleep(0.2)
        history = sender.history()
        site.wait(lambda: syncs.times >= 1, 60)
    check(site, people, history, total, killed)
    # the reader's Maildir agrees with the server after one quiet run
    subprocess.run(
        [tool("mbsync"), "-c", str(home / "mbsync" / "mbsyncrc"), "-a"], check=True, capture_output=True, timeout=120
    )
    near = sum(1 for part in ("new", "cur") for _ in (home / "mbsync" / "mail" / "INBOX" / part).iterdir())
    assert near == len(site.held(people[0]))


def feed_all(sender: Postfix, people: list[Account], total: int) -> None:
    for start in range(0, total, 100):
        batch = []
        for number in range(start, min(total, start + 100)):
            to = people[number % len(people)].address
            message = letter(f"number {number}", to)
            del message["Message-ID"]
            message["Message-ID"] = f"<{number}@outside.example>"
            batch.append((to, bytes(message)))
        sender.inject(batch)


def check(site: Site, people: list[Account], history: dict[str, list[str]], total: int, killed: Counter[str]) -> None:
    copies = Counter[str](message.header("Message-ID") for who in people for message in site.held(who))
    wanted = {f"<{number}@outside.example>" for number in range(total)}
    assert killed, "no role was killed: the test proved nothing"
    assert wanted - set(copies) == set(), f"lost, killed {killed}: {sorted(wanted - set(copies))[:5]}"
    assert set(copies) - wanted == set()
    for name in wanted:
        # [RFC 5321 §4.2.5]: a sender that did not see the answer to its final dot must send again: one more copy may be
        doubts = sum(line.startswith("deferred") and IN_DOUBT in line.lower() for line in history[name])
        assert 1 <= copies[name] <= 1 + doubts, f"{name}: {copies[name]} copies, killed {killed}: {history[name]}"


@pytest.fixture
def relay_site() -> Iterator[Site]:
    """An island that does not hold back its organization's own relay, which opens a connection per message."""
    with Island(config='[admission]\ntrusted = ["127.0.0.0/8"]\n') as started:
        yield Site.of(started)


@pytest.fixture
def root() -> None:
    if why := available():
        pytest.skip(f"not run, client missing: postfix ({why})")


def test_2000_arrive_once(root: None, relay_site: Site, tool: Tool, tmp_path: Path) -> None:
    deliver(relay_site, tool, tmp_path, 2000, kill_every=1.5)


@pytest.mark.soak
@pytest.mark.client("thunderbird")
def test_50000_arrive_once(root: None, relay_site: Site, tool: Tool, tmp_path: Path) -> None:
    reader = relay_site.account("bird")
    with Thunderbird(tool("thunderbird"), tmp_path / "bird") as bird:
        bird.trust(relay_site.ca)
        bird.set_up(reader.address, reader.password, relay_site.ports["imaps"], relay_site.ports["submissions"])
        bird.open("INBOX")
        deliver(relay_site, tool, tmp_path, 50_000, kill_every=5)
        relay_site.send(reader, "afterwards")
        bird.open("INBOX")
        bird.wait_for("INBOX", "afterwards")
