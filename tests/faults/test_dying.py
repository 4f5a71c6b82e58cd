"""SIGKILL within a backup, a restore, a rebuild, a migration, a checkpoint: the old state or the new one, whole.

Each case is a process of its own (tests/faults/dying.py) that has to die at its failpoint.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.directory.server.database import open_database
from atoll.mailbox import Access, Store, StoreError, Want
from atoll.mailbox.backup import backup, rebuild_database, restore_database
from atoll.mailbox.check import faults
from atoll.mailbox.integrity import check
from atoll.sql import Schema, migrate
from atoll.transport.queue import Queue
from tests.faults.dying import ENGINE, WORDS, fill, opened
from tests.mailbox.killed import FileDirectory
from tests.mailbox.kit import ALICE, ALICES, StillClock, delivery

ROOT = Path(__file__).resolve().parents[2]
ALL, OLD, OLDER = range(30), range(20), range(10)
"""What is in the database, in the two backups of it."""
DECIDED = ("mailbox.switch.decided", "mailbox.switch.between")
BACKUP = ("mailbox.backup.before", "mailbox.backup.copied", "mailbox.mark.commit.before", "mailbox.mark.commit.after",
          "mailbox.backup.after")
RESTORE = ("mailbox.restore.copied", "mailbox.mark.commit.before", "mailbox.mark.commit.after",
           "mailbox.restore.before_switch", *DECIDED, "mailbox.restore.after_switch")
REBUILD = ("mailbox.rebuild.copied", "schema.commit.before", "schema.commit.after", "mailbox.rebuild.salvaged",
           "mailbox.mark.commit.before", "mailbox.mark.commit.after", "mailbox.rebuild.before_switch", *DECIDED,
           "mailbox.rebuild.after_switch")
CHECKPOINTS = {"mailbox.checkpoint.before": "deliver", "mailbox.checkpoint.after": "deliver",
               "queue.checkpoint.before": "queue", "queue.checkpoint.after": "queue",
               "directory.checkpoint.before": "directory", "directory.checkpoint.after": "directory"}
MIGRATE = ("schema.commit.before", "schema.commit.after", "schema.switch.before", "schema.switch.after")


def until_killed(folder: Path, point: str, *deed: str) -> list[str]:
    """What it said before it died there."""
    done = subprocess.run([sys.executable, "-m", "tests.faults.dying", str(folder), *deed], cwd=ROOT,
                          env={**os.environ, "ATOLL_FAILPOINTS": point if "=" in point else f"{point}=kill",
                               "PYTHONPATH": str(ROOT / "src")},
                          capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, f"nothing died: {done.stderr.decode()}"
    return done.stdout.decode().split()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database and two older backups."""
    folder = tmp_path_factory.mktemp("filled")

    async def make() -> None:
        store = await opened(folder)
        await fill(store, OLDER)
        await backup(store.database("db1"), ENGINE, folder / "db1-older.sqlite")
        await fill(store, range(OLDER.stop, OLD.stop))
        await store.close()
        shutil.copy(folder / "db1.sqlite", folder / "db1-old.sqlite")  # as by hand
        store = await opened(folder)
        await fill(store, range(OLD.stop, ALL.stop))
        await store.close()

    asyncio.run(make())
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    shutil.copytree(filled, tmp_path / "db")
    return tmp_path / "db"


async def numbers(store: Store) -> list[int]:
    """Messages that are there; the database is sound and takes new ones, under new UIDs."""
    alice: Access = await store.open(ALICES, ALICE)
    inbox = alice.folder("INBOX")
    found = sorted(int(alice.row_blob(row).partition(b"Message-ID: <")[2].partition(b"@")[0])
                   for row in alice.rows(inbox, 1, 1 << 31, Want.HOT, 10_000))
    assert faults(store.database("db1").reader) == []
    assert (await check(store.database("db1"))).problems == []
    return found


async def takes_mail(store: Store) -> None:
    (done,) = await store.deliver([delivery(key=b"next", message_id="<999@x>")])
    assert not isinstance(done, StoreError)
    assert done.uid > len(ALL), "a UID that stood for another message"


@pytest.mark.parametrize("point", BACKUP)
async def test_within_a_backup(folder: Path, point: str) -> None:
    until_killed(folder, point, "backup")
    made = folder / "db1-new.sqlite"
    assert made.exists() == (point == "mailbox.backup.after")
    store = await opened(folder)
    if made.exists():
        await restore_database(store, ENGINE, "db1", made)
    assert await numbers(store) == [*ALL]
    await takes_mail(store)
    await backup(store.database("db1"), ENGINE, made)
    await restore_database(store, ENGINE, "db1", made)
    assert await numbers(store) == [*ALL, 999]
    await store.close()
    assert not list(folder.glob("*.partial*"))


@pytest.mark.parametrize("point", RESTORE)
async def test_within_a_restore(folder: Path, point: str) -> None:
    until_killed(folder, point, "restore", "db1-old.sqlite")
    store = await opened(folder)
    switched = point in (*DECIDED, "mailbox.restore.after_switch")
    assert await numbers(store) == [*(OLD if switched else ALL)]
    await takes_mail(store)
    await restore_database(store, ENGINE, "db1", folder / "db1-older.sqlite")  # nothing of the first one gets into it
    assert await numbers(store) == [*OLDER]
    await takes_mail(store)
    await store.close()
    assert {path.name for path in folder.glob("db1.sqlite*")} <= {"db1.sqlite", "db1.sqlite.lock"}
    assert len(list(folder.glob("db1.before-restore-*.sqlite"))) == 1


@pytest.mark.parametrize("point", REBUILD)
async def test_within_a_rebuild(folder: Path, point: str) -> None:
    until_killed(folder, point, "rebuild")
    store = await opened(folder)
    assert await numbers(store) == [*ALL]
    await takes_mail(store)
    await rebuild_database(store, ENGINE, "db1")
    assert await numbers(store) == [*ALL, 999]
    await store.close()
    assert {path.name for path in folder.glob("db1.sqlite*")} <= {"db1.sqlite", "db1.sqlite.lock"}


@pytest.mark.parametrize("point", CHECKPOINTS)
async def test_within_a_checkpoint(tmp_path: Path, point: str) -> None:
    said = [int(word) for word in until_killed(tmp_path, f"{point}=kill@2", CHECKPOINTS[point])]
    assert said
    if CHECKPOINTS[point] == "deliver":
        store = await opened(tmp_path)
        found = await numbers(store)
        await store.close()
    elif CHECKPOINTS[point] == "queue":
        queue = await Queue.open(ENGINE, tmp_path / "queue.sqlite", FileDirectory(tmp_path / "epochs.json"),
                                 StillClock(), process="test", on_doubt=lambda error: None)
        found = sorted(int.from_bytes(job.envelope.id, "big") for job in queue.waiting())
        await queue.close()
    else:
        file = await open_database(ENGINE, tmp_path / "directory.sqlite", StillClock(), "test", lambda error: None)
        found = [*range(1, file.last_change() + 1)]
        await file.close()
    assert set(said) <= set(found)
    assert len(found) == len(set(found)) <= len(said) + 1


@pytest.mark.parametrize(("point", "from_one"), [*((point, True) for point in MIGRATE),
                                                 *((point, False) for point in MIGRATE if "commit" in point)])
def test_within_a_migration(tmp_path: Path, point: str, from_one: bool) -> None:
    path = tmp_path / "words.sqlite"
    if from_one:
        migrate(ENGINE, ENGINE.open(path), Schema(WORDS[:1])).close()
    until_killed(tmp_path, f"{point}=kill@{2 if 'commit' in point else 1}", "migrate")
    database = migrate(ENGINE, ENGINE.open(path), Schema(WORDS))
    assert database.reader.all("SELECT word, language FROM word") == [("kept", "en")]
    assert database.reader.all("SELECT version FROM schema_version") == [(3,)]
    assert database.structure_errors() == []
    database.close()
