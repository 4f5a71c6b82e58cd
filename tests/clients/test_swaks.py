"""swaks: mail comes in on 25, 587 and 465; what must be refused is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.mailsite import Site, run

pytestmark = [pytest.mark.client("swaks"), pytest.mark.island]
Tool = Callable[[str], str]


def swaks(site: Site, tool: Tool, home: Path, service: str, *more: str, ok: tuple[int, ...] = (0,)) -> str:
    command = [
        tool("swaks"),
        "--server",
        "localhost",
        "--port",
        str(site.ports[service]),
        "--timeout",
        "20",
        "--tls-verify",
        "--tls-ca-path",
        str(site.ca),
        "--ehlo",
        "client.example",
        *more,
    ]
    got = run(command, home, ok=ok)
    return got.stdout + got.stderr


def test_starttls_on_25(site: Site, tool: Tool, tmp_path: Path) -> None:
    bob = site.account("bob")
    swaks(
        site,
        tool,
        tmp_path,
        "smtp",
        "--tls",
        "--from",
        "a@outside.example",
        "--to",
        bob.address,
        "--header",
        "Subject: by 25",
        "--body",
        ".leading dot\n..two\nlast",
    )
    (message,) = site.held(bob)
    assert message.subject == "by 25"
    assert (
        message.data.endswith(b"\r\n\r\n.leading dot\r\n..two\r\nlast\r\n\r\n\r\n")
        or b".leading dot\r\n..two\r\nlast" in message.data
    )
    assert message.data.startswith(b"Return-Path: <a@outside.example>\r\n")
    assert b" with ESMTPS" in message.data
    assert b"client.example" in message.data


@pytest.mark.parametrize(("service", "tls"), [("submission", "--tls"), ("submissions", "--tls-on-connect")])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_submission(site: Site, tool: Tool, tmp_path: Path, service: str, tls: str, mechanism: str) -> None:
    alice, bob = site.account("alice"), site.account("bob")
    swaks(
        site,
        tool,
        tmp_path,
        service,
        tls,
        "--auth",
        mechanism,
        "--auth-user",
        alice.address,
        "--auth-password",
        alice.password,
        "--from",
        alice.address,
        "--to",
        bob.address,
        "--header",
        f"Subject: {service} {mechanism}",
    )
    (message,) = site.held(bob)
    assert message.subject == f"{service} {mechanism}"
    assert b" with ESMTPSA" in message.data


def test_many_recipients_get_one_each(site: Site, tool: Tool, tmp_path: Path) -> None:
    people = [site.account("many") for _ in range(3)]
    swaks(
        site,
        tool,
        tmp_path,
        "smtp",
        "--tls",
        "--from",
        "a@outside.example",
        "--to",
        ",".join(person.address for person in people),
        "--header",
        "Subject: to three",
    )
    assert [site.subjects(person) for person in people] == [["to three"]] * 3


@pytest.mark.parametrize(
    ("service", "more", "says"),
    [
        ("smtp", ["--tls", "--to", "somebody@elsewhere.example"], " 55"),
        ("smtp", ["--tls", "--to", "nobody-here@{domain}"], " 550 "),
        ("smtp", ["--auth", "PLAIN", "--auth-user", "{alice}", "--auth-password", "{password}", "--to", "{alice}"], ""),
        ("submission", ["--tls", "--to", "{alice}"], " 530 "),
        (
            "submission",
            ["--auth", "PLAIN", "--auth-user", "{alice}", "--auth-password", "{password}", "--to", "{alice}"],
            "",
        ),
        (
            "submission",
            ["--tls", "--auth", "PLAIN", "--auth-user", "{alice}", "--auth-password", "wrong", "--to", "{alice}"],
            " 535 ",
        ),
        (
            "submission",
            [
                "--tls",
                "--auth",
                "PLAIN",
                "--auth-user",
                "{alice}",
                "--auth-password",
                "{password}",
                "--from",
                "somebody.else@{domain}",
                "--to",
                "{alice}",
            ],
            " 55",
        ),
    ],
    ids=[
        "relay",
        "unknown",
        "auth-on-25-in-clear",
        "587-without-auth",
        "587-auth-in-clear",
        "wrong-password",
        "not-my-address",
    ],
)
def test_refused(site: Site, tool: Tool, tmp_path: Path, service: str, more: list[str], says: str) -> None:
    alice = site.account("alice")
    facts = {"alice": alice.address, "password": alice.password, "domain": site.domain}
    words = [word.format(**facts) for word in more]
    if "--from" not in words:
        words += ["--from", "a@outside.example" if service == "smtp" else alice.address]
    text = swaks(site, tool, tmp_path, service, *words, ok=tuple(range(1, 64)))
    assert says in text, text
    assert site.held(alice) == []
