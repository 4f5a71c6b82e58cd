"""Where a server of ours goes when others name the place."""

from __future__ import annotations

import pytest

from atoll.runtime.egress import Egress


@pytest.mark.parametrize(("address", "permitted"), [
    ("9.9.9.9", True), ("2620:fe::fe", True), ("127.0.0.1", False), ("10.1.2.3", False), ("169.254.169.254", False),
    ("100.64.0.1", False), ("224.0.0.1", False), ("0.0.0.0", False), ("::1", False), ("fe80::1", False),
    ("fd00::1", False), ("::ffff:10.1.2.3", False), ("::ffff:9.9.9.9", True), ("64:ff9b::10.1.2.3", False),
    ("64:ff9b::9.9.9.9", True), ("2002:0a01:0203::1", False), ("2001:0:4136:e378:8000:63bf:f5fe:fdfc", False),
])
def test_only_public_addresses_are_connected_to_however_they_are_wrapped(address: str, permitted: bool) -> None:
    assert Egress(servers=["127.0.0.1"]).permits(address) == permitted


def test_a_network_that_is_allowed() -> None:
    egress = Egress(servers=["127.0.0.1"], allowed=["10.1.0.0/16", "fd00::/8"])
    assert [egress.permits(one) for one in ("10.1.2.3", "10.2.2.3", "fd00::1", "64:ff9b::10.1.2.3", "::1")] == [
        True, False, True, True, False]
