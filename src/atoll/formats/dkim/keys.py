"""DKIM keys: the public one as the DNS has it, signing and verifying with it.

In     TXT records of SELECTOR._domainkey.DOMAIN; private keys in PKCS #8.
Out    PublicKey.verify(); sign(); the record that an administrator publishes.
Spec   [RFC 6376 §3.6.1], [RFC 8301] (no SHA-1, RSA from 1024 bits on), [RFC 8463] (Ed25519 over the SHA-256 digest).
Fails  BadKey: str() may be shown.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from atoll.formats.dkim import tags

MIN_BITS, MAX_BITS, RSA_BITS = 1024, 8192, 2048
MAX_REMEMBERED = 1000
"""Octets of a record."""
ALGORITHMS = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}
"""a= of a signature -> k= of its key. rsa-sha1 is no longer one [RFC 8301 §3.1]."""
PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class BadKey(Exception):
    """A key that nothing can be verified with."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key record. strict: i= must be the very domain (t=s); testing: its owner only tries (t=y)."""

    key: rsa.RSAPublicKey | ed25519.Ed25519PublicKey
    strict: bool = False
    testing: bool = False

    @property
    def kind(self) -> str:
        return "rsa" if isinstance(self.key, rsa.RSAPublicKey) else "ed25519"

    @property
    def bits(self) -> int:
        """Of the modulus; 256 for Ed25519."""
        return self.key.key_size if isinstance(self.key, rsa.RSAPublicKey) else 256

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Is this the signature of that?"""
        try:
            if isinstance(self.key, rsa.RSAPublicKey):
                self.key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
            else:
                self.key.verify(signature, hashlib.sha256(data).digest())
        except InvalidSignature:
            return False
        return True


def public_key(record: bytes) -> PublicKey:
    """A TXT record; those that are used again and again are read once. BadKey."""
    return _remembered(record) if len(record) <= MAX_REMEMBERED else _read(record)


def _read(record: bytes) -> PublicKey:
    try:
        found = tags.tag_list(record)
    except ValueError as error:
        raise BadKey(f"the key record is malformed: {error}") from None
    if "v" in found and (found["v"] != "DKIM1" or next(iter(found)) != "v"):
        raise BadKey("the key record has another version")
    if "p" not in found:
        raise BadKey("the key record has no key")
    if not found["p"]:
        raise BadKey("the key was revoked")
    if "h" in found and "sha256" not in tags.words(found["h"]):
        raise BadKey("the key is not for SHA-256")
    if "s" in found and not {"*", "email"} & set(tags.words(found["s"])):
        raise BadKey("the key is not for mail")
    flags = tags.words(found.get("t", ""))
    return PublicKey(_loaded(found.get("k", "rsa").lower(), found["p"]), "s" in flags, "y" in flags)


_remembered = lru_cache(1000)(_read)


def _loaded(kind: str, text: str) -> rsa.RSAPublicKey | ed25519.Ed25519PublicKey:
    try:
        octets = tags.octets(text)
        if kind == "ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(octets)
        if kind != "rsa":
            raise BadKey("the key is of an unknown kind")
        key = serialization.load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("the key cannot be read") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise BadKey("the key is not of the kind it says")
    if not MIN_BITS <= key.key_size <= MAX_BITS:
        raise BadKey(f"an RSA key of {key.key_size} bits is not accepted")
    return key


def sign(key: PrivateKey, data: bytes) -> bytes:
    """The signature."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(hashlib.sha256(data).digest())


def kind_of(key: PrivateKey) -> str:
    """rsa or ed25519."""
    return "rsa" if isinstance(key, rsa.RSAPrivateKey) else "ed25519"


def private_key(octets: bytes) -> PrivateKey:
    """From PKCS #8 DER. BadKey."""
    try:
        key = serialization.load_der_private_key(octets, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey("the private key cannot be read") from None
    if not isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise BadKey("the private key is of an unknown kind")
    return key


def record_of(key: PrivateKey) -> str:
    """What the DNS is to say of it."""
    return f"v=DKIM1; k={kind_of(key)}; p={base64.b64encode(octets_of(key.public_key())).decode('ascii')}"


def octets_of(key: rsa.RSAPublicKey | ed25519.Ed25519PublicKey) -> bytes:
    """p= of a record."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key.public_bytes_raw()
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def new_key(kind: str) -> PrivateKey:
    """A fresh key: rsa (2048 bits) or ed25519."""
    return ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else rsa.generate_private_key(65537, RSA_BITS)


def private_octets(key: PrivateKey) -> bytes:
    """PKCS #8 DER, as private_key() reads it."""
    return key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())
