"""Asking a role: the work may take hours, a role that is away is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.admin import ops, relay
from atoll.admin.relay import Relay
from atoll.runtime.rpc import RpcClient, RpcError


async def test_long_work_of_a_role_that_is_away_is_refused_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "QUICK_SECONDS", 0.2)
    monkeypatch.setattr(relay, "LONG_SECONDS", 3.0)
    asking = Relay(lambda role: tmp_path / f"{role}.sock")
    given: list[float | None] = []
    real = RpcClient.call

    async def call(self: RpcClient, op: str, params: object, result: type, within: float | None = None) -> object:
        given.append(within)
        return await real(self, op, params, result, within)  # type: ignore[arg-type]

    monkeypatch.setattr(RpcClient, "call", call)
    with pytest.raises(RpcError, match="mailbox-1: nobody answers"):
        await asking.ask("mailbox-1", "database.check", ops.DatabaseCheck("db1"), ops.Count)
    assert given == []
    await asking.close()
