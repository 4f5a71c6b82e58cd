"""Every test runs on the loop that the roles run on: uvloop's transports and servers differ from asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import pytest
import uvloop

if TYPE_CHECKING:
    from tests.island import Island


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item
                                  ) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop for all."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def island() -> Iterator[Island]:
    """One island for all tests of this worker that harm no role of it. For others: Island() of your own."""
    from tests.island import Island

    with Island() as running:
        yield running
