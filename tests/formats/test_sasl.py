"""SASL PLAIN and LOGIN: read or refused, and never shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.formats.sasl import NotSasl, name, plain, unbase64
from atoll.protocols.smtp.sasl import Exchange


def test_plain() -> None:
    assert plain(b"\0a\0b").login == "a"
    assert plain(b"z\0a\0b c").authzid == "z"


@pytest.mark.parametrize("bad", [b"", b"a", b"\0a", b"\0\0b", b"\0a\0", b"\0a\0b\0c", b"\xff\0a\0b", b"\x01\0a\0b"])
def test_out_of_form(bad: bytes) -> None:
    with pytest.raises(NotSasl):
        plain(bad)


def test_base64() -> None:
    assert unbase64(b"=") == b""
    with pytest.raises(NotSasl):
        unbase64(b"!")


def test_what_is_no_name_is_nobodys() -> None:
    assert name(b"\xff") == name(b"a\rb") == name(b"a" * 321) == ""


@given(st.binary(max_size=40))
def test_read_or_refused(data: bytes) -> None:
    try:
        plain(data)
    except NotSasl:
        return


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(plain(b"\0a\0secret"))
    exchange = Exchange("LOGIN")
    assert exchange.answer(b"YQ==") is None
    assert "secret" not in repr(exchange.answer(b"c2VjcmV0"))
