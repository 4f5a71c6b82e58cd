"""Removing keeps the rows: what comes back, what does not, and who may say so."""

from __future__ import annotations

from importlib.resources import files

import pytest

from atoll.directory.server.removal import Removed, fates
from atoll.runtime.rpc import RpcError
from atoll.sql import SchemaError, migrate
from atoll.sql.migrate import Schema
from atoll.sql.sqlite import SqliteEngine

from .conftest import House

ALICE = "alice@example.test"


async def test_it_comes_back_with_its_addresses(house: House) -> None:
    register, removed = house.parts.register, Removed(house.parts.database)
    for alias in ("info", "sales", "gone"):
        await register.create_alias(f"{alias}@example.test", ALICE)
    await register.remove_alias("gone@example.test")
    mailbox = await register.remove_mailbox(ALICE)
    assert house.parts.recipients.mailbox_of(ALICE) is None
    assert [(fate.mailbox, fate.purged) for fate in fates(house.parts.database, "db1")] == [(mailbox, False)]
    assert fates(house.parts.database, "db2") == []
    await register.create_alias("sales@example.test", "bob@example.test")  # taken meanwhile
    assert await removed.restore("ALICE@example.test") == ALICE
    info = house.parts.recipients.mailbox_of("info@example.test")
    assert info is not None
    assert (info.mailbox, info.state, info.address) == (mailbox, "active", ALICE)
    assert house.parts.recipients.mailbox_of("gone@example.test") is None
    sales = house.parts.recipients.mailbox_of("sales@example.test")
    assert sales is not None
    assert sales.address == "bob@example.test"
    assert fates(house.parts.database, "db1") == []
    # and again: the addresses of the second removal come back, not those of the first
    await register.remove_alias("info@example.test")
    await register.remove_mailbox(ALICE)
    await removed.restore("", mailbox)
    assert house.parts.recipients.mailbox_of("info@example.test") is None


async def test_a_taken_address_wants_another_one(house: House) -> None:
    register, removed = house.parts.register, Removed(house.parts.database)
    mailbox = await register.remove_mailbox(ALICE)
    await register.create_mailbox(ALICE)
    with pytest.raises(RpcError, match="taken"):
        await removed.restore(ALICE)
    assert await removed.restore(ALICE, new="old@example.test") == "old@example.test"
    info = house.parts.recipients.mailbox(mailbox)
    assert info is not None
    assert info.address == "old@example.test"
    fresh = house.parts.recipients.mailbox_of(ALICE)
    assert fresh is not None
    assert fresh.mailbox != mailbox


async def test_the_newest_of_a_name_or_any_by_id(house: House) -> None:
    register, removed = house.parts.register, Removed(house.parts.database)
    first = await register.remove_mailbox(ALICE)
    await register.create_mailbox(ALICE)
    second = await register.remove_mailbox(ALICE)
    await removed.restore(ALICE)
    assert house.parts.recipients.mailbox(second) is not None
    assert await removed.restore("", first, "a1@example.test") == "a1@example.test"
    with pytest.raises(RpcError) as caught:
        await removed.restore("", first)
    assert caught.value.code == "not_found"


async def test_purged_is_gone(house: House) -> None:
    register, removed = house.parts.register, Removed(house.parts.database)
    mailbox = await register.remove_mailbox(ALICE)
    mailbox_1 = house.backend()
    mailbox_1.start()
    await mailbox_1.audience("mailbox-1.a")
    mailbox_2 = house.backend()
    mailbox_2.start()
    await mailbox_2.audience("mailbox-2.a")
    with pytest.raises(RpcError, match="not a database of yours"):
        await mailbox_2.purge("db1", mailbox)
    with pytest.raises(RpcError, match="no removed mailbox"):
        await mailbox_2.purge("db2", mailbox)
    await mailbox_1.purge("db1", mailbox)
    assert [fate.purged for fate in await mailbox_1.fates("db1")] == [True]
    with pytest.raises(RpcError, match="its mail is gone"):
        await removed.restore(ALICE)


async def test_an_older_version_refuses_the_newer_database(house: House) -> None:
    """The sentence that an operator sees who starts an old version over new data."""
    engine = SqliteEngine()
    await house.stop()
    old = Schema(((1, ""),))
    raw = engine.open(house.folder / "dir" / "directory.sqlite")
    try:
        newest = Schema.of(files("atoll.directory.server") / "sql").version
        said = f"newer version has written this database: it is at schema {newest}, this version knows 1"
        with pytest.raises(SchemaError, match=said):
            migrate(engine, raw, old)
    finally:
        raw.close()
    await house.start()
