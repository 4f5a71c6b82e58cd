"""interimap: two mailboxes of the island kept alike by QRESYNC alone, on both ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.mailsite import Account, Seen, Site, run, secret

pytestmark = [pytest.mark.client("interimap"), pytest.mark.island]
Tool = Callable[[str], str]


def configure(site: Site, here: Account, there: Account, home: Path) -> Path:
    sections = [f"database = {home}/state.db\nlogfile = {home}/log\n"]
    for name, who in (("local", here), ("remote", there)):
        sections.append(
            f"[{name}]\ntype = imaps\nhost = localhost\nport = {site.ports['imaps']}\nusername = {who.address}\n"
            f"password = {who.password}\nSSL_CAfile = {site.ca}\nSSL_verify = YES\n"
        )
    return secret(home / "config", "\n".join(sections))


def alike(messages: list[Seen]) -> list[tuple[bytes, frozenset[str]]]:
    return sorted((message.data, message.flags) for message in messages)


def test_both_ends_change(site: Site, tool: Tool, tmp_path: Path) -> None:
    alice, bob = site.account("alice"), site.account("bob")
    sync = [tool("interimap"), f"--config={configure(site, alice, bob, tmp_path)}", "--debug"]
    home = {"XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    for number in range(4):
        site.put(alice, f"a{number}", flags=r"(\Seen)" if number == 0 else "")
    site.put(bob, "b0")
    with site.imap(alice) as client:
        client.create("Projects")
    site.put(alice, "planned", folder="Projects")
    run(sync, tmp_path, **home)
    assert alike(site.held(alice)) == alike(site.held(bob))
    assert site.subjects(bob) == ["a0", "a1", "a2", "a3", "b0"]
    assert site.subjects(bob, "Projects") == ["planned"]

    with site.imap(alice, "INBOX") as client:  # 1:4 are a0 to a3, 5 came from the other end
        client.store("2", "+FLAGS", r"(\Flagged $Later)")
        client.store("3", "+FLAGS", r"\Deleted")
        client.expunge()
    with site.imap(bob, "INBOX") as client:
        (number,) = client.search(None, 'SUBJECT "a3"')[1][0].split()
        client.store(number, "+FLAGS", r"(\Seen \Answered)")
        (number,) = client.search(None, 'SUBJECT "a0"')[1][0].split()
        client.store(number, "+FLAGS", r"\Deleted")
        client.expunge()
    site.put(bob, "b1")
    (tmp_path / "log").unlink()
    run(sync, tmp_path, **home)
    assert site.subjects(alice) == ["a1", "a3", "b0", "b1"]
    assert alike(site.held(alice)) == alike(site.held(bob))
    flags = {message.subject: message.flags for message in site.held(bob)}
    assert flags["a1"] == {r"\Flagged", "$Later"}
    assert flags["a3"] == {r"\Seen", r"\Answered"}

    # it was QRESYNC that told: the SELECT carried it on both ends, and VANISHED (EARLIER) came back
    said = (tmp_path / "log").read_text(errors="replace")
    for end in ("local", "remote"):
        assert re.search(rf"{end}.*: C: \d+ SELECT INBOX \(QRESYNC \(\d+ \d+", said), said
        assert re.search(rf"{end}.*: S: \* VANISHED \(EARLIER\) \d+", said), said

    # it settles: a third run may look at what the second one wrote, a fourth need not select anything
    before = (site.held(alice), site.held(bob))
    for _ in range(2):
        (tmp_path / "log").unlink()
        run(sync, tmp_path, **home)
        assert before == (site.held(alice), site.held(bob))
    said = re.findall(r": C: .*", (tmp_path / "log").read_text(errors="replace"))
    assert not re.search(" (SELECT|STORE|APPEND|EXPUNGE) ", "\n".join(said)), said
