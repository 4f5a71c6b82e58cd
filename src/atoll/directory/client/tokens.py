"""Tokens: one sign-in, on its way from the directory to one backend process (PROCESSES 4).

In     "A1." base64url(JSON) "." base64url(HMAC-SHA256(key of the audience, "A1." payload)), <= 1 KiB.
Out    Claims, once: a token of a connection protocol is good for one opening.
Fails  BadToken, with a reason for the log; the client is told only that it may not.
Not    a right: which folders `sub` may open is decided by the mailbox layer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable

import msgspec

from atoll.base.clock import Clock
from atoll.directory.client.model import Revocation
from atoll.runtime.peers import Peer

MAX_TOKEN = 1024
SKEW_MS = 1000
"""Same machine, same clock: one second is for its steps."""
LIFE_MS = 60_000
MAX_EPOCHS = 200_000


class Claims(msgspec.Struct, frozen=True):
    """What a token says. Times are milliseconds since 1970."""

    sub: bytes
    """User id that signed in."""
    mbx: bytes
    """Mailbox id to open: his own, or one he names."""
    aud: str
    """Instance of the process it is for: "mailbox-1.4f9c…"."""
    pro: str
    """Protocol class: imap, pop3, submit."""
    ep: int
    """Credential epoch of `sub`."""
    sid: str
    """Session id, for audit and exchange."""
    jti: str
    """Token id."""
    fe: int
    """Process id of the asking frontend, by the kernel's word."""
    iat: int
    exp: int
    mth: str
    """How: password, app, admin, exchange."""
    adr: str
    """Address that signed in."""
    scp: str = "full"
    ip: str = ""
    port: int = 0
    tls: str = ""
    cb: str = ""
    fb: int = 0
    """When that process was started, in clock ticks since boot; 0: it is no role's (an operator's command)."""
    crit: tuple[str, ...] = ()
    """Claims that whoever checks must know. Others that it does not know are ignored: the directory may be newer."""


class BadToken(Exception):
    """The token opens nothing here."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Claims).decode


def _mac(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, hashlib.sha256)


def sign(key: bytes, claims: Claims) -> str:
    """The directory's side: a token's text."""
    head = b"A1." + base64.urlsafe_b64encode(_encode(claims)).rstrip(b"=")
    return (head + b"." + base64.urlsafe_b64encode(_mac(key, head)).rstrip(b"=")).decode("ascii")


def _unpad(text: bytes) -> bytes:
    try:
        raw = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BadToken("not base64url") from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != text:  # one token has one spelling
        raise BadToken("not canonical")
    return raw


class TokenVerifier:
    """Checks tokens for one protocol of one process instance. `key` comes from Backend.audience.

    born: when a role's process was started: a pid that is used again is another process.
    """

    def __init__(self, key: bytes, audience: str, protocol: str, clock: Clock,
                 born: Callable[[int], int] = lambda pid: 0) -> None:
        if len(key) < 32:
            raise ValueError("a verifier without a key must not start")
        self._keys: list[tuple[bytes, float]] = [(key, float("inf"))]
        self._audience = audience
        self._protocol = protocol
        self._clock = clock
        self._born = born
        self._used: dict[str, int] = {}
        self._epochs: dict[bytes, int] = {}

    def replace_key(self, key: bytes) -> None:
        """The directory started anew: its tokens have this key; those already on their way may still arrive."""
        if hmac.compare_digest(key, self._keys[0][0]):
            return
        old = (self._keys[0][0], self._clock.monotonic() + LIFE_MS / 1000)
        self._keys = [(key, float("inf")), old]

    def revoke(self, revocation: Revocation) -> None:
        """Tokens of a lower credential epoch open nothing any more."""
        if len(self._epochs) >= MAX_EPOCHS:
            del self._epochs[next(iter(self._epochs))]  # far older than any token's life
        known = self._epochs.pop(revocation.user, 0)
        self._epochs[revocation.user] = max(known, revocation.epoch)

    def verify(self, token: bytes, peer: Peer) -> Claims:
        """The token's claims; BadToken if any of them does not hold here and now for this peer."""
        if len(token) > MAX_TOKEN:
            raise BadToken("too long")
        version, _, rest = token.partition(b".")
        payload, _, tag = rest.partition(b".")
        if version != b"A1":
            raise BadToken("unknown version")
        mac = _unpad(tag)
        now = self._clock.monotonic()
        signed = b"A1." + payload
        if not any(hmac.compare_digest(_mac(key, signed), mac) for key, until in self._keys if until > now):
            raise BadToken("wrong key")
        try:
            claims = _decode(_unpad(payload))
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadToken("out of form") from None
        self._check(claims, peer)
        self._once(claims)
        return claims

    def _check(self, claims: Claims, peer: Peer) -> None:
        if claims.crit and not set(claims.crit) <= set(Claims.__struct_fields__):
            raise BadToken("says what we do not know")
        now = self._clock.now_ms()
        if claims.aud != self._audience:
            raise BadToken("for another process")
        if claims.pro != self._protocol:
            raise BadToken("for another protocol")
        if claims.fe != peer.pid or claims.fb != self._born(peer.pid):
            raise BadToken("from another process")
        if now > claims.exp + SKEW_MS or now < claims.iat - SKEW_MS or claims.exp - claims.iat > LIFE_MS:
            raise BadToken("not now")
        if claims.ep < self._epochs.get(claims.sub, 0):
            raise BadToken("revoked")

    def _once(self, claims: Claims) -> None:
        now = self._clock.now_ms()
        while self._used:  # insertion order is nearly expiry order: all lives are equal
            oldest = next(iter(self._used))
            if self._used[oldest] >= now:
                break
            del self._used[oldest]
        if claims.jti in self._used:
            raise BadToken("used before")
        self._used[claims.jti] = claims.exp + SKEW_MS
