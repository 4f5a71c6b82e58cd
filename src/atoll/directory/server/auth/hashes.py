"""Password hashes: ours (Argon2id) and those brought from other servers.

In     a password (<= 1024 bytes) and a stored hash.
Out    right or wrong. normal() gives the stored form of an imported hash.
Spec   Argon2id m=19456 KiB, t=2, p=1 [RFC 9106]; {SSHA} [draft-stroeder-hashed-userpassword-values];
       {BLF-CRYPT} / $2y$ (bcrypt); {SHA512-CRYPT} / $6$; {ARGON2ID}.
Fails  UnknownHash: not one of these, or one that costs more than we spend on a sign-in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

import argon2
import bcrypt

from atoll.directory.server.auth import sha512_crypt

_hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
MAX_BCRYPT_COST = 13
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_ARGON = re.compile(r"\$argon2id\$v=19\$m=(\d{1,6}),t=(\d{1,2}),p=(\d{1,2})"
                    r"\$[A-Za-z0-9+/]{11,64}\$[A-Za-z0-9+/]{16,128}")


class UnknownHash(ValueError):
    """This hash cannot be verified here."""


def make(password: bytes) -> str:
    """A new Argon2id hash: 24 ms of CPU, 19 MiB."""
    return _hasher.hash(password)


def verify(stored: str, password: bytes) -> bool:
    """Is this the password? In constant time for one kind of hash."""
    if stored.startswith("$argon2id$"):
        try:
            return _hasher.verify(stored, password)
        except (argon2.exceptions.VerifyMismatchError, argon2.exceptions.InvalidHashError):
            return False
    if stored.startswith("$6$"):
        parts = sha512_crypt.parse(stored)
        if parts is None:
            return False
        rounds, salt, right = parts
        return hmac.compare_digest(sha512_crypt.digest(password, salt, rounds), right)
    if stored.startswith("$2"):
        # bcrypt reads 72 bytes; the servers these hashes come from cut there without a word
        return b"\x00" not in password and bcrypt.checkpw(password[:72], stored.encode())
    if stored.startswith("{SSHA}"):
        raw = base64.b64decode(stored[6:])
        return hmac.compare_digest(hashlib.sha1(password + raw[20:]).digest(), raw[:20])  # noqa: S324 -- as stored
    return False


def is_ours(stored: str) -> bool:
    """Was it made with today's parameters? Otherwise it is made anew at the next sign-in."""
    return stored.startswith("$argon2id$") and not _hasher.check_needs_rehash(stored)


def normal(text: str) -> str:
    """The stored form of an imported hash; UnknownHash."""
    match = re.fullmatch(r"\{([A-Za-z0-9.-]{1,20})\}(.{1,400})", text.strip())
    scheme, body = (match[1].upper(), match[2]) if match else ("", text.strip())
    if scheme in ("", "CRYPT", "SHA512-CRYPT") and sha512_crypt.parse(body):
        return body
    bcrypted = _BCRYPT.fullmatch(body)
    if scheme in ("", "CRYPT", "BLF-CRYPT", "BCRYPT") and bcrypted and 4 <= int(bcrypted[1]) <= MAX_BCRYPT_COST:
        return body
    argon = _ARGON.fullmatch(body)
    if scheme in ("", "ARGON2ID") and argon and int(argon[1]) <= 262_144 and 1 <= int(argon[2]) <= 10:
        return body
    if scheme in ("SSHA", "SSHA.B64"):
        try:
            if len(base64.b64decode(body, validate=True)) >= 24:
                return "{SSHA}" + body
        except binascii.Error:
            pass
    raise UnknownHash("accepted are {SHA512-CRYPT}, {SSHA}, {BLF-CRYPT} (bcrypt) and {ARGON2ID}")
