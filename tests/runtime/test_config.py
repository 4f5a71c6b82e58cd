"""The configuration: typed, every key known, an error says where and what [rule 12]."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.base.config import Config, ConfigError, load, parse


def test_nothing_is_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path / "absent.toml", {}) == Config()


@pytest.mark.parametrize(("text", "says"), [
    ("[listen]\nport_ofset = 1\n", "line 2: unknown key `port_ofset` in [listen]; did you mean `port_offset`?"),
    ("\n\n[lisen]\n", "line 3: unknown key `lisen`; did you mean `listen`?"),
    ("[listen]\nport_offset = -1\n", "port_offset"),
    ("[listen]\nport_offset = 'x'\n", "port_offset"),
    ("[listen\n", "line 1"),
    ("demo = []\n", "unknown key `demo`"),
    ("[processes]\nmailboxes = 1\n", "database db2 is given to mailbox process 2"),
    ("[[databases]]\nname = '../x'\nprocess = 1\n", "databases"),
    ("[[databases]]\nname = 'a'\nprocess = 1\n[[databases]]\nname = 'a'\nprocess = 2\n", "two databases a"),
    ("[admission]\ntrusted = ['10.0.0.1/8']\n", "admission.trusted: 10.0.0.1/8 has host bits set"),
], ids=["key", "section", "range", "type", "syntax", "demo", "process", "name", "twice", "network"])
def test_an_error_says_where_and_what(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text, {})
    assert says in str(error.value)


@pytest.mark.parametrize(("variable", "value", "seen"), [
    ("ATOLL_LISTEN__PORT_OFFSET", "20000", lambda c: c.listen.port_offset == 20000),
    ("ATOLL_ISLAND__HOST", "mail.example.org", lambda c: c.island.host == "mail.example.org"),
    ("ATOLL_LOG__TEXT", "true", lambda c: c.log.text is True),
])
def test_the_environment_wins(variable: str, value: str, seen: object) -> None:
    assert seen(parse("[listen]\nport_offset = 1\n", {variable: value}))  # type: ignore[operator]


@pytest.mark.parametrize("variable", ["ATOLL_LISTEN__PORT", "ATOLL_DEMO__ACCOUNTS"])
def test_an_unknown_variable_stops_the_start(variable: str) -> None:
    with pytest.raises(ConfigError):
        parse("", {variable: "1"})


def test_other_variables_of_ours_are_no_settings() -> None:
    assert parse("", {"ATOLL_DATA": "/x", "ATOLL_FAILPOINTS": "a=b"}) == Config()


@given(st.text(max_size=200))
def test_garbage_is_refused_never_crashes(text: str) -> None:
    try:
        parse(text, {})
    except ConfigError:
        pass


def test_a_smarthost_has_a_name() -> None:
    with pytest.raises(ConfigError, match=r"sending\.mode is smarthost, but sending\.smarthost names none"):
        parse('[sending]\nmode = "smarthost"\n', {})
    assert parse('[sending]\nmode = "smarthost"\nsmarthost = "relay.example"\n', {}).sending.smarthost
