"""Thunderbird: a day's work with one account, seen from the server's side after each act."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.mailsite import Site
from tests.clients.thunderbird import Thunderbird

pytestmark = [pytest.mark.client("thunderbird"), pytest.mark.island]
Tool = Callable[[str], str]


def test_a_days_work(own_site: Site, tool: Tool, tmp_path: Path) -> None:
    site = own_site
    alice, bob = site.account("alice"), site.account("bob")
    site.send(alice, "here before", body="read me\n")
    with Thunderbird(tool("thunderbird"), tmp_path / "bird") as bird:
        bird.trust(site.ca)
        bird.set_up(alice.address, alice.password, site.ports["imaps"], site.ports["submissions"])
        bird.open("INBOX")
        bird.wait_for("INBOX", "here before")
        assert "read me" in bird.body("INBOX", "here before")

        site.send(alice, "while open", body="from bob\n")
        bird.wait_for("INBOX", "while open")

        bird.mark("INBOX", "here before")
        site.wait(lambda: {m.subject: m.flags for m in site.held(alice)}["here before"] >= {r"\Seen", r"\Flagged"})

        site.put(alice, "question", flags="", body="well?\n")
        bird.wait_for("INBOX", "question")
        bird.compose(bob.address, "a letter", "dear bob")
        bird.press("cmd_sendNow")
        site.wait(lambda: site.subjects(bob) == ["a letter"])
        assert b"dear bob" in site.held(bob)[0].data
        site.wait(lambda: "a letter" in site.subjects(alice, "Sent"))

        bird.compose(bob.address, "half a letter", "dear")
        bird.press("cmd_saveAsDraft")
        site.wait(lambda: site.subjects(alice, "Drafts") == ["half a letter"])
        assert r"\Draft" in site.held(alice, "Drafts")[0].flags

        bird.make_folder("Projects")
        assert "Projects" in site.folders(alice)
        bird.move("INBOX", "while open", "Projects")
        site.wait(lambda: site.subjects(alice, "Projects") == ["while open"])
        bird.delete("INBOX", "question")
        site.wait(lambda: site.subjects(alice, "Trash") == ["question"])
        assert site.subjects(alice) == ["here before"]

        bird.reply("INBOX", "here before")
        bird.press("cmd_saveAsDraft")
        site.wait(lambda: "Re: here before" in site.subjects(alice, "Drafts"))


def test_answers_a_colleague(own_site: Site, tool: Tool, tmp_path: Path) -> None:
    """A reply reaches the colleague, threads by In-Reply-To, and the question is marked answered."""
    site = own_site
    alice, bob = site.account("alice"), site.account("bob")
    with Thunderbird(tool("thunderbird"), tmp_path / "bird") as bird:
        bird.trust(site.ca)
        bird.set_up(alice.address, alice.password, site.ports["imaps"], site.ports["submissions"])
        bird.open("INBOX")
        site.send(alice, "question", body="well?\n", sender=bob.address)
        bird.wait_for("INBOX", "question")
        bird.reply("INBOX", "question")
        bird.press("cmd_sendNow")
        (answer,) = site.wait(lambda: site.held(bob))
        asked = site.held(alice)[0]
        assert answer.subject == "Re: question"
        assert answer.header("In-Reply-To") == asked.header("Message-ID")
        site.wait(lambda: r"\Answered" in site.held(alice)[0].flags)


def test_the_server_restarts_while_it_is_open(own_site: Site, tool: Tool, tmp_path: Path) -> None:
    site = own_site
    alice = site.account("alice")
    site.send(alice, "before")
    with Thunderbird(tool("thunderbird"), tmp_path / "bird") as bird:
        bird.trust(site.ca)
        bird.set_up(alice.address, alice.password, site.ports["imaps"], site.ports["submissions"])
        bird.open("INBOX")
        bird.wait_for("INBOX", "before")
        site.island.restart()
        site.send(alice, "after")
        bird.open("INBOX")  # a click is enough: no question for a password, no error to close
        bird.wait_for("INBOX", "after")
        bird.delete("INBOX", "before")
        site.wait(lambda: site.subjects(alice) == ["after"])
        site.send(alice, "told again")
        bird.wait_for("INBOX", "told again")
        assert bird.shown("INBOX") == ["after", "told again"]
