"""A year of mail in a database of the first version: migrated whole, whatever kills it on the way."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from atoll.base.ids import MailboxId
from atoll.mailbox import Access, Flag, NewMessage, Store, UidSet, Want
from atoll.mailbox.check import faults
from atoll.mailbox.store import schema
from atoll.sql import Schema, SchemaError, migrate
from atoll.sql.sqlite import SqliteEngine
from tests.postgres import files_only

from .killed import FileDirectory
from .kit import ALICE, ALICES, BOB, BOBS, T0, StillClock, content, delivery, mounted
from .old_schema import FIRST, downgrade

pytestmark = files_only
ROOT = Path(__file__).resolve().parents[2]
DAY = 86_400_000
MESSAGES = 6_000
POINTS = ["schema.commit.before=kill@1", "schema.commit.after=kill@1", "schema.commit.before=kill@2",
          "schema.commit.after=kill@3", "schema.switch.before=kill", "schema.switch.after=kill"]
NEWEST = len([1 for entry in files("atoll.mailbox.sql").joinpath("schema").iterdir() if entry.name.endswith(".sql")])


async def fill(folder: Path) -> dict[str, object]:
    """Two people's year; what every client knows of it."""
    clock = StillClock(T0)
    directory = FileDirectory(folder / "epochs.json")
    async with mounted(folder, directory, clock) as store:
        for day in range(0, 365, 5):
            clock.ms = T0 + day * DAY
            await store.deliver([
                delivery(ALICES if number % 3 else BOBS, path="Archive" if number % 7 == 0 else "INBOX",
                         key=f"{day}-{number}".encode(), message_id=f"<{day}.{number}@x>",
                         references=f"<{day}.{number - 1}@x>" if number % 2 else "", subject=f"Day {day} {number}",
                         size=4_000 if number % 50 == 0 else 300) for number in range(MESSAGES * 5 // 365)])
        alice = await store.open(ALICES, ALICE)
        inbox = alice.folder("INBOX")
        uids = list(range(1, inbox.uidnext))
        await alice.flags(inbox, UidSet.of(uids[::3]), "+", Flag.SEEN, frozenset({"$Work"}), None)
        await alice.flags(inbox, UidSet.of(uids[::50]), "+", Flag.DELETED, frozenset(), None)
        await alice.expunge(inbox, None)
        await alice.create("Projects/2025")
        await alice.append(alice.folder("Projects/2025"), [NewMessage(content("large", size=3_000_000), T0)])
        return await picture(store)


async def picture(store: Store) -> dict[str, object]:
    """Everything that a client could notice."""
    shown: dict[str, object] = {}
    for guid, who in ((ALICES, ALICE), (BOBS, BOB)):
        access: Access = await store.open(MailboxId(guid), who)
        for folder in access.folders(hidden=True):
            rows = access.rows(folder, 1, 1 << 31, Want.META, 10_000)
            digest = hashlib.blake2b()
            for row in rows:
                digest.update(repr((tuple(row), access.keywords(row))).encode())
                digest.update(access.row_blob(row) if row.size < 100_000 else b"")
            shown[f"{who.hex()[:2]} {folder.path}"] = (folder.uidv, folder.uidnext, folder.cn_high, folder.total,
                                                       folder.unread, folder.object_id, len(rows), digest.hexdigest())
    return shown


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, object]]]:
    folder = tmp_path_factory.mktemp("year")
    shown = asyncio.run(fill(folder))
    downgrade(folder / "db1.sqlite")
    yield folder, shown
    shutil.rmtree(folder)


@pytest.fixture
def old(year: tuple[Path, dict[str, object]], tmp_path: Path) -> Path:
    for name in ("db1.sqlite", "epochs.json"):
        shutil.copy(year[0] / name, tmp_path / name)
    return tmp_path


def begin(folder: Path, failpoint: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.mailbox.old_schema", str(folder)], cwd=ROOT,
                            env={**os.environ, "ATOLL_FAILPOINTS": failpoint, "PYTHONPATH": str(ROOT / "src")},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def version(folder: Path) -> int:
    engine = SqliteEngine()
    raw = engine.open(folder / "db1.sqlite")
    try:
        row = raw.writer.one("SELECT version FROM schema_version")
        return int(row[0]) if row else 0
    finally:
        raw.close()


async def whole(folder: Path, shown: dict[str, object]) -> None:
    """Migrated, sound, and no client notices."""
    async with mounted(folder, FileDirectory(folder / "epochs.json"), StillClock(T0 + 361 * DAY)) as store:
        database = store.database("db1")
        assert faults(database.reader) == []
        assert database.database.structure_errors() == []
        assert await picture(store) == shown
        alice = await store.open(ALICES, ALICE)
        inbox = alice.folder("INBOX")
        assert alice.changes(inbox, inbox.cn_high).changed == []
        (again, fresh) = await store.deliver([delivery(key=b"360-1"), delivery(key=b"after")])
        assert (getattr(again, "duplicate", None), getattr(fresh, "duplicate", None)) == (True, False)
        assert database.database.structure_errors() == []
    assert version(folder) == NEWEST
    assert not [path.name for path in folder.iterdir() if "migrating" in path.name]


async def test_migrated_at_once(old: Path, year: tuple[Path, dict[str, object]]) -> None:
    assert version(old) == 1
    await whole(old, year[1])


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_each_step(old: Path, year: tuple[Path, dict[str, object]], point: str) -> None:
    process = begin(old, point)
    said, error = process.communicate(timeout=60)
    assert (process.returncode, said) == (-signal.SIGKILL, b""), error.decode()
    assert version(old) == (NEWEST if point.startswith("schema.switch.after") else 1)
    await whole(old, year[1])


async def test_killed_at_any_time_again_and_again(old: Path, year: tuple[Path, dict[str, object]]) -> None:
    chance = random.Random(7)
    for _ in range(6):
        process = begin(old)
        time.sleep(0.35 + chance.random() * 0.5)
        process.kill()
        process.communicate(timeout=60)
    await whole(old, year[1])


async def test_a_copy_that_fails_its_check_changes_nothing(old: Path, year: tuple[Path, dict[str, object]],
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong() -> Schema:
        real = schema()
        return Schema((*real.texts, (NEWEST + 1, "UPDATE folder SET total = total + 1 WHERE total > 0;")), real.check)

    monkeypatch.setattr("atoll.mailbox.store.schema", wrong)
    with pytest.raises(SchemaError, match="failed its checks"):
        async with mounted(old, FileDirectory(old / "epochs.json")):
            pass
    monkeypatch.undo()
    assert version(old) == 1
    await whole(old, year[1])


def test_an_older_version_says_what_to_do(old: Path) -> None:
    process = begin(old)
    assert process.communicate(timeout=60)[0] == b"mounted\n"
    engine = SqliteEngine()
    raw = engine.open(old / "db1.sqlite")
    try:
        with pytest.raises(SchemaError, match=f"newer version has written this database: it is at schema {NEWEST}, this"
                                              " version knows 1 .* restore a backup of before"):
            migrate(engine, raw, Schema(((1, FIRST),)))
    finally:
        raw.close()


async def test_others_are_served_meanwhile(old: Path) -> None:
    """The event loop is free while a database is migrated."""
    longest = 0.0

    async def look() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)

    watching = asyncio.create_task(look())
    await asyncio.sleep(0.02)
    started = time.monotonic()
    async with mounted(old, FileDirectory(old / "epochs.json")):
        took = time.monotonic() - started
        await asyncio.sleep(0.02)
        watching.cancel()
    assert took > 2 * longest, (took, longest)
