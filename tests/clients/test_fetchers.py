"""fetchmail and getmail: mail leaves by POP3 and IMAP, once; msmtp: it comes in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.mailsite import Account, Site, letter, run, secret

pytestmark = pytest.mark.island
Tool = Callable[[str], str]
BODY = "one\n.\n..two\nFrom three\n"


def fill(site: Site, who: Account) -> None:
    for number in range(3):
        site.send(who, f"n{number}", body=BODY)


def make_sink(home: Path) -> Path:
    """A delivery agent that keeps each message in a file of its own."""
    sink = home / "sink"
    sink.write_text(f"#!/bin/sh\nf=$(mktemp {home}/got.XXXXXX)\ncat > $f\n")
    sink.chmod(0o755)
    return sink


def got(home: Path) -> list[str]:
    """The subjects of what was delivered; the text of each is whole."""
    subjects = []
    for path in home.glob("got.*"):
        text = path.read_text().replace("\r\n", "\n")
        assert "one\n.\n..two\n" in text
        assert "From three\n" in text
        subjects += [line[9:] for line in text.splitlines() if line.startswith("Subject: ")]
    return sorted(subjects)


@pytest.mark.client("fetchmail")
@pytest.mark.parametrize(
    ("service", "protocol", "tls"),
    [
        ("pop3s", "pop3", "ssl"),
        ("pop3", "pop3", "sslproto tls1.2+"),
        ("imaps", "imap", "ssl"),
        ("imap", "imap", "sslproto tls1.2+"),
    ],
)
def test_fetchmail(site: Site, tool: Tool, tmp_path: Path, service: str, protocol: str, tls: str) -> None:
    alice = site.account("alice")
    fill(site, alice)
    sink = make_sink(tmp_path)
    uidl = "uidl" if protocol == "pop3" else ""
    rc = secret(
        tmp_path / "rc",
        f"""
set idfile "{tmp_path}/ids"
set no bouncemail
poll localhost service {site.ports[service]} protocol {protocol} {uidl}
  user "{alice.address}" password "{alice.password}" {tls} sslcertck sslcertfile "{site.ca}" mda "{sink}" keep
""",
    )
    fetch = [tool("fetchmail"), "-f", str(rc), "--nosyslog", "--pidfile", str(tmp_path / "pid"), "-v"]
    run(fetch, tmp_path)
    assert got(tmp_path) == ["n0", "n1", "n2"]
    site.send(alice, "n3", body=BODY)
    run(fetch, tmp_path)
    assert got(tmp_path) == ["n0", "n1", "n2", "n3"]  # the kept ones are not fetched again
    assert site.subjects(alice) == ["n0", "n1", "n2", "n3"]
    run([*fetch, "--nokeep", "--fetchall"], tmp_path)
    assert site.held(alice) == []


@pytest.mark.client("getmail")
@pytest.mark.parametrize(
    ("retriever", "service"), [("SimplePOP3SSLRetriever", "pop3s"), ("SimpleIMAPSSLRetriever", "imaps")]
)
def test_getmail(site: Site, tool: Tool, tmp_path: Path, retriever: str, service: str) -> None:
    alice = site.account("alice")
    fill(site, alice)
    rc = secret(
        tmp_path / "getmailrc",
        f"""
[retriever]
type = {retriever}
server = localhost
port = {site.ports[service]}
username = {alice.address}
password = {alice.password}
ca_certs = {site.ca}

[destination]
type = MDA_external
path = {make_sink(tmp_path)}
allow_root_commands = true

[options]
read_all = false
delete = false
delivered_to = false
received = false
""",
    )
    fetch = [tool("getmail"), "--getmaildir", str(tmp_path), "--rcfile", str(rc)]
    run(fetch, tmp_path)
    assert got(tmp_path) == ["n0", "n1", "n2"]
    site.send(alice, "n3", body=BODY)
    run(fetch, tmp_path)
    assert got(tmp_path) == ["n0", "n1", "n2", "n3"]
    assert len(site.held(alice)) == 4
    run([*fetch, "--delete", "--all"], tmp_path)
    assert site.held(alice) == []
    assert len(got(tmp_path)) >= 4


@pytest.mark.client("msmtp")
@pytest.mark.parametrize(("service", "starttls"), [("submission", "on"), ("submissions", "off")])
def test_msmtp(site: Site, tool: Tool, tmp_path: Path, service: str, starttls: str) -> None:
    alice, bob = site.account("alice"), site.account("bob")
    rc = secret(
        tmp_path / "rc",
        f"""
account default
host localhost
port {site.ports[service]}
auth plain
user {alice.address}
password {alice.password}
from {alice.address}
tls on
tls_starttls {starttls}
tls_trust_file {site.ca}
""",
    )
    run(
        [tool("msmtp"), "-C", str(rc), bob.address],
        tmp_path,
        stdin=letter("by msmtp", bob.address, sender=alice.address).as_string(),
    )
    assert site.subjects(bob) == ["by msmtp"]
