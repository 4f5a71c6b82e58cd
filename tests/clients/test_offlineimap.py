"""offlineimap: the island and a Maildir, changed on both sides between runs."""

from __future__ import annotations

import mailbox
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.mailsite import Account, Site, letter, run, secret

pytestmark = [pytest.mark.client("offlineimap"), pytest.mark.island]
Tool = Callable[[str], str]


def configure(site: Site, who: Account, home: Path) -> Path:
    return secret(
        home / "rc",
        f"""
[general]
accounts = island
metadata = {home}/state
ui = basic

[Account island]
localrepository = here
remoterepository = there

[Repository here]
type = Maildir
localfolders = {home}/mail

[Repository there]
type = IMAP
remotehost = localhost
remoteport = {site.ports["imaps"]}
remoteuser = {who.address}
remotepass = {who.password}
ssl = yes
ssl_version = tls1_2
tls_level = tls_compat
sslcacertfile = {site.ca}
""",
    )


def near(home: Path, folder: str = "INBOX") -> dict[str, Path]:
    box = mailbox.Maildir(home / "mail" / folder, create=False)
    found = {}
    for key in box.keys():  # noqa: SIM118 - a Maildir iterates over messages
        path = next(p for part in ("new", "cur") for p in (home / "mail" / folder / part).glob(key + "*"))
        found[box[key]["subject"]] = path
    return found


def test_both_sides_change(site: Site, tool: Tool, tmp_path: Path) -> None:
    alice = site.account("alice")
    sync = [tool("offlineimap"), "-c", str(configure(site, alice, tmp_path)), "-o", "-1"]
    for number in range(4):
        site.put(alice, f"m{number}", flags=r"(\Seen)" if number == 3 else "")
    run(sync, tmp_path)
    assert sorted(near(tmp_path)) == ["m0", "m1", "m2", "m3"]

    box = tmp_path / "mail" / "INBOX"
    path = near(tmp_path)["m0"]
    os.rename(path, box / "cur" / (path.name.partition(":")[0] + ":2,FS"))
    near(tmp_path)["m1"].unlink()
    (box / "cur" / "1.local.here:2,S").write_bytes(bytes(letter("written here", alice.address)))
    with site.imap(alice, "INBOX") as other:
        other.store("3", "+FLAGS", r"\Deleted")
        other.expunge()
        other.create("There")
    site.put(alice, "arrived there")
    site.put(alice, "filed there", folder="There")
    run(sync, tmp_path)

    expected = ["arrived there", "m0", "m3", "written here"]
    assert sorted(near(tmp_path)) == expected == site.subjects(alice)
    flags = {message.subject: message.flags for message in site.held(alice)}
    assert flags["m0"] == {r"\Flagged", r"\Seen"}
    assert flags["written here"] == {r"\Seen"}
    assert list(near(tmp_path, "There")) == ["filed there"]
    before = site.held(alice)
    run(sync, tmp_path)
    assert before == site.held(alice)
    assert sorted(near(tmp_path)) == expected
