"""Password hashes: published and crypt(3)'s answers, what is refused, what is made."""

from __future__ import annotations

import base64
import hashlib

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.directory.server.auth import hashes, sha512_crypt

# From the specification's own test program ("Unix crypt using SHA-256 and SHA-512", 0.6).
VECTORS = [
    (b"Hello world!", "$6$saltstring$",
     "svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"),
    (b"Hello world!", "$6$rounds=10000$saltstringsaltstring$",
     "OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v."),
    (b"This is just a test", "$6$rounds=5000$toolongsaltstring$",
     "lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0"),
    (b"the minimum number is still observed", "$6$rounds=10$roundstoolow$",
     "kUMsbe306n21p9R.FRkW3IGn.S9NPN0x50YhH1xhLsPuWGsUSklZt58jaTfF4ZEQpyUNGc0dqbpBYYBaHHrsX."),
    (b"a very much longer text to encrypt.  This one even stretches over morethan one line.",
     "$6$rounds=1400$anotherlongsaltstring$",
     "POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1"),
    (b"we have a short salt string but not a short password", "$6$rounds=77777$short$",
     "WuQyW2YR.hBNpjjRhpYD/ifIw05xdfeEyQoMxIXbkvr0gge1a1x3yRULJ5CCaUeOxFmtlcGZelFl5CxtgfiAc0"),
]


@pytest.mark.parametrize(("password", "setting", "digest"), VECTORS)
def test_sha512_crypt_vectors(password: bytes, setting: str, digest: str) -> None:
    normal = hashes.normal("{SHA512-CRYPT}" + setting + digest)
    assert hashes.verify(normal, password)
    assert not hashes.verify(normal, password + b"x")


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=200).filter(lambda raw: b"\0" not in raw), st.text("abcXYZ019./", max_size=16))
def test_sha512_crypt_agrees_with_the_system(password: bytes, salt: str) -> None:
    crypt = pytest.importorskip("crypt")  # gone in Python 3.13; the vectors above stay
    try:
        text = password.decode()
    except UnicodeDecodeError:
        return
    expected = crypt.crypt(text, f"$6$rounds=1000${salt}$")
    if expected is not None:
        assert f"$6$rounds=1000${salt}${sha512_crypt.digest(password, salt.encode(), 1000)}" == expected


def test_ssha_of_any_salt_length() -> None:
    for salt in (b"abcd", b"0123456789abcdef"):
        stored = "{SSHA}" + base64.b64encode(hashlib.sha1(b"pass" + salt).digest() + salt).decode()
        assert hashes.verify(hashes.normal(stored), b"pass")
        assert not hashes.verify(hashes.normal(stored), b"Pass")


def test_bcrypt_reads_72_bytes_as_the_old_server_did() -> None:
    stored = hashes.normal("{BLF-CRYPT}" + bcrypt.hashpw(b"a" * 72, bcrypt.gensalt(4)).decode())
    assert hashes.verify(stored, b"a" * 100)
    assert not hashes.verify(stored, b"a" * 71)
    assert not hashes.verify(stored, b"a\x00b")


@pytest.mark.parametrize("text", [
    "", "plain", "{PLAIN}secret", "{MD5}x", "{SSHA}", "{SSHA}!!!!", "{SSHA}" + "A" * 20, "$6$salt$short",
    "$6$rounds=999999999$salt$" + "a" * 86,                      # hours of CPU at each sign-in
    "{BLF-CRYPT}$2y$31$" + "a" * 53,                             # likewise
    "{ARGON2ID}$argon2id$v=19$m=999999,t=2,p=1$c29tZXNhbHQ$" + "a" * 43,   # 1 GB of memory
    "{ARGON2ID}$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$" + "a" * 43,
    "{SHA512-CRYPT}$2y$05$" + "a" * 53, "{SSHA}" + "A" * 1000,
])
def test_what_is_not_accepted(text: str) -> None:
    with pytest.raises(hashes.UnknownHash):
        hashes.normal(text)


@given(st.text(max_size=200))
def test_normal_never_raises_anything_else(text: str) -> None:
    try:
        hashes.normal(text)
    except hashes.UnknownHash:
        pass


def test_ours_has_the_parameters_of_the_architecture() -> None:
    made = hashes.make(b"secret words")
    assert made.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert hashes.is_ours(made)
    assert hashes.verify(made, b"secret words")
    assert not hashes.verify(made, b"Secret words")
    assert not hashes.is_ours("$argon2id$v=19$m=1024,t=1,p=1$c29tZXNhbHQ$" + "a" * 43)
