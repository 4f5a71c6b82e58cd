"""mbsync: a Maildir and the island, changed on both sides between runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.mailsite import Account, Site, letter, run, secret

pytestmark = [pytest.mark.client("mbsync"), pytest.mark.island]
Tool = Callable[[str], str]


def configure(site: Site, who: Account, home: Path) -> Path:
    (home / "mail").mkdir(parents=True, exist_ok=True)
    return secret(
        home / "mbsyncrc",
        f"""
IMAPAccount island
Host localhost
Port {site.ports["imaps"]}
User {who.address}
Pass "{who.password}"
SSLType IMAPS
CertificateFile {site.ca}
SystemCertificates no

IMAPStore far
Account island

MaildirStore near
Path {home}/mail/
Inbox {home}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
CopyArrivalDate yes
""",
    )


def subject(path: Path) -> str:
    for line in path.read_text(errors="replace").splitlines():
        if line.lower().startswith("subject: "):
            return line[9:]
    return ""


def near(home: Path, folder: str = "INBOX") -> dict[str, tuple[Path, str]]:
    """Subject -> (file, its Maildir flags)."""
    found = {}
    for part in ("new", "cur"):
        for path in (home / "mail" / folder / part).glob("*"):
            found[subject(path)] = (path, path.name.partition(":2,")[2])
    return found


def test_both_sides_change(site: Site, tool: Tool, tmp_path: Path) -> None:
    alice = site.account("alice")
    sync = [tool("mbsync"), "-c", str(configure(site, alice, tmp_path)), "-a"]
    for number in range(6):
        site.put(alice, f"m{number}", flags=r"(\Seen)" if number == 5 else "")
    site.put(alice, "sent", folder="Sent") if "Sent" in site.folders(alice) else None
    run(sync, tmp_path)
    assert sorted(near(tmp_path)) == [f"m{n}" for n in range(6)]
    assert near(tmp_path)["m5"][1] == "S"
    assert near(tmp_path)["m0"][1] == ""

    # here: read m0, flag m1, delete m2, write one, a new folder with one
    box = tmp_path / "mail" / "INBOX"
    for name, flags in (("m0", "S"), ("m1", "F"), ("m2", "T")):
        path = near(tmp_path)[name][0]
        os.rename(path, box / "cur" / (path.name.partition(":")[0] + f":2,{flags}"))
    (box / "cur" / "1.local.here:2,S").write_bytes(bytes(letter("written here", alice.address)))
    for part in ("cur", "new", "tmp"):
        (tmp_path / "mail" / "Made here" / part).mkdir(parents=True)
    (tmp_path / "mail" / "Made here" / "cur" / "2.local.here:2,").write_bytes(
        bytes(letter("in new folder", alice.address))
    )
    # there: delete m3, answer m4, one more, a new folder with one
    with site.imap(alice, "INBOX") as other:
        for number, flag in (("4", r"\Deleted"), ("5", r"\Answered")):
            other.store(number, "+FLAGS", flag)
        other.expunge()
        other.create("Made/there")
    site.put(alice, "arrived there")
    site.put(alice, "filed there", folder="Made/there")
    run(sync, tmp_path)

    expected = ["arrived there", "m0", "m1", "m4", "m5", "written here"]
    assert sorted(near(tmp_path)) == expected == site.subjects(alice)
    flags = {message.subject: message.flags for message in site.held(alice)}
    assert flags["m0"] == {r"\Seen"}
    assert flags["m1"] == {r"\Flagged"}
    assert flags["written here"] == {r"\Seen"}
    assert near(tmp_path)["m4"][1] == "R"
    assert site.subjects(alice, "Made here") == ["in new folder"]
    assert list(near(tmp_path, "Made/there")) == ["filed there"]
    for name, (path, _) in near(tmp_path).items():
        (held,) = [message for message in site.held(alice) if message.subject == name]
        assert without_tuid(path.read_bytes()) == without_tuid(held.data.replace(b"\r\n", b"\n"))

    # nothing is left to do: a third run changes nothing on either side
    before = (site.held(alice), {name: (path.name, flags) for name, (path, flags) in near(tmp_path).items()})
    run(sync, tmp_path)
    assert before == (site.held(alice), {name: (path.name, flags) for name, (path, flags) in near(tmp_path).items()})


def without_tuid(data: bytes) -> bytes:
    """mbsync marks what it uploads with a header of its own."""
    return b"\n".join(line for line in data.split(b"\n") if not line.startswith(b"X-TUID: "))
