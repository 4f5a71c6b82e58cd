"""item_meta by one integer (0003): files of before come over, whole or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.mailbox import UidSet, Want
from atoll.mailbox.backup import rebuild_file
from atoll.mailbox.check import faults
from atoll.mailbox.store import schema
from atoll.sql import Schema, migrate
from atoll.sql.sqlite import SqliteEngine
from tests.postgres import files_only

from .kit import ALICE, ALICES, T0, Directory, mounted, new


def _back(path: Path, old: Path) -> None:
    """The same rows in a file of version 2."""
    SqliteEngine().open(path).close()
    ours = schema()
    migrate(SqliteEngine(), SqliteEngine().open(old), Schema(ours.texts[:2])).close()
    connection = SqliteEngine().connect(old)
    connection.run("ATTACH ? AS now", (str(path),))
    for (table,) in connection.all("SELECT name FROM main.sqlite_master WHERE type = 'table' ORDER BY name"):
        columns = ", ".join(f'"{row[1]}"' for row in connection.all(f"PRAGMA main.table_info({table})"))
        values = columns.replace('"fid", "uid"', "place / 4294967296, place % 4294967296")
        if table != "schema_version":
            connection.script(f"DELETE FROM main.{table}")
            connection.script(f"INSERT INTO main.{table} ({columns}) SELECT"
                              f" {values if table == 'item_meta' else columns} FROM now.{table}")
    connection.close()


@files_only
@pytest.mark.parametrize("rebuilt", [False, True])
async def test_a_database_of_before_keeps_its_listings(tmp_path: Path, rebuilt: bool) -> None:
    directory, path = Directory(), tmp_path / "db1.sqlite"
    async with mounted(tmp_path, directory) as store:
        alice = await store.open(ALICES, ALICE)
        inbox, archive = alice.folder("INBOX"), alice.folder("Archive")
        await alice.append(inbox, [new(f"s{i}", "x" * 40 * i) for i in range(30)])
        await alice.move(inbox, UidSet.of([3, 7]), archive)
        before = [alice.rows(folder, 1, 99, Want.META) for folder in (inbox, archive)]
    _back(path, tmp_path / "old.sqlite")
    (tmp_path / "old.sqlite").replace(path)
    if rebuilt:
        rebuild_file(SqliteEngine(), path, T0)
    async with mounted(tmp_path, directory) as store:
        alice = await store.open(ALICES, ALICE)
        after = [alice.rows(alice.folder(name), 1, 99, Want.META) for name in ("INBOX", "Archive")]
        assert [[row[9:] for row in rows] for rows in after] == [[row[9:] for row in rows] for rows in before]
        assert [len(rows) for rows in after] == [28, 2]
        assert not faults(store.database("db1").reader)
