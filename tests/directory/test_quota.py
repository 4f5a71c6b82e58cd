"""Who may not send: said by mailbox processes, heard by transport, never by a frontend."""

from __future__ import annotations

import asyncio

import pytest

from atoll.directory.client import wire
from atoll.directory.client.backend import Backend
from atoll.directory.client.model import NO_SENDING, WARNED, WITHIN, Quota, QuotaStep
from atoll.runtime.rpc import RpcError

from .conftest import House


async def _backend(house: House, instance: str) -> Backend:
    backend = house.backend()
    backend.start()
    await backend.audience(instance)
    return backend


async def test_transport_hears_at_once_and_when_it_connects(house: House) -> None:
    mailbox_1, transport = await _backend(house, "mailbox-1.a"), await _backend(house, "transport.a")
    alice = await mailbox_1.mailbox_of("alice@example.test")
    assert alice is not None
    await mailbox_1.quota_steps("db1", [QuotaStep(alice.mailbox, WARNED)])
    await asyncio.sleep(0.05)
    assert transport.may_send(alice.user)  # warned is not stopped
    await mailbox_1.quota_steps("db1", [QuotaStep(alice.mailbox, NO_SENDING)])
    await asyncio.sleep(0.05)
    assert not transport.may_send(alice.user)
    late = await _backend(house, "transport.b")
    assert not late.may_send(alice.user)
    await mailbox_1.quota_steps("db1", [QuotaStep(alice.mailbox, WITHIN)])
    await asyncio.sleep(0.05)
    assert transport.may_send(alice.user)
    assert late.may_send(alice.user)


async def test_a_whole_report_lifts_what_it_does_not_name(house: House) -> None:
    mailbox_1 = await _backend(house, "mailbox-1.a")
    alice = await mailbox_1.mailbox_of("alice@example.test")
    assert alice is not None
    await mailbox_1.quota_steps("db1", [QuotaStep(alice.mailbox, NO_SENDING)], whole=True)
    assert house.parts.service.steps.stopped() == [alice.user]
    await mailbox_1.quota_steps("db1", [], whole=True)
    assert house.parts.service.steps.stopped() == []


async def test_a_process_speaks_for_its_own_databases_only(house: House) -> None:
    mailbox_1, mailbox_2 = await _backend(house, "mailbox-1.a"), await _backend(house, "mailbox-2.a")
    alice = await mailbox_1.mailbox_of("alice@example.test")
    assert alice is not None
    with pytest.raises(RpcError, match="not a database of yours"):
        await mailbox_2.quota_steps("db1", [QuotaStep(alice.mailbox, NO_SENDING)])
    await mailbox_2.quota_steps("db2", [QuotaStep(alice.mailbox, NO_SENDING)])  # she does not live there
    assert house.parts.service.steps.stopped() == []
    with pytest.raises(RpcError, match="not a database of yours"):
        await mailbox_2.quotas("db1")


async def test_limits_are_a_mailboxs_own_or_the_organizations(house: House) -> None:
    mailbox_1 = await _backend(house, "mailbox-1.a")
    assert await mailbox_1.quotas("db1") == []
    await house.parts.register.set_setting("quota-send", "5000")
    ((_, quota),) = await mailbox_1.quotas("db1")
    assert quota == Quota(0, 5000, 0)
    await house.parts.register.change_mailbox("alice@example.test", quota=Quota(1, 2, 3))
    ((_, quota),) = await mailbox_1.quotas("db1")
    assert quota == Quota(1, 2, 3)


async def test_a_frontend_is_not_told_who_is_over_his_limit(house: House) -> None:
    mailbox_1 = await _backend(house, "mailbox-1.a")
    alice = await mailbox_1.mailbox_of("alice@example.test")
    assert alice is not None
    await mailbox_1.quota_steps("db1", [QuotaStep(alice.mailbox, NO_SENDING)])
    heard: list[str] = []
    frontend = house.sign_in()
    frontend.told = lambda op, raw: heard.append(op)  # type: ignore[method-assign]
    answer = await frontend.rpc.call("subscribe", wire.Subscribe(0), wire.Subscribed)
    assert answer.stopped == []
    await mailbox_1.quota_steps("db1", [QuotaStep(alice.mailbox, WITHIN)])
    await asyncio.sleep(0.05)
    assert heard == []
