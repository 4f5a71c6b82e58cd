"""Who shares with whom: said by mailbox processes, told to the session of the person concerned only."""

from __future__ import annotations

import pytest

from atoll.directory.server.shares import EVERYBODY, Shares
from atoll.runtime.rpc import RpcError

from .conftest import House


def test_reports_replace_what_was_said() -> None:
    shares = Shares()
    shares.report("db1", [(b"m1", [b"ann", b"bob"]), (b"m2", [b"ann"])], whole=True)
    shares.report("db2", [(b"m3", [EVERYBODY])], whole=True)
    assert shares.shared_with(b"ann") == [b"m1", b"m2", b"m3"]
    shares.report("db1", [(b"m1", [b"bob"])], whole=False)
    assert shares.shared_with(b"ann") == [b"m2", b"m3"]
    assert shares.shared_with(b"bob") == [b"m1", b"m3"]
    shares.report("db1", [(b"m1", [b"ann"])], whole=True)
    assert shares.shared_with(b"ann") == [b"m1", b"m3"]
    assert shares.shared_with(b"bob") == [b"m3"]
    shares.report("db2", [(b"m3", [])], whole=False)
    assert shares.shared_with(b"bob") == []


async def test_only_the_holder_of_a_session_is_told(house: House) -> None:
    one, two = house.backend(), house.backend()
    for number, backend in enumerate((one, two), 1):
        backend.start()
        await backend.audience(f"mailbox-{number}.a")
    alice = await one.mailbox_of("alice@example.test")
    bob = await one.mailbox_of("bob@example.test")
    assert alice is not None
    assert bob is not None
    with pytest.raises(RpcError, match="not a database of yours"):
        await one.shares("db2", [(bob.mailbox, [alice.user])])
    await two.shares("db2", [(bob.mailbox, [alice.user])], whole=True)
    assert await one.shared_with("no such session") == []
