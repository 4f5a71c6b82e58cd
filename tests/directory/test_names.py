"""How addresses compare, and who is behind them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.directory.server.names import BadName, Name, address_of, domain_of, local_of, split_detail

from .conftest import House


@pytest.mark.parametrize(("text", "expected"), [
    ("alice@example.test", Name("alice", "example.test")),
    ("ALICE@Example.TEST.", Name("alice", "example.test")),
    ('"john doe"@example.test', Name("john doe", "example.test")),
    (r'"a\"b"@example.test', Name('a"b', "example.test")),
    ('"a@b"@example.test', Name("a@b", "example.test")),
    ("jörg@BÜCHER.example", Name("jörg", "xn--bcher-kva.example")),
    ("jo\u0308rg@bücher.example", Name("jörg", "xn--bcher-kva.example")),  # decomposed
    ("STRASSE@example.test", Name("strasse", "example.test")),
    ("straße@example.test", Name("strasse", "example.test")),
])
def test_addresses_that_are_the_same(text: str, expected: Name) -> None:
    assert address_of(text) == expected


@pytest.mark.parametrize("text", ["", "alice", "@example.test", "alice@", "a\x00b@example.test", "a\nb@example.test",
                                  "alice@exa mple.test", "alice@-x.test", "alice@" + "a" * 64 + ".test", "alice@..",
                                  "a" * 65 + "@example.test", "alice@" + "a." * 130 + "test", "\u202ea@x.test",
                                  "\ud800@x.test"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadName):
        address_of(text)


@given(st.text(max_size=100))
def test_names_are_stable_and_nothing_else_is_raised(text: str) -> None:
    for form in (domain_of, local_of, address_of):
        try:
            once = form(text)
        except BadName:
            continue
        if form is domain_of:
            assert domain_of(str(once)) == once
        assert str(once) == str(once).casefold() or form is not domain_of


@pytest.mark.parametrize(("local", "parts"), [("alice+x", ("alice", "x")), ("alice+x+y", ("alice", "x+y")),
                                              ("alice", ("alice", "")), ("+x", ("+x", "")), ("alice+", ("alice", ""))])
def test_detail(local: str, parts: tuple[str, str]) -> None:
    assert split_detail(local) == parts


async def test_exact_address_then_detail_then_catch_all(house: House) -> None:
    register, recipients = house.parts.register, house.parts.recipients

    def found(address: str) -> tuple[str, str] | None:
        info = recipients.recipient(address)
        return (info.address, info.detail) if info else None

    assert found("Alice+Lists@example.test") == ("alice@example.test", "lists")
    assert found("carol@example.test") is None
    await register.create_alias("alice+lists@example.test", "bob@example.test")
    assert found("alice+lists@example.test") == ("bob@example.test", "")
    await register.change_domain("example.test", "bob@example.test")
    assert found("carol+x@example.test") == ("bob@example.test", "")
    assert found("carol@elsewhere.test") is None
    await register.remove_mailbox("bob@example.test")
    assert found("carol@example.test") is None  # the catch-all went with its mailbox


async def test_postmaster_is_always_somebody(house: House) -> None:
    register, recipients = house.parts.register, house.parts.recipients

    def reader(address: str) -> str | None:
        info = recipients.recipient(address)
        return info.address if info else None

    assert reader("postmaster@example.test") == reader("Postmaster") == "alice@example.test"  # the first mailbox
    assert reader("postmaster@elsewhere.test") is None
    await register.set_setting("postmaster", "bob@example.test")
    assert reader("PostMaster@Example.Test") == "bob@example.test"
    await register.create_mailbox("postmaster@example.test", database="db1")
    assert reader("postmaster@example.test") == "postmaster@example.test"


async def test_who_may_write_as_whom(house: House) -> None:
    recipients = house.parts.recipients
    await house.parts.register.create_alias("info@example.test", "alice@example.test")
    alice = recipients.mailbox_of("alice@example.test")
    assert alice is not None
    allowed = ["alice@example.test", "ALICE+x@example.test", "info@example.test"]
    denied = ["bob@example.test", "alice@elsewhere.test", "", "nobody@example.test"]
    assert [address for address in allowed + denied if recipients.may_send_as(alice.user, address)] == allowed
    assert not recipients.may_send_as(b"", "alice@example.test")


async def test_removed_rows_stay_as_tombstones_with_a_change_number(house: House) -> None:
    database = house.parts.database
    before = database.last_change()
    await house.parts.register.remove_mailbox("bob@example.test")
    rows = database.rows("SELECT change FROM mailbox WHERE deleted = 1 AND address = 'bob@example.test'")
    assert len(rows) == 1
    assert rows[0][0] > before
    old = database.one("SELECT id FROM mailbox WHERE address = 'bob@example.test'")
    new, _ = await house.parts.register.create_mailbox("bob@example.test", database="db2")
    assert old is not None
    assert old[0] != new


async def test_a_change_drops_what_clients_remember(house: House) -> None:
    backend = house.backend()
    await backend.recipient("alice@example.test")  # the subscription begins
    assert (await backend.recipient("carol@example.test")) is None
    await house.parts.register.create_mailbox("carol@example.test", database="db1")
    info = await backend.recipient("carol@example.test")  # not the two seconds of a remembered no
    assert info is not None
    assert (await backend.mailbox(info.mailbox)).quota.receive == 0
    await house.parts.register.set_setting("quota-receive", "1000")
    assert (await backend.mailbox(info.mailbox)).quota.receive == 1000
    assert await backend.is_local_domain("new.test") is False
    await house.parts.register.create_domain("new.test")
    assert await backend.is_local_domain("new.test") is True


async def test_what_clients_remember_costs_no_call(house: House) -> None:
    backend = house.backend()
    for _ in range(2):  # the first one is asked while the subscription begins
        await backend.recipient("alice@example.test")
    asked = backend.rpc._next
    for _ in range(100):
        await backend.recipient("alice@example.test")
    assert backend.rpc._next == asked


async def test_who_asked_first_may_leave(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = house.backend()
    await backend.recipient("alice@example.test")
    real, asked = backend.rpc.call, []

    async def slow(*args: Any, **more: Any) -> Any:
        asked.append(args)
        await asyncio.sleep(0.1)
        return await real(*args, **more)

    monkeypatch.setattr(backend.rpc, "call", slow)
    first, second = (asyncio.create_task(backend.recipient("bob@example.test")) for _ in range(2))
    await asyncio.sleep(0.02)
    first.cancel()
    info = await second
    assert info is not None
    assert len(asked) == 1
