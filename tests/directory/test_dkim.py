"""Keys of our domains: made, told to transport alone, gone for good when removed."""

from __future__ import annotations

import base64

import pytest

from atoll.directory.client.backend import Backend
from atoll.formats.dkim import keys
from atoll.runtime.rpc import RpcError
from tests.directory.conftest import House

DOMAIN = "example.test"


async def transport(house: House) -> Backend:
    backend = house.backend()
    backend.start()
    await backend.audience("transport.test")
    return backend


async def test_keys_reach_transport_as_they_change(house: House) -> None:
    backend, dkim = await transport(house), house.parts.dkim
    assert await backend.signing_keys(DOMAIN) == []
    await dkim.create(DOMAIN)
    held = await backend.signing_keys(DOMAIN)
    rows = dkim.rows("")
    assert {one.selector for one in held} == {row[1] for row in rows}
    assert sorted(row[2] for row in rows) == ["ed25519", "rsa"]
    assert {keys.record_of(keys.private_key(one.private)) for one in held} == {row[3] for row in rows}
    await dkim.create(DOMAIN.upper(), ["rsa"])
    newest, *_ = await backend.signing_keys(DOMAIN)
    assert newest.selector.startswith("r")
    assert newest.selector.endswith("a") or newest.selector.endswith("b")
    await dkim.remove(DOMAIN, newest.selector)
    assert newest not in await backend.signing_keys(DOMAIN)
    assert await backend.signing_keys("other.test") == []


async def test_a_removed_key_is_gone_and_its_selector_is_not_used_again(house: House) -> None:
    dkim = house.parts.dkim
    await dkim.create(DOMAIN, ["ed25519"])
    ((_, selector, _, record, _),) = dkim.rows(DOMAIN)
    await dkim.remove(DOMAIN, selector)
    assert dkim.rows(DOMAIN) == []
    assert house.parts.database.rows("SELECT private FROM dkim_key") == [(b"",)]
    await dkim.create(DOMAIN, ["ed25519"])
    assert dkim.rows(DOMAIN)[0][1] != selector
    with pytest.raises(RpcError, match="has no key"):
        await dkim.remove(DOMAIN, selector)
    assert base64.b64decode(record.rpartition("p=")[2])


async def test_nobody_else_is_told(house: House) -> None:
    await house.parts.dkim.create(DOMAIN, ["ed25519"])
    backend = house.backend()
    backend.start()
    with pytest.raises(RpcError, match="audience"):
        await backend.signing_keys(DOMAIN)
    await backend.audience("mailbox-1.test")
    with pytest.raises(RpcError, match="transport signs"):
        await backend.signing_keys(DOMAIN)


async def test_keys_go_with_their_domain(house: House) -> None:
    register, dkim = house.parts.register, house.parts.dkim
    await register.create_domain("short.test")
    await dkim.create("short.test", ["ed25519"])
    backend = await transport(house)
    assert len(await backend.signing_keys("short.test")) == 1
    await register.remove_domain("short.test")
    assert await backend.signing_keys("short.test") == []
    assert house.parts.database.rows("SELECT private FROM dkim_key") == [(b"",)]
    await register.create_domain("short.test")
    assert await backend.signing_keys("short.test") == []


async def test_what_is_refused(house: House) -> None:
    dkim = house.parts.dkim
    for domain, kinds, word in (("none.test", ["rsa"], "no such domain"), (DOMAIN, ["dsa"], "kinds of keys"),
                                ("-", ["rsa"], "domain")):
        with pytest.raises(RpcError, match=word):
            await dkim.create(domain, kinds)
    for _ in range(10):
        await dkim.create(DOMAIN, ["ed25519", "ed25519"])
    with pytest.raises(RpcError, match="remove old ones"):
        await dkim.create(DOMAIN, ["ed25519"])
