"""SHA512-CRYPT ($6$), to verify hashes brought from other servers.

In     password, and "$6$[rounds=N$]salt$digest".
Out    the digest in crypt(3)'s alphabet.
Spec   U. Drepper, "Unix crypt using SHA-256 and SHA-512", 2008. Rounds are limited here: a hash that costs seconds
       is not accepted.
Not    for new passwords: those are Argon2id.
"""

from __future__ import annotations

import hashlib
import re

MIN_ROUNDS, DEFAULT_ROUNDS, MAX_ROUNDS = 1000, 5000, 200_000
_FORM = re.compile(r"\$6\$(?:rounds=(\d{1,9})\$)?([^$:\n]{0,64})\$([./0-9A-Za-z]{86})")
_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ORDER = [(0, 21, 42), (22, 43, 1), (44, 2, 23), (3, 24, 45), (25, 46, 4), (47, 5, 26), (6, 27, 48), (28, 49, 7),
          (50, 8, 29), (9, 30, 51), (31, 52, 10), (53, 11, 32), (12, 33, 54), (34, 55, 13), (56, 14, 35),
          (15, 36, 57), (37, 58, 16), (59, 17, 38), (18, 39, 60), (40, 61, 19), (62, 20, 41)]


def parse(text: str) -> tuple[int, bytes, str] | None:
    """(rounds, salt, digest) of a stored hash; None when it is not one or costs too much."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    rounds = max(int(match[1]), MIN_ROUNDS) if match[1] else DEFAULT_ROUNDS
    if rounds > MAX_ROUNDS:
        return None
    return rounds, match[2].encode()[:16], match[3]


def digest(password: bytes, salt: bytes, rounds: int) -> str:
    """The 86 characters behind the last $."""
    sha = hashlib.sha512
    b = sha(password + salt + password).digest()
    length = len(password)
    a = sha(password + salt + b * (length // 64) + b[: length % 64])
    bits = length
    while bits:
        a.update(b if bits & 1 else password)
        bits >>= 1
    c = a.digest()
    dp = sha(password * length).digest()
    p = dp * (length // 64) + dp[: length % 64]
    ds = sha(salt * (16 + c[0])).digest()
    s = ds[: len(salt)]
    # Of the 42 possible shapes of a round, everything but the running digest is fixed: made once.
    odd = [(p + (s if number % 3 else b"") + (p if number % 7 else b"")) for number in range(42)]
    even = [((s if number % 3 else b"") + (p if number % 7 else b"") + p) for number in range(42)]
    for number in range(rounds):
        k = number % 42
        c = sha(odd[k] + c).digest() if number & 1 else sha(c + even[k]).digest()
    return _encode(c)


def _encode(raw: bytes) -> str:
    out: list[str] = []
    for first, second, third in _ORDER:
        value = raw[first] << 16 | raw[second] << 8 | raw[third]
        for _ in range(4):
            out.append(_ALPHABET[value & 63])
            value >>= 6
    out += (_ALPHABET[raw[63] & 63], _ALPHABET[raw[63] >> 6])
    return "".join(out)
