"""curl: IMAP, POP3 and SMTP, with TLS from the start and with STARTTLS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.mailsite import Account, Site, letter, run
from tests.island import Island

pytestmark = [pytest.mark.client("curl"), pytest.mark.island]
Tool = Callable[[str], str]


def curl(site: Site, tool: Tool, home: Path, who: Account | None, url: str, *more: str) -> str:
    sign_in = ["--user", f"{who.address}:{who.password}"] if who else []
    command = [tool("curl"), "--silent", "--show-error", "--ssl-reqd", "--cacert", str(site.ca), "--max-time", "30"]
    return run([*command, *sign_in, url, *more], home).stdout


@pytest.mark.parametrize(("scheme", "service"), [("imaps", "imaps"), ("imap", "imap")])
def test_imap(site: Site, tool: Tool, tmp_path: Path, scheme: str, service: str) -> None:
    alice = site.account("alice")
    base = f"{scheme}://localhost:{site.ports[service]}"
    text = bytes(letter("by curl", to=alice.address, body="grüße\n")).replace(b"\n", b"\r\n")
    (tmp_path / "message").write_bytes(text)
    curl(site, tool, tmp_path, alice, f"{base}/INBOX", "--upload-file", str(tmp_path / "message"))
    (message,) = site.held(alice)
    assert message.data == text
    assert "INBOX" in curl(site, tool, tmp_path, alice, f"{base}/")
    assert "* SEARCH 1" in curl(site, tool, tmp_path, alice, f"{base}/INBOX?SUBJECT%20curl")
    got = run(
        [
            tool("curl"),
            "--silent",
            "--ssl-reqd",
            "--cacert",
            str(site.ca),
            "--user",
            f"{alice.address}:{alice.password}",
            f"{base}/INBOX;UID={message.uid}",
            "--output",
            "got",
        ],
        tmp_path,
    )
    assert got.returncode == 0
    assert (tmp_path / "got").read_bytes() == text
    curl(site, tool, tmp_path, alice, f"{base}/INBOX", "--request", "STORE 1 +FLAGS (\\Deleted)")
    curl(site, tool, tmp_path, alice, f"{base}/INBOX", "--request", "EXPUNGE")
    assert site.held(alice) == []


@pytest.mark.parametrize(("scheme", "service"), [("pop3s", "pop3s"), ("pop3", "pop3")])
def test_pop3(site: Site, tool: Tool, tmp_path: Path, scheme: str, service: str) -> None:
    alice = site.account("alice")
    site.send(alice, "first", body="one\n.\n..dots\n")
    site.send(alice, "second")
    base = f"{scheme}://localhost:{site.ports[service]}"
    listed = curl(site, tool, tmp_path, alice, f"{base}/").split("\n")
    assert len([line for line in listed if line.strip()]) == 2
    run(
        [
            tool("curl"),
            "--silent",
            "--ssl-reqd",
            "--cacert",
            str(site.ca),
            "--user",
            f"{alice.address}:{alice.password}",
            f"{base}/1",
            "--output",
            "got",
        ],
        tmp_path,
    )
    held = {message.subject: message for message in site.held(alice)}
    assert (tmp_path / "got").read_bytes() == held["first"].data
    curl(site, tool, tmp_path, alice, f"{base}/2", "--request", "DELE", "--list-only")
    assert site.subjects(alice) == ["first"]


@pytest.mark.parametrize(
    ("scheme", "service", "signed_in"),
    [("smtp", "smtp", False), ("smtp", "submission", True), ("smtps", "submissions", True)],
)
def test_smtp(site: Site, tool: Tool, tmp_path: Path, scheme: str, service: str, signed_in: bool) -> None:
    alice, bob = site.account("alice"), site.account("bob")
    sender = alice.address if signed_in else "a@outside.example"
    text = bytes(letter(f"curl to {service}", to=bob.address, sender=sender)).replace(b"\n", b"\r\n")
    (tmp_path / "message").write_bytes(text)
    curl(
        site,
        tool,
        tmp_path,
        alice if signed_in else None,
        f"{scheme}://localhost:{site.ports[service]}/client.example",
        "--mail-from",
        sender,
        "--mail-rcpt",
        bob.address,
        "--upload-file",
        str(tmp_path / "message"),
    )
    (message,) = site.held(bob)
    assert message.data.endswith(text)


@pytest.fixture
def new_island() -> Iterator[Island]:
    """Of its own: nobody has written to it."""
    with Island() as running:
        yield running


def test_the_commands_of_the_readme(new_island: Island, tool: Tool) -> None:
    """A stranger types them as they stand: what is sent is what is read. Here the ports and the password differ."""
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8").replace("\\\n", " ")
    send, read = re.findall(r"^\$ (.*\bcurl .*?)(?:\s+#.*)?$", text, re.MULTILINE)
    login = f"alice@{new_island.domain}"
    for old, new in (
        ("localhost:10025", f"localhost:{new_island.ports['smtp']}"),
        ("localhost:10993", f"localhost:{new_island.ports['imaps']}"),
        ("data/tls/ca.pem", str(new_island.data / "tls" / "ca.pem")),
        (f"-u {login}", f"-u {login}:{new_island.password('alice')}"),
        ("curl ", f"{tool('curl')} --silent "),
    ):
        send, read = send.replace(old, new), read.replace(old, new)
    run(["sh", "-c", send], new_island.data)
    assert "first mail" in run(["sh", "-c", read], new_island.data).stdout
