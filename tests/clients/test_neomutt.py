"""neomutt with imap_qresync: a header cache that must agree with the server after others changed the mailbox."""

from __future__ import annotations

import mailbox
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.mailsite import Account, Site, letter, secret
from tests.clients.terminal import Terminal

pytestmark = [pytest.mark.client("neomutt"), pytest.mark.island]
Tool = Callable[[str], str]


def configure(site: Site, who: Account, home: Path) -> Path:
    home.mkdir(exist_ok=True)
    for cache in ("cache", "bodies"):
        (home / cache).mkdir(exist_ok=True)
    return secret(
        home / "muttrc",
        f"""
set imap_user="{who.address}" imap_pass="{who.password}"
set folder="imaps://localhost:{site.ports["imaps"]}" spoolfile="+INBOX" record="" postponed="+Drafts" trash=""
set imap_qresync=yes imap_condstore=yes imap_idle=yes header_cache="{home}/cache" message_cachedir="{home}/bodies"
set certificate_file="{site.ca}" ssl_verify_host=yes ssl_force_tls=yes
set mail_check=1 timeout=1 wait_key=no delete=yes quit=yes move=no save_empty=no
set confirmappend=no confirmcreate=no sleep_time=0
set beep=no mark_old=no resolve=no abort_unmodified=no abort_nosubject=no sort=mailbox-order auto_tag=no copy=no
set debug_level=3 debug_file="{home}/debug"
set print=yes print_command="cat >> {home}/printed"
""",
    )


def script(tool: Tool, home: Path, *keys: str) -> None:
    """Start, press the keys, and leave as the keys say."""
    pushed = "".join(keys)
    with Terminal([tool("neomutt"), "-n", "-F", str(home / "muttrc"), "-e", f"push '{pushed}'"], home) as terminal:
        assert terminal.end() == 0, terminal.said[-2000:].decode(errors="replace")


def copied(home: Path, name: str) -> dict[str, bytes]:
    """Subject -> text of a local mbox."""
    box = mailbox.mbox(home / name)
    return {message["subject"]: message.get_payload(decode=True) for message in box}


def test_work_and_come_back(site: Site, tool: Tool, tmp_path: Path) -> None:
    alice = site.account("alice")
    configure(site, alice, tmp_path)
    for number in range(5):
        site.put(alice, f"n{number}", body=f"body {number}\n")
    with site.imap(alice) as client:
        client.create("Kept")
    everything = "<tag-pattern>~A<enter><tag-prefix>"
    script(
        tool,
        tmp_path,
        "<first-entry><flag-message><next-entry><delete-message><next-entry><save-message>=Kept<enter>",
        f"<sync-mailbox>{everything}<copy-message>{tmp_path}/first<enter>",
        "<quit>",
    )
    assert site.subjects(alice) == ["n0", "n3", "n4"]
    assert site.subjects(alice, "Kept") == ["n2"]
    assert r"\Flagged" in {m.subject: m.flags for m in site.held(alice)}["n0"]
    assert sorted(copied(tmp_path, "first")) == ["n0", "n3", "n4"]

    # meanwhile another client: n3 goes, n4 is answered, one arrives
    with site.imap(alice, "INBOX") as client:
        (number,) = client.search(None, 'SUBJECT "n3"')[1][0].split()
        client.store(number, "+FLAGS", r"\Deleted")
        client.expunge()
        client.store("2", "+FLAGS", r"\Answered")
    site.send(alice, "arrived", body="fresh\n")
    (tmp_path / "debug0").unlink(missing_ok=True)
    script(
        tool,
        tmp_path,
        f"{everything}<copy-message>{tmp_path}/second<enter>",
        f"<limit>~Q<enter>{everything}<copy-message>{tmp_path}/answered<enter><limit>all<enter>",
        "<quit>",
    )
    second = copied(tmp_path, "second")
    assert sorted(second) == ["arrived", "n0", "n4"]
    assert second["arrived"] == b"fresh\n"
    assert sorted(copied(tmp_path, "answered")) == ["n4"]
    log = "".join(path.read_text(errors="replace") for path in tmp_path.glob("debug*"))
    assert " VANISHED)" in log, "neomutt did not use QRESYNC"
    assert "cmd_parse_vanished" in log


def test_its_cache_agrees(site: Site, tool: Tool, tmp_path: Path) -> None:
    """neomutt checks its cache against what QRESYNC told: flags and arrivals leave it in agreement.

    (This neomutt counts wrongly by itself once a message has gone, and reads the folder again, whatever the server.)
    """
    alice = site.account("alice")
    configure(site, alice, tmp_path)
    for number in range(5):
        site.put(alice, f"n{number}")
    script(tool, tmp_path, "<quit>")
    with site.imap(alice, "INBOX") as client:
        client.store("2", "+FLAGS", r"\Answered")
    site.send(alice, "arrived")
    (tmp_path / "debug0").unlink()
    script(
        tool,
        tmp_path,
        f"<tag-pattern>~A<enter><tag-prefix><copy-message>{tmp_path}/all<enter>",
        f"<untag-pattern>~A<enter><tag-pattern>~Q<enter><tag-prefix><copy-message>{tmp_path}/answered<enter>",
        "<quit>",
    )
    assert sorted(copied(tmp_path, "all")) == ["arrived", "n0", "n1", "n2", "n3", "n4"]
    assert sorted(copied(tmp_path, "answered")) == ["n1"]
    log = (tmp_path / "debug0").read_text(errors="replace")
    assert " VANISHED)" in log
    assert "QRESYNC failed" not in log


def test_told_while_open(site: Site, tool: Tool, tmp_path: Path) -> None:
    """IDLE: a message that arrives while the folder is open is there without a key that asks."""
    alice = site.account("alice")
    configure(site, alice, tmp_path)
    site.put(alice, "before")
    with Terminal([tool("neomutt"), "-n", "-F", str(tmp_path / "muttrc")], tmp_path) as terminal:
        site.wait(lambda: terminal.pump(0.2) or b"before" in terminal.said)
        site.send(alice, "while you look")
        site.wait(lambda: terminal.pump(0.2) or b"while you look" in terminal.said, 20)
        terminal.press("q")
        assert terminal.end() == 0


def test_draft_is_postponed_on_the_server(site: Site, tool: Tool, tmp_path: Path) -> None:
    alice = site.account("alice")
    configure(site, alice, tmp_path)
    (tmp_path / "draft").write_bytes(bytes(letter("half written", "bob@outside.example", sender=alice.address)))
    command = [
        tool("neomutt"),
        "-n",
        "-F",
        str(tmp_path / "muttrc"),
        "-e",
        "set editor=true",
        "-e",
        "push '<mail>bob@outside.example<enter>half written<enter><postpone-message><quit>'",
    ]
    with Terminal(command, tmp_path) as terminal:
        assert terminal.end() == 0, terminal.said[-2000:].decode(errors="replace")
    (draft,) = site.held(alice, "Drafts")
    assert draft.subject == "half written"
    assert r"\Draft" in draft.flags
