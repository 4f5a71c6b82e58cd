"""The directory's database: what is committed is told, whatever comes after."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.base.clock import SystemClock
from atoll.directory.server import database as module
from atoll.sql import SqlError
from atoll.sql.sqlite import SqliteEngine


async def test_a_checkpoint_that_fails_refuses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is committed: whoever asked for it is not told that it failed."""
    doubts: list[SqlError] = []
    calls = []

    def fail(*, restart: bool) -> None:
        calls.append(restart)
        raise SqlError("the log cannot be folded back")

    database = await module.open_database(SqliteEngine(), tmp_path / "d.sqlite", SystemClock(), "test", doubts.append)
    monkeypatch.setattr(module, "LOG_BYTES", 0)
    monkeypatch.setattr(database._file, "checkpoint", fail)
    number = await database.write(lambda tx: tx.change())
    assert calls
    assert database.last_change() == number
    assert await database.write(lambda tx: tx.change()) == number + 1
    assert doubts == []
    monkeypatch.undo()
    await database.close()
