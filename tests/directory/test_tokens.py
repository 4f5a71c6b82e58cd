"""Tokens: every field holds, every bit counts (PROCESSES 4)."""

from __future__ import annotations

import base64
import os
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.directory.client.model import Revocation
from atoll.directory.client.tokens import BadToken, Claims, TokenVerifier, sign
from atoll.runtime.peers import Peer

KEY = os.urandom(32)
FRONTEND = Peer(4711, 1000, 1000)


class Clock:
    """Time that stands still until it is moved."""

    ms = 1_800_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


def claims(clock: Clock, **changes: Any) -> Claims:
    base = {"sub": b"u" * 16, "mbx": b"m" * 16, "aud": "mailbox-1.x", "pro": "imap", "ep": 5, "sid": "s", "jti": "j",
            "fe": 4711, "iat": clock.ms, "exp": clock.ms + 60_000, "mth": "password", "adr": "alice@example.test"}
    return Claims(**{**base, **changes})


def make(clock: Clock, key: bytes = KEY, **changes: Any) -> bytes:
    return sign(key, claims(clock, **changes)).encode()


def verifier(clock: Clock) -> TokenVerifier:
    return TokenVerifier(KEY, "mailbox-1.x", "imap", clock)


def test_it_is_short_and_in_its_form() -> None:
    token = make(Clock(), adr="a" * 320, ip="2001:db8::1", tls="TLSv1.3")
    assert len(token) <= 1024
    assert token.count(b".") == 2


@pytest.mark.parametrize(("changes", "why"), [
    ({"aud": "mailbox-1.y"}, "another process"), ({"aud": "mailbox-2.x"}, "another process"),
    ({"pro": "pop3"}, "another protocol"), ({"fe": 4712}, "from another process"),
    ({"exp": Clock.ms - 1001, "iat": Clock.ms - 61_001}, "not now"), ({"iat": Clock.ms + 1001}, "not now"),
    ({"exp": Clock.ms + 3_600_000}, "not now"),
])
def test_each_claim_is_checked(changes: dict[str, Any], why: str) -> None:
    clock = Clock()
    with pytest.raises(BadToken, match=why):
        verifier(clock).verify(make(clock, **changes), FRONTEND)


def test_once_only_and_remembered_no_longer_than_needed() -> None:
    clock, check = Clock(), verifier(Clock())
    check = verifier(clock)
    for number in range(100):
        check.verify(make(clock, jti=str(number)), FRONTEND)
    with pytest.raises(BadToken, match="used before"):
        check.verify(make(clock, jti="50"), FRONTEND)
    clock.ms += 62_000
    check.verify(make(clock, jti="new"), FRONTEND)
    assert len(check._used) == 1


def test_a_raised_epoch_kills_what_is_on_its_way() -> None:
    clock = Clock()
    check = verifier(clock)
    check.revoke(Revocation(1, b"u" * 16, 6, "password"))
    check.revoke(Revocation(2, b"u" * 16, 4, "late"))  # never back
    with pytest.raises(BadToken, match="revoked"):
        check.verify(make(clock), FRONTEND)
    assert check.verify(make(clock, ep=6), FRONTEND).ep == 6


def test_an_old_key_ends_a_minute_after_a_new_one() -> None:
    clock = Clock()
    check = verifier(clock)
    check.replace_key(b"n" * 32)
    check.verify(make(clock, jti="1"), FRONTEND)
    check.verify(make(clock, b"n" * 32, jti="2"), FRONTEND)
    clock.ms += 60_001
    with pytest.raises(BadToken, match="wrong key"):
        check.verify(make(clock, jti="3"), FRONTEND)


def test_without_a_key_nothing_starts() -> None:
    with pytest.raises(ValueError, match="must not start"):
        TokenVerifier(b"", "mailbox-1.x", "imap", Clock())


@given(st.data())
def test_no_changed_byte_passes(data: st.DataObject) -> None:
    clock = Clock()
    token = bytearray(make(clock))
    at = data.draw(st.integers(0, len(token) - 1))
    token[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadToken):
        verifier(clock).verify(bytes(token), FRONTEND)


@given(st.binary(max_size=1100))
def test_noise_is_a_bad_token(noise: bytes) -> None:
    for token in (noise, b"A1." + noise, b"A1.e30." + noise):
        with pytest.raises(BadToken):
            verifier(Clock()).verify(token, FRONTEND)


def test_another_spelling_of_the_same_bytes_is_refused() -> None:
    clock = Clock()
    head, payload, tag = make(clock).split(b".")
    for other in (payload + b"=", payload + b"\n"):
        with pytest.raises(BadToken):
            verifier(clock).verify(b".".join((head, other, tag)), FRONTEND)
    loose = bytearray(tag)
    loose[-1] = loose[-1] ^ 1  # bits behind the last byte
    with pytest.raises(BadToken):
        verifier(clock).verify(b".".join((head, payload, bytes(loose))), FRONTEND)


def test_a_later_version_s_unknown_field_is_ignored() -> None:
    clock = Clock()
    fields = {**msgspec.to_builtins(claims(clock)), "new": 1}
    head = b"A1." + base64.urlsafe_b64encode(msgspec.json.encode(fields)).rstrip(b"=")
    import hashlib
    import hmac

    tag = base64.urlsafe_b64encode(hmac.digest(KEY, head, hashlib.sha256)).rstrip(b"=")
    assert verifier(clock).verify(head + b"." + tag, FRONTEND).sid == "s"


def test_a_pid_that_is_used_again_is_another_process() -> None:
    clock, ticks = Clock(), {4711: 100}
    checks = TokenVerifier(KEY, "mailbox-1.x", "imap", clock, lambda pid: ticks.get(pid, 0))
    assert checks.verify(make(clock, fb=100, jti="1"), FRONTEND).fb == 100
    for token in (make(clock, fb=99, jti="2"), make(clock, jti="3")):  # an older process of that pid; no role's
        with pytest.raises(BadToken, match="from another process"):
            checks.verify(token, FRONTEND)
    del ticks[4711]  # now it is an operator's command
    with pytest.raises(BadToken, match="from another process"):
        checks.verify(make(clock, fb=100, jti="4"), FRONTEND)
    assert checks.verify(make(clock, jti="5"), FRONTEND).fb == 0


class Newer(Claims, frozen=True):
    """What a directory of the next version may say."""

    zone: str = "north"


@pytest.mark.parametrize(("crit", "good"), [((), True), (("sub", "zone"), False), (("sub",), True)])
def test_what_a_newer_directory_says_is_ignored_unless_it_is_critical(crit: tuple[str, ...], good: bool) -> None:
    """PROCESSES 11, upgrade of all: N and N-1 understand each other's tokens."""
    clock = Clock()
    fields = {name: getattr(claims(clock, crit=crit), name) for name in Claims.__struct_fields__}
    token = sign(KEY, Newer(**fields)).encode()
    if good:
        assert verifier(clock).verify(token, FRONTEND).sub == b"u" * 16
    else:
        with pytest.raises(BadToken, match="do not know"):
            verifier(clock).verify(token, FRONTEND)
