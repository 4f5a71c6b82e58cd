"""What leaves is signed: by whom, with which keys, and never for strangers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from atoll.base.clock import SystemClock
from atoll.directory.client.model import SigningKey
from atoll.edge import arc, canon, dkim
from atoll.edge.message import Message
from atoll.edge.signer import HIDDEN_SECONDS, SHOWN_SECONDS, Signer
from atoll.formats.dkim import keys
from atoll.runtime.rpc import RpcError
from atoll.transport.envelope import Envelope, Recipient
from tests.edge.kit import Zones

KEYS = {name: keys.new_key(kind) for name, kind in (("r1", "rsa"), ("r2", "rsa"), ("e1", "ed25519"))}


def key(selector: str, domain: str = "example.test") -> SigningKey:
    return SigningKey(domain, selector, keys.private_octets(KEYS[selector]))


class Rights:
    """example.test has keys; alice may write as herself and as boss@other.test."""

    def __init__(self, *held: SigningKey) -> None:
        self.held = list(held)
        self.away = False

    async def signing_keys(self, domain: str) -> Sequence[SigningKey]:
        if self.away:
            raise RpcError("temporary", "away")
        return [one for one in self.held if one.domain == domain]

    async def may_send_as(self, user: bytes, address: str) -> bool:
        return address == "boss@other.test"


class Clock(SystemClock):
    """Moves when it is told."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Desk:
    """A signer with what it hears and says."""

    def __init__(self, *held: SigningKey, shown: Sequence[str] = ()) -> None:
        self.rights, self.names, self.clock = Rights(*held), Zones({}), Clock()
        self.told: dict[str, str] = {}
        self.signer = Signer(self.rights, self.names, self.clock, self.told.__setitem__,
                             host="mail.example.test")
        self.number = 0
        for name in shown:
            self.show(name)

    def show(self, selector: str, domain: str = "example.test", record: str = "") -> None:
        self.names.zone[f"{selector}._domainkey.{domain}"] = [{"TXT": record or keys.record_of(KEYS[selector])}]

    async def leave(self, author: str = "alice@example.test", *, sender: str = "alice@example.test",
                    user: bytes = b"alice", own: bool = False, ident: bytes = b"") -> list[tuple[str, str]]:
        """(result, selector.domain) of each signature that the message leaves with."""
        self.number += 1
        content = f"From: {author}\r\nSubject: s\r\n\r\nbody\r\n".encode()
        envelope = Envelope(ident or self.number.to_bytes(16, "big"), sender, (Recipient("x@y.example"),), 0, user=user,
                            own=own)
        left = await self.signer.signed(envelope, content)
        assert left.endswith(content)
        message = Message(left)
        found = await dkim.verify(message, canon.BodyDigest(message), self.names, self.clock.now_ms() // 1000)
        return [(one.result, f"{one.selector}.{one.domain}") for one in found]


async def test_both_kinds() -> None:
    desk = Desk(key("r1"), key("e1"), shown=["r1", "e1"])
    assert await desk.leave() == [("pass", "r1.example.test"), ("pass", "e1.example.test")]
    assert desk.told == {"example.test": ""}


async def test_a_key_is_used_once_the_dns_shows_it() -> None:
    desk = Desk(key("r1"))
    assert await desk.leave() == []
    assert "the DNS shows none of the DKIM keys of example.test" in desk.told["example.test"]
    desk.show("r1")
    assert await desk.leave() == [], "not asked for each message"
    desk.clock.ahead += HIDDEN_SECONDS + 1
    assert await desk.leave() == [("pass", "r1.example.test")]
    assert desk.told["example.test"] == ""


async def test_another_key_in_the_dns_is_not_ours() -> None:
    desk = Desk(key("r1"))
    desk.show("r1", record=keys.record_of(KEYS["r2"]))
    assert await desk.leave() == []


async def test_a_new_key_takes_over() -> None:
    desk = Desk(key("r1"), shown=["r1"])
    desk.rights.held.insert(0, key("r2"))  # newest first
    assert await desk.leave() == [("pass", "r1.example.test")]
    desk.show("r2")
    desk.clock.ahead += HIDDEN_SECONDS + 1
    assert await desk.leave() == [("pass", "r2.example.test")]
    del desk.rights.held[0]
    assert await desk.leave() == [("pass", "r1.example.test")]


async def test_a_dns_that_is_away_changes_nothing() -> None:
    desk = Desk(key("r1"), shown=["r1"])
    assert len(await desk.leave()) == 1
    desk.clock.ahead += SHOWN_SECONDS + 1
    shown = desk.names.zone["r1._domainkey.example.test"]
    desk.names.zone["r1._domainkey.example.test"] = ["TIMEOUT"]
    content = b"From: alice@example.test\r\n\r\n"
    envelope = Envelope(b"z" * 16, "alice@example.test", (), 0, user=b"alice")
    assert (await desk.signer.signed(envelope, content)).startswith(b"DKIM-Signature")
    desk.names.zone["r1._domainkey.example.test"] = shown


@pytest.mark.parametrize(("author", "sender", "who", "signer"), [
    ("alice@example.test", "alice@example.test", {}, "example.test"),
    ("Alice <ALICE@EXAMPLE.TEST>", "alice@example.test", {}, "example.test"),
    ("boss@other.test", "alice@example.test", {}, "other.test"),
    ("victim@third.test", "alice@example.test", {}, "example.test"),
    ("a@example.test, b@other.test", "alice@example.test", {}, "example.test"),
    ("postmaster@mail.example.test", "", {"user": b"", "own": True}, "example.test"),
    ("alice@example.test", "alice@example.test", {"user": b""}, ""),
    ("alice@example.test", "", {"user": b""}, ""),
    ("a@mail.example.test", "alice@nowhere.test", {}, ""),
])
async def test_who_answers_for_it(author: str, sender: str, who: dict[str, Any], signer: str) -> None:
    names = ("example.test", "other.test", "third.test")
    desk = Desk(*[key("r1", name) for name in names])
    for name in names:
        desk.show("r1", name)
    assert await desk.leave(author, sender=sender, **who) == ([("pass", f"r1.{signer}")] if signer else [])


async def test_what_an_administrator_is_told() -> None:
    desk = Desk(key("r2"), key("r1"), key("e1"), shown=["r1"])
    assert [(one.selector, one.state) for one in await desk.signer.check("example.test")] == [
        ("r2", "hidden"), ("r1", "signs"), ("e1", "hidden")]
    desk.show("r2")
    desk.names.zone["e1._domainkey.example.test"] = ["TIMEOUT"]
    assert [(one.selector, one.kind, one.state) for one in await desk.signer.check("example.test")] == [
        ("r2", "rsa", "signs"), ("r1", "rsa", "replaced"), ("e1", "ed25519", "unknown")]
    assert await desk.signer.check("other.test") == []


async def test_one_signature_for_all_its_next_hops() -> None:
    desk = Desk(key("r1"), shown=["r1"])
    envelope = Envelope(b"i" * 16, "alice@example.test", (), 0, user=b"alice")
    content = b"From: alice@example.test\r\n\r\nbody\r\n"
    first = await desk.signer.signed(envelope, content)
    assert await desk.signer.signed(envelope, content) is not first
    assert await desk.signer.signed(envelope, content) == first


async def test_mail_does_not_wait_for_a_signature() -> None:
    desk = Desk(key("r1"), SigningKey("example.test", "bad", b"no key"), shown=["r1"])
    assert await desk.leave() == [("pass", "r1.example.test")]
    desk.rights.away = True
    assert await desk.leave() == []
    desk.rights.away = False
    desk.signer._rights = None  # type: ignore[assignment]
    assert await desk.leave() == []


def test_a_key_is_in_no_log() -> None:
    one = key("r1")
    assert repr(one) == str([one])[1:-1] == "SigningKey(r1._domainkey.example.test)"


# -- strangers' mail that a group sends on

STRANGER = b"Received: from x by y; z\r\nFrom: a@stranger.test\r\nTo: group@example.test\r\nSubject: s\r\n\r\nbody\r\n"
OURS = b"Authentication-Results: mail.example.test;\r\n\tdmarc=pass header.from=stranger.test%s\r\n"


async def handed_on(desk: Desk, content: bytes) -> bytes:
    desk.number += 1
    envelope = Envelope(desk.number.to_bytes(16, "big"), "a@stranger.test", (), 0)
    left = await desk.signer.signed(envelope, content)
    assert left.endswith(content)
    return left


async def links(desk: Desk, content: bytes) -> tuple[str, list[str]]:
    message = Message(content)
    found = await arc.verify(message, canon.BodyDigest(message), desk.names)
    return found.result, [link.sealer for link in found.links]


async def test_what_we_found_is_handed_on() -> None:
    desk = Desk(key("r1"), key("e1"), shown=["r1", "e1"])
    first = await handed_on(desk, OURS % b"" + STRANGER)
    assert await links(desk, first) == ("pass", ["example.test"])
    assert b"ARC-Authentication-Results: i=1; mail.example.test;\r\n\tdmarc=pass header.from=stranger.test\r\n" in first
    assert b"DKIM-Signature" not in first
    # and again, by another host of ours: what the first said is no longer on top
    second = await handed_on(desk, OURS % b";\r\n\tarc=pass" + first)
    assert await links(desk, second) == ("pass", ["example.test", "example.test"])
    assert await links(desk, second.replace(b"Subject: s", b"Subject: t")) == ("fail", [])
    oracle = pytest.importorskip("dkim")
    record = keys.record_of(KEYS["r1"]).encode()
    assert oracle.arc_verify(second, dnsfunc=lambda name, timeout=5: record)[0] == b"pass"


async def test_what_is_not_handed_on() -> None:
    desk = Desk(key("r1"), shown=["r1"])
    first = await handed_on(desk, OURS % b"" + STRANGER)
    for content in (STRANGER,  # not checked
                    b"Authentication-Results: other.example; dmarc=pass\r\n" + STRANGER,
                    OURS % b";\r\n\tarc=fail" + first,  # a chain that is broken is not mended
                    OURS % b"" + first, OURS % b";\r\n\tarc=pass" + STRANGER,
                    OURS % b";\r\n\tarc=temperror" + first,
                    OURS % b";\r\n\tarc=pass" + first.replace(b"ARC-Seal", b"X-Seal")):
        assert await handed_on(desk, content) == content
