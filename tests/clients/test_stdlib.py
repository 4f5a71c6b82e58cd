"""Python's own imaplib, poplib and smtplib; what one writes another reads."""

from __future__ import annotations

import imaplib
import poplib
import smtplib

import pytest

from tests.clients.mailsite import HOST, Site, letter

pytestmark = pytest.mark.island


def test_imaplib_starttls_and_a_days_work(site: Site) -> None:
    alice = site.account("alice")
    client = imaplib.IMAP4(HOST, site.ports["imap"], timeout=30)
    assert "LOGINDISABLED" in client.capabilities
    with pytest.raises(imaplib.IMAP4.error):
        client.login(alice.address, alice.password)
    client.starttls(ssl_context=site.tls())
    client.login(alice.address, alice.password)
    assert client.create("Work")[0] == "OK"
    for number in range(3):
        client.append(
            "Work",
            r"(\Seen)" if number == 0 else "",
            "",
            bytes(letter(f"n{number}", alice.address)).replace(b"\n", b"\r\n"),
        )
    assert client.select("Work")[1] == [b"3"]
    assert client.search(None, "UNSEEN")[1] == [b"2 3"]
    assert client.store("2", "+FLAGS", r"(\Flagged $Work)")[0] == "OK"
    assert client.copy("3", "INBOX")[0] == "OK"
    client.store("1", "+FLAGS", r"\Deleted")
    assert client.expunge()[1] == [b"1"]
    assert client.rename("Work", "Done/2026")[0] == "OK"
    assert client.logout()[0] == "BYE"
    assert site.subjects(alice, "Done/2026") == ["n1", "n2"]
    assert {m.subject: m.flags for m in site.held(alice, "Done/2026")}["n1"] == {r"\Flagged", "$Work"}
    with poplib_session(site, alice.address, alice.password) as pop:
        assert pop.stat()[0] == 1


class poplib_session:
    """`with poplib_session(...) as pop`: POP3 over TLS, signed in; QUIT at the end (so DELE counts)."""

    def __init__(self, site: Site, login: str, password: str) -> None:
        self.pop = poplib.POP3_SSL(HOST, site.ports["pop3s"], context=site.tls(), timeout=30)
        self.pop.user(login)
        self.pop.pass_(password)

    def __enter__(self) -> poplib.POP3_SSL:
        return self.pop

    def __exit__(self, *exc: object) -> None:
        self.pop.quit()


def sign_in_to(pop: poplib.POP3, login: str, password: str) -> None:
    pop.user(login)
    pop.pass_(password)


def test_poplib(site: Site) -> None:
    alice = site.account("alice")
    for number in range(3):
        site.send(alice, f"n{number}", body=f"line\n.\n.{number}\n")
    plain = poplib.POP3(HOST, site.ports["pop3"], timeout=30)
    assert "STLS" in plain.capa()
    with pytest.raises(poplib.error_proto):
        sign_in_to(plain, alice.address, alice.password)
    plain.close()
    with poplib_session(site, alice.address, alice.password) as pop:
        assert pop.stat()[0] == 3
        uids = [line.split()[1] for line in pop.uidl()[1]]
        assert len(set(uids)) == 3
        first = b"\r\n".join(pop.retr(1)[1]) + b"\r\n"
        assert b"\r\n".join(pop.top(1, 0)[1]) in first
        pop.dele(2)
    held = {message.subject: message for message in site.held(alice)}
    assert sorted(held) == ["n0", "n2"]
    assert held["n0"].data == first
    with poplib_session(site, alice.address, alice.password) as pop:
        assert [line.split()[1] for line in pop.uidl()[1]] == [uids[0], uids[2]]


def test_smtplib(site: Site) -> None:
    alice, bob = site.account("alice"), site.account("bob")
    with smtplib.SMTP(HOST, site.ports["submission"], timeout=30) as client:
        client.ehlo("client.example")
        assert not client.has_extn("auth")
        client.starttls(context=site.tls())
        client.ehlo("client.example")
        for extension in (
            "pipelining",
            "size",
            "8bitmime",
            "smtputf8",
            "chunking",
            "binarymime",
            "dsn",
            "enhancedstatuscodes",
            "auth",
        ):
            assert client.has_extn(extension), extension
        client.login(alice.address, alice.password)
        client.send_message(letter("grüße", bob.address, body="ä" * 50 + "\n", sender=alice.address))
        refused = client.sendmail(alice.address, [bob.address, f"nobody@{site.domain}"], b"Subject: half\r\n\r\nx\r\n")
        assert list(refused) == [f"nobody@{site.domain}"]
        assert refused[f"nobody@{site.domain}"][0] == 550
    assert len(site.held(bob)) == 2
    client = smtplib.SMTP_SSL(HOST, site.ports["submissions"], context=site.tls(), timeout=30)
    with client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login(alice.address, "wrong")
