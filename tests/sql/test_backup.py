"""A backup of a database in use is whole, whatever of it is still in the log."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from atoll.sql.sqlite import CHECKED_VFS, LockFile, SqliteEngine, broken_pages


@pytest.mark.parametrize("vfs", [CHECKED_VFS, "unix"])
@pytest.mark.parametrize("step", [256, 4096])
def test_what_is_in_the_log_is_copied_with_its_checksums(tmp_path: Path, vfs: str, step: int) -> None:
    engine = SqliteEngine(vfs=vfs)
    database = engine.open(tmp_path / "a.sqlite")
    writer, target = database.writer, tmp_path / "copy.sqlite"
    writer.script("CREATE TABLE one (n INTEGER PRIMARY KEY, text TEXT)")
    writer.begin()
    writer.many("INSERT INTO one VALUES (?, ?)", [(n, "a" * 3000) for n in range(6000)])  # more than the copy's cache
    writer.commit()
    database.checkpoint(restart=True)
    writer.begin()
    writer.run("UPDATE one SET text = 'b' || n WHERE n % 3 = 0")
    writer.commit()
    for _ in database.backup(target, step):
        pass
    database.close()
    assert broken_pages(target) == []
    copy = engine.open(target)
    assert copy.structure_errors() == []
    assert copy.reader.one("SELECT count(*) FROM one WHERE text = 'b' || n") == (2000,)
    assert copy.reader.one("SELECT count(*) FROM one WHERE text LIKE 'aaa%'") == (4000,)
    copy.close()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_lock_that_is_given_back_twice_closes_no_other_file(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "a.lock")
    lock.release()
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    lock.release()
    os.fstat(other)
    os.close(other)
