"""Mail to another organization: found by the DNS, sent by SMTP with TLS, reported when it cannot be."""

from __future__ import annotations

import json
import smtplib
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from tests.clients.knot import Knot
from tests.clients.mailsite import Account, Site, letter
from tests.clients.outside import Outside
from tests.clients.postfix import available, free_port
from tests.island import Island

pytestmark = [pytest.mark.client("postfix", "knot"), pytest.mark.island,
              pytest.mark.skipif(bool(available()), reason=available())]
Tool = Callable[[str], str]
ZONE = "@ MX 10 gone\n@ MX 20 mail\ngone A 127.0.0.9\nmail A 127.0.0.1\ndeaf MX 0 .\nempty TXT nothing\n"


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    from tests.clients.conftest import find

    with Knot(find("knot") or "knotd", tmp_path_factory.mktemp("knot"), {"outside.example": ZONE}) as running:
        yield running


@pytest.fixture(scope="module")
def site(names: Knot, port: int) -> Iterator[Site]:
    config = (f'[sending]\nmode = "direct"\nname_servers = ["{names.address}"]\nport = {port}\n'
              'allowed_networks = ["127.0.0.0/8"]\n')
    with Island(config=config) as island:
        yield Site.of(island)


@pytest.fixture(scope="module")
def outside(site: Site, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with Outside(site, tmp_path_factory.mktemp("outside"), port) as running:
        yield running


def send(site: Site, who: Account, message: EmailMessage, to: list[str]) -> None:
    with smtplib.SMTP_SSL("localhost", site.ports["submissions"], context=site.tls(), timeout=30) as client:
        client.login(who.address, who.password)
        assert client.send_message(message, who.address, to) == {}


def report(site: Site, who: Account, seconds: float = 20) -> str:
    """The one message in a mailbox, once it is there."""
    deadline = time.monotonic() + seconds
    while not (held := site.held(who)):
        assert time.monotonic() < deadline, "no report"
        time.sleep(0.1)
    assert len(held) == 1
    return held[0].data.decode()


def test_a_message_arrives_over_tls_at_the_next_best_server(site: Site, outside: Outside) -> None:
    who = site.account("writer")
    body = "A line.\n.\n..two dots\n"
    send(site, who, letter("Outwards", "friend@outside.example", body, sender=who.address), ["friend@outside.example"])
    message = outside.arrived(1)[0]
    assert (message["Subject"], message.get_content()) == ("Outwards", body)
    assert message["Return-Path"] == f"<{who.address}>"
    assert "TLSv1.3" in message["Received"]
    assert site.held(who) == [], "no report"


@pytest.mark.parametrize(("address", "words"), [
    ("nobody@outside.example", "554 5.7.1"),
    ("anyone@deaf.outside.example", "550 5.1.10 deaf.outside.example takes no mail"),
    ("anyone@missing.outside.example", "550 5.1.2 There is no domain missing.outside.example"),
    ("anyone@empty.outside.example", "550 5.4.4 empty.outside.example has no address"),
])
def test_what_cannot_be_delivered_is_reported(site: Site, outside: Outside, address: str, words: str) -> None:
    who = site.account("writer")
    send(site, who, letter("Lost", address, sender=who.address), [address])
    said = report(site, who)
    assert f"Final-Recipient: rfc822; {address}\r\nAction: failed" in said
    assert words in said


def test_strangers_cannot_use_the_island_to_send(site: Site, outside: Outside) -> None:
    with smtplib.SMTP("localhost", site.ports["smtp"], timeout=30) as client:
        client.ehlo("stranger.example")
        client.mail("a@stranger.example")
        code, words = client.rcpt("friend@outside.example")
    assert (code, words.split()[0]) == (550, b"5.7.1")


def test_a_group_reaches_its_members_here_and_elsewhere(site: Site, outside: Outside) -> None:
    who, other, before = site.account("writer"), site.account("member"), len(outside.arrived_now())
    site.atoll("group", "create", "team@example.test", "--member", other.address, "--member", "friend@outside.example",
               "--member", "nobody@outside.example")
    with smtplib.SMTP("localhost", site.ports["smtp"], timeout=30) as stranger, \
            pytest.raises(smtplib.SMTPDataError, match=r"5\.7\.1 You may not send to this group"):
        stranger.send_message(letter("Strange", "team@example.test"), "a@stranger.example", ["team@example.test"])
    send(site, who, letter("To all", "team@example.test", sender=who.address), ["team@example.test"])
    assert outside.arrived(before + 1)[-1]["Subject"] == "To all"
    until(lambda: [one.subject for one in site.held(other)] == ["To all"])
    said = report(site, who)
    assert "Original-Recipient: rfc822;team@example.test\r\nFinal-Recipient: rfc822; nobody@outside.example" in said
    assert "Final-Recipient: rfc822; friend" not in said


def queued(site: Site) -> dict[str, Any]:
    return {row["queue"]: row for row in json.loads(site.atoll("queue", "list", "--json"))["queues"]}


def test_a_server_that_is_away_gets_its_mail_when_it_is_back(site: Site, outside: Outside) -> None:
    who, before = site.account("writer"), len(outside.arrived_now())
    outside.__exit__()
    try:
        for number in range(30):
            send(site, who, letter(f"Waits {number}", "friend@outside.example", sender=who.address),
                 ["friend@outside.example"])
        until(lambda: queued(site).get("outside.example", {}).get("state") == "retry")
        row = queued(site)["outside.example"]
        assert row["messages"] == 30
        assert row["last_error"] == "451 4.4.1 gone.outside.example cannot be reached: connection refused"
        assert 30 < row["next_try"] / 1000 - time.time() < 70
    finally:
        outside.__enter__()
    site.atoll("queue", "retry", "--queue", "outside.example")
    found = outside.arrived(before + 30)
    assert sorted(one["Subject"] for one in found[before:]) == sorted(f"Waits {number}" for number in range(30))
    assert queued(site) == {}
    assert site.held(who) == [], "no report"


def test_transport_dies_while_it_sends_and_nothing_is_lost(site: Site, outside: Outside) -> None:
    who, before = site.account("writer"), len(outside.arrived_now())
    for first in range(0, 100, 25):
        with smtplib.SMTP_SSL("localhost", site.ports["submissions"], context=site.tls(), timeout=30) as client:
            client.login(who.address, who.password)
            for number in range(first, first + 25):
                client.send_message(letter(f"Through {number}", "friend@outside.example", sender=who.address))
        site.island.wait_back("transport", site.island.kill("transport"))
    site.atoll("queue", "retry")
    until(lambda: queued(site) == {})
    subjects = [one["Subject"] for one in outside.arrived_now()[before:]]
    assert set(subjects) == {f"Through {number}" for number in range(100)}
    assert len(subjects) <= 110, "only what was under way at a death may come twice"
    assert site.held(who) == [], "no report"


def test_a_queue_is_suspended_looked_into_and_resumed(site: Site, outside: Outside, tmp_path: Path) -> None:
    who, before = site.account("writer"), len(outside.arrived_now())
    site.atoll("queue", "suspend", "outside.example")
    send(site, who, letter("Held", "friend@outside.example", sender=who.address), ["friend@outside.example"])
    assert queued(site)["outside.example"]["state"] == "suspended"
    site.atoll("role", "restart", "transport")
    site.atoll("queue", "retry")
    assert queued(site)["outside.example"]["state"] == "suspended", "a restart and a retry change nothing"
    waiting = json.loads(site.atoll("queue", "show", "outside.example", "--json"))["messages"][0]
    site.atoll("queue", "export", waiting["id"], str(tmp_path / "held.eml"))
    assert b"\r\nSubject: Held\r\n" in (tmp_path / "held.eml").read_bytes()
    time.sleep(0.5)
    assert len(outside.arrived_now()) == before
    site.atoll("queue", "resume", "outside.example")
    assert outside.arrived(before + 1)[-1]["Subject"] == "Held"


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
