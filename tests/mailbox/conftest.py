from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atoll.mailbox import Access, Store

from .kit import ALICE, ALICES, Directory, StillClock, mounted


@pytest.fixture
def directory() -> Directory:
    return Directory()


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
async def store(tmp_path: Path, directory: Directory, clock: StillClock) -> AsyncIterator[Store]:
    async with mounted(tmp_path, directory, clock) as store:
        yield store


@pytest.fixture
async def alice(store: Store) -> Access:
    return await store.open(ALICES, ALICE)
