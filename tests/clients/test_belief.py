"""Mail is from whom it says: ours is signed, others' is checked, in both directions with somebody else's programs."""

from __future__ import annotations

import base64
import contextlib
import json
import smtplib
import sqlite3
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage

import dns.resolver
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from atoll.formats.dkim import keys
from tests.clients.knot import Knot
from tests.clients.mailsite import Account, Seen, Site, letter
from tests.clients.outside import Outside
from tests.clients.postfix import available, free_port
from tests.island import Island

pytestmark = [pytest.mark.client("postfix", "knot"), pytest.mark.island,
              pytest.mark.skipif(bool(available()), reason=available())]
OUTSIDE = ("@ MX 10 mail\nmail A 127.0.0.1\n"
           '@ TXT "v=spf1 ip4:127.0.0.1 -all"\n_dmarc TXT "v=DMARC1; p=reject"\n'
           'soft MX 10 mail\nsoft TXT "v=spf1 ip4:127.0.0.1 -all"\n_dmarc.soft TXT "v=DMARC1; p=quarantine"\n'
           '_dmarc.strict TXT "v=DMARC1; p=reject; aspf=s"\n')
FRIEND = "friend@outside.example"
ZONES = {"outside.example": OUTSIDE, "example.test": "@ MX 10 mail\nmail A 127.0.0.1\n"}


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    from tests.clients.conftest import find

    with Knot(find("knot") or "knotd", tmp_path_factory.mktemp("knot"), ZONES) as running:
        yield running


@pytest.fixture(scope="module")
def site(names: Knot, port: int) -> Iterator[Site]:
    config = (f'[sending]\nmode = "direct"\nname_servers = ["{names.address}"]\nport = {port}\n'
              'allowed_networks = ["127.0.0.0/8"]\n[checks]\ntrusted_networks = ["127.0.0.9/32"]\n'
              '[island]\nhost = "mail.example.test"\n')
    with Island(config=config) as island:
        yield Site.of(island)


@pytest.fixture(scope="module")
def outside(site: Site, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with Outside(site, tmp_path_factory.mktemp("outside"), port) as running:
        yield running


def knock(site: Site, message: EmailMessage | str, to: str, *, sender: str = "friend@outside.example",
          address: str = "127.0.0.1") -> None:
    """From a stranger at a loopback address. smtplib.SMTPDataError."""
    with smtplib.SMTP("127.0.0.1", site.ports["smtp"], timeout=30, source_address=(address, 0)) as client:
        client.ehlo("mail.outside.example")
        client.sendmail(sender, [to], str(message))


def came(site: Site, who: Account, folder: str = "INBOX", seconds: float = 20) -> Seen:
    """The one message of a folder."""
    deadline = time.monotonic() + seconds
    while not (held := site.held(who, folder)):
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.05)
    assert len(held) == 1
    return held[0]


def send(site: Site, who: Account, message: EmailMessage, to: str) -> None:
    """As a person of ours."""
    with smtplib.SMTP_SSL("localhost", site.ports["submissions"], context=site.tls(), timeout=30) as client:
        client.login(who.address, who.password)
        assert client.send_message(message, who.address, [to]) == {}


def results(seen: Seen) -> str:
    """Our Authentication-Results, unfolded: above Received."""
    head = seen.data.partition(b"\r\nReceived:")[0].decode().replace("\r\n\t", " ")
    (found,) = [line for line in head.split("\r\n") if line.startswith("Authentication-Results:")]
    return " ".join(found.split())


def resolver_of(names: Knot) -> dns.resolver.Resolver:
    """Asks the name server of the test."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], names.port
    return resolver


def asker(names: Knot) -> Callable[..., bytes]:
    """For dkimpy."""
    resolver = resolver_of(names)
    return lambda name, timeout=5: b"".join(resolver.resolve(name.decode(), "TXT")[0].strings)


def verified(names: Knot, content: bytes) -> list[bool]:
    """What dkimpy says of each signature, with the keys of the name server."""
    oracle = pytest.importorskip("dkim")
    one = oracle.DKIM(content)
    count = sum(name.lower() == b"dkim-signature" for name, _ in one.headers)
    return [one.verify(index, dnsfunc=asker(names)) for index in range(count)]


def publish(site: Site, names: Knot) -> None:
    """The zone of example.test with its keys as `atoll dkim show` prints them; returns when it is served."""
    lines = site.atoll("dkim", "show", "example.test")
    names.set("example.test", ZONES["example.test"] + lines)
    resolver = resolver_of(names)
    wanted = [line.split()[0] for line in lines.splitlines()]

    def served() -> bool:
        try:
            return all(resolver.resolve(name, "TXT") for name in wanted)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return False

    site.wait(served)


def health(site: Site) -> str:
    """What transport says of the keys."""
    return next((str(row["state"]) for row in site.island.health()["rows"] if row["name"] == "dkim"), "")


def test_what_leaves_is_signed_once_the_dns_shows_the_keys(site: Site, outside: Outside, names: Knot) -> None:
    who = site.account("signer")
    site.atoll("dkim", "create", "example.test")
    send(site, who, letter("Unsigned", FRIEND, sender=who.address), FRIEND)
    (first,) = outside.arrived(1)
    assert first["DKIM-Signature"] is None, "nobody could check it yet"
    assert health(site) == "warn"
    assert "not in the DNS" in site.atoll("dkim", "check", "example.test")
    publish(site, names)
    checked = json.loads(site.atoll("dkim", "check", "example.test", "--json"))["keys"]
    assert [row["state"] for row in checked] == ["signs", "signs"], "and it need not wait for a minute"
    send(site, who, letter("Signed", FRIEND, "A line.\n.\n..two\n  x \t\n\n", sender=who.address), FRIEND)
    outside.arrived(2)
    content = outside.octets()[-1].replace(b"\n", b"\r\n")
    assert b"Subject: Signed\r\n" in content
    assert verified(names, content) == [True, True]
    assert health(site) == "ok"


def test_a_new_key_takes_over_when_it_is_published(site: Site, outside: Outside, names: Knot) -> None:
    who = site.account("signer")
    before = len(outside.octets())
    site.atoll("dkim", "create", "example.test", "--kind", "rsa")
    rows = json.loads(site.atoll("dkim", "list", "example.test", "--json"))["keys"]
    newest = next(row["selector"] for row in rows if row["kind"] == "rsa")
    publish(site, names)
    send(site, who, letter("Rotated", FRIEND, sender=who.address), FRIEND)
    outside.arrived(before + 1)
    content = outside.octets()[-1].replace(b"\n", b"\r\n")
    assert f" s={newest};".encode() in content
    assert verified(names, content) == [True, True]


def test_an_honest_message(site: Site, outside: Outside) -> None:
    who = site.account("reader")
    forged = letter("Honest", who.address, sender=FRIEND)
    forged["Authentication-Results"] = "mail.example.test; dmarc=pass header.from=bank.example"
    forged["Authentication-Results"] = "mail.outside.example; spf=none"
    knock(site, forged, who.address)
    seen = came(site, who)
    assert b"bank.example" not in seen.data
    assert b"Authentication-Results: mail.outside.example; spf=none" in seen.data
    assert results(seen) == ("Authentication-Results: mail.example.test; spf=pass smtp.mailfrom=outside.example; "
                             "dkim=none; dmarc=pass header.from=outside.example polrec.p=reject "
                             "polrec.domain=outside.example")
    words = "spf=pass outside.example, dkim=none, dmarc=pass outside.example by spf; accepted"
    site.wait(lambda: words in site.atoll("message", "trace", "--recipient", who.address))


def test_a_lie_is_refused_as_its_victim_asks(site: Site, outside: Outside) -> None:
    who = site.account("reader")
    with pytest.raises(smtplib.SMTPDataError) as refused:
        knock(site, letter("Lie", who.address, sender=FRIEND), who.address, address="127.0.0.2")
    assert refused.value.smtp_code == 550
    assert b"5.7.1 Refused by the DMARC policy of outside.example" in refused.value.smtp_error
    two = "From: x@outside.example\r\n" + str(letter("Two", who.address, sender=FRIEND)).replace("\n", "\r\n")
    with pytest.raises(smtplib.SMTPDataError) as refused:
        knock(site, two, who.address)
    assert b"5.6.0 The message has 2 From fields" in refused.value.smtp_error
    assert site.held(who) == []


def test_what_is_to_be_quarantined_goes_to_junk(site: Site, outside: Outside) -> None:
    who = site.account("reader")
    knock(site, letter("Doubtful", who.address, sender="x@soft.outside.example"), who.address, address="127.0.0.2")
    seen = came(site, who, "Junk")
    assert "dmarc=fail" in results(seen)
    assert site.held(who) == []


def test_mail_of_trusted_networks_and_of_our_own_people_is_not_checked(site: Site, outside: Outside) -> None:
    who = site.account("reader")
    message = letter("Trusted", who.address, sender=FRIEND)
    message["Authentication-Results"] = "mail.example.test; dmarc=pass"
    knock(site, message, who.address, address="127.0.0.9")
    assert b"Authentication-Results" not in came(site, who).data
    other = site.account("writer")
    send(site, other, letter("Inside", other.address, sender=other.address), other.address)
    assert b"Authentication-Results" not in came(site, other).data


def test_a_signature_of_others_proves_who_wrote_it(site: Site, outside: Outside, names: Knot) -> None:
    """From an address that SPF does not know, signed by another implementation."""
    oracle = pytest.importorskip("dkim")
    key = keys.new_key("rsa")
    record = keys.record_of(key)
    names.set("outside.example", OUTSIDE + f'k._domainkey TXT "{record[:200]}" "{record[200:]}"\n')
    site.wait(lambda: record.encode() in shown(names, "k._domainkey.outside.example"))
    who = site.account("reader")
    content = bytes(letter("Signed", who.address, sender=FRIEND)).replace(b"\n", b"\r\n")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    field = oracle.sign(content, b"k", b"outside.example", pem)
    with pytest.raises(smtplib.SMTPDataError):
        knock(site, (field + content.replace(b"text", b"other")).decode(), who.address, address="127.0.0.2")
    knock(site, (field + content).decode(), who.address, address="127.0.0.2")
    said = results(came(site, who))
    assert "spf=fail" in said
    assert "dkim=pass header.d=outside.example header.s=k header.a=rsa-sha256" in said
    assert "dmarc=pass" in said


def test_a_group_hands_on_what_was_found(site: Site, outside: Outside, names: Knot) -> None:
    """A stranger's message leaves for a member elsewhere, sealed; others can tell what we saw."""
    oracle = pytest.importorskip("dkim")
    site.atoll("group", "create", "team@example.test", "--who", "anyone")
    site.atoll("group", "add", "team@example.test", FRIEND)
    before = len(outside.octets())
    knock(site, letter("To all", "team@example.test", sender="x@soft.outside.example"), "team@example.test",
          sender="x@soft.outside.example")
    outside.arrived(before + 1)
    content = outside.octets()[-1].replace(b"\n", b"\r\n")
    chain, links, reason = oracle.arc_verify(content, dnsfunc=asker(names))
    assert (chain, len(links)) == (b"pass", 1), reason
    assert b"ARC-Authentication-Results: i=1; mail.example.test;" in content
    assert b"dmarc=pass" in content
    assert b"DKIM-Signature" not in content


def test_postfix_of_others_is_believed_where_it_may_send_and_hears_why_where_not(site: Site, outside: Outside) -> None:
    who = site.account("reader")
    before = len(outside.octets())
    for author in (FRIEND, "boss@strict.outside.example"):
        with smtplib.SMTP("127.0.0.1", outside.port, timeout=30) as client:
            client.sendmail(FRIEND, [who.address], str(letter(author, who.address, sender=author)))
    seen = came(site, who)
    assert seen.subject == FRIEND
    assert "spf=pass smtp.mailfrom=outside.example" in results(seen)
    assert "dmarc=pass" in results(seen)
    bounce = outside.arrived(before + 1)[-1]
    assert "Refused by the DMARC policy of strict.outside.example" in " ".join(bounce.as_string().split())


def test_keys_are_in_no_log(site: Site, outside: Outside) -> None:
    """[L003]"""
    with contextlib.closing(sqlite3.connect(f"file:{site.data}/dir/directory.sqlite?mode=ro", uri=True)) as database:
        held = [row[0] for row in database.execute("SELECT private FROM dkim_key WHERE deleted = 0")]
    assert len(held) == 3
    logs = [*site.data.glob("*.log"), *site.data.glob("dir/audit.log*"), *site.data.glob("queue/tracking/*")]
    text = b"".join(path.read_bytes() for path in logs)
    assert b"dkim.create" in text
    for key in held:
        part = key[-40:]
        assert not any(one in text for one in (part, part.hex().encode(), base64.b64encode(part)[:40]))


def shown(names: Knot, name: str) -> list[bytes]:
    """TXT records."""
    try:
        return [b"".join(one.strings) for one in resolver_of(names).resolve(name, "TXT")]
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
