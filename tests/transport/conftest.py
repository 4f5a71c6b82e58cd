"""The post office as a fixture; other folders import it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.directory.conftest import House
from tests.directory.conftest import house as house
from tests.transport.kit import PostOffice


@pytest.fixture
async def office(house: House, tmp_path: Path) -> AsyncIterator[PostOffice]:
    office = PostOffice(tmp_path, house)
    await office.start()
    yield office
    await office.close()


@pytest.fixture
async def closed_office(house: House, tmp_path: Path) -> AsyncIterator[PostOffice]:
    """Not started: a test sets limits first."""
    office = PostOffice(tmp_path, house)
    yield office
    await office.close()
