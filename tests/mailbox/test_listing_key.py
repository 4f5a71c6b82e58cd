"""item_meta by one integer (0003): files of before come over, whole or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.mailbox import UidSet, Want
from atoll.mailbox.backup import rebuild_file
from atoll.mailbox.check import faults
from atoll.sql.sqlite import SqliteEngine
from tests.postgres import files_only

from .kit import ALICE, ALICES, T0, Directory, mounted, new

_BACK = """CREATE TABLE old (fid INTEGER NOT NULL, uid BIGINT NOT NULL, envelope BLOB NOT NULL, structure BLOB NOT NULL,
    preview TEXT NOT NULL, sort BLOB NOT NULL, props BLOB, PRIMARY KEY (fid, uid)) WITHOUT ROWID;
INSERT INTO old SELECT place / 4294967296, place % 4294967296, envelope, structure, preview, sort, props FROM item_meta;
DROP TABLE item_meta;
ALTER TABLE old RENAME TO item_meta;
UPDATE schema_version SET version = 2, min_reader = 1, min_writer = 1;"""


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
    connection = SqliteEngine().connect(path)
    connection.script(_BACK)
    connection.close()
    if rebuilt:
        rebuild_file(SqliteEngine(), path, T0)
    async with mounted(tmp_path, directory) as store:
        alice = await store.open(ALICES, ALICE)
        after = [alice.rows(alice.folder(name), 1, 99, Want.META) for name in ("INBOX", "Archive")]
        assert [[row[9:] for row in rows] for rows in after] == [[row[9:] for row in rows] for rows in before]
        assert [len(rows) for rows in after] == [28, 2]
        assert not faults(store.database("db1").reader)
