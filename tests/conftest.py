"""Every test runs on the loop that the roles run on: uvloop's transports and servers differ from asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item
                                  ) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop for all."""
    return {"uvloop": uvloop.new_event_loop}
