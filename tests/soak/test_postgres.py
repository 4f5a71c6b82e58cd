"""The store on PostgreSQL: its contract suite, its state machine, and what only a server can do wrong (ISLANDS 4).

In     EXAMPLES in the environment: how many histories the long machine tries (1,000).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll.formats.mime import scan
from atoll.mailbox import Store, StoreError, Want
from atoll.mailbox.backup import Archive, backup, restore_database
from atoll.mailbox.check import faults
from atoll.mailbox.integrity import check
from atoll.mailbox.model import Content, NewMessage
from atoll.sql import Broken, Fence, Fenced, InDoubt, SqlError, Unsupported, migrate, take_ownership
from atoll.sql.postgres import COPY_FROM, PostgresConnection, PostgresDatabase, PostgresEngine
from atoll.sql.sqlite import SqliteEngine
from tests.mailbox.kit import ALICE, ALICES, T0, Directory, StillClock, delivery, message
from tests.postgres import FAST, Server, place
from tests.sql.kit import SCHEMA, Epochs

pytestmark = pytest.mark.soak
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server(*FAST)
    yield running
    running.stop()


@pytest.fixture
def engine(server: Server) -> PostgresEngine:
    return PostgresEngine(server.conninfo, place)


@pytest.mark.parametrize(("tests", "long"), [(("tests/contract", "tests/mailbox"), False),
                                             (("tests/contract/test_machine.py",), True)], ids=["suite", "machine"])
def test_the_contract_holds(tests: tuple[str, ...], long: bool, server: Server) -> None:
    environment = {**os.environ, "ATOLL_ENGINE": "postgres", "ATOLL_TEST_POSTGRES": server.conninfo, "SOAK": ""}
    if long:
        environment["SOAK"] = "1"
    done = subprocess.run([sys.executable, "-P", "-m", "pytest", "-m", "soak" if long else "not soak", *tests],
                          cwd=ROOT, check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-10_000:]
    assert " passed" in done.stdout


# -- the fence --------------------------------------------------------------------------------------------------------
def opened(engine: PostgresEngine, path: Path) -> PostgresDatabase:
    database = migrate(engine, engine.open(path), SCHEMA)
    assert isinstance(database, PostgresDatabase)
    return database


def taking(database: PostgresDatabase, epochs: Epochs) -> tuple[threading.Thread, list[int]]:
    """Becomes the owner in a thread of its own."""
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(
        asyncio.run(take_ownership(database.writer, epochs, "test", "test")).epoch))
    thread.start()
    return thread, done


async def test_a_new_owner_waits_for_a_commit_that_runs_and_then_fences(engine: PostgresEngine, tmp_path: Path) -> None:
    epochs = Epochs()
    old, new = opened(engine, tmp_path), opened(engine, tmp_path)
    fence = Fence(old.writer, (await take_ownership(old.writer, epochs, "test", "test")).epoch)
    fence.begin()
    old.writer.run("INSERT INTO word (word) VALUES (?)", ("in flight",))
    thread, done = taking(new, epochs)
    time.sleep(0.3)
    assert not done, "the row was not locked: both would commit"
    old.writer.commit()
    thread.join(5)
    assert done == [fence.epoch + 1]
    with pytest.raises(Fenced):
        fence.begin()
    assert new.reader.all("SELECT word FROM word") == [("in flight",)]
    old.close()
    new.close()


async def test_the_check_of_an_old_owner_waits_for_a_mount_that_runs(engine: PostgresEngine, tmp_path: Path) -> None:
    epochs = Epochs()
    old, new = opened(engine, tmp_path), opened(engine, tmp_path)
    fence = Fence(old.writer, (await take_ownership(old.writer, epochs, "test", "test")).epoch)
    new.writer.begin()
    new.writer.run("UPDATE owner SET owner_epoch = owner_epoch + 1")
    found: list[object] = []

    def late() -> None:
        try:
            fence.begin()
        except SqlError as error:
            found.append(error)

    thread = threading.Thread(target=late)
    thread.start()
    time.sleep(0.2)
    assert thread.is_alive()
    new.writer.commit()
    thread.join(5)
    assert [type(error) for error in found] == [Fenced]
    old.close()
    new.close()


async def test_a_stalled_owner_is_ended_by_the_server(engine: PostgresEngine, tmp_path: Path) -> None:
    epochs = Epochs()
    old, new = opened(engine, tmp_path), opened(engine, tmp_path)
    fence = Fence(old.writer, (await take_ownership(old.writer, epochs, "test", "test")).epoch)
    fence.begin()
    old.writer.run("INSERT INTO word (word) VALUES (?)", ("never",))
    thread, done = taking(new, epochs)
    thread.join(10)
    assert done == [fence.epoch + 1]
    with pytest.raises(InDoubt):
        old.writer.commit()
    assert new.reader.all("SELECT word FROM word") == []
    old.close()
    new.close()


# -- COMMIT -----------------------------------------------------------------------------------------------------------
def test_a_notice_at_commit_is_doubt(engine: PostgresEngine, tmp_path: Path) -> None:
    database = opened(engine, tmp_path)
    database.writer.script(
        "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'hm'; RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON word DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " EXECUTE FUNCTION warn()")
    database.writer.begin()
    database.writer.run("INSERT INTO word (word) VALUES (?)", ("a",))
    with pytest.raises(InDoubt, match="hm"):
        database.writer.commit()
    database.close()


def test_a_commit_that_no_standby_has_is_doubt(tmp_path: Path) -> None:
    """A cancelled wait for the standby comes back as success with a warning (ISLANDS 4.1)."""
    server = Server(*FAST)
    try:
        engine = PostgresEngine(server.conninfo, place)
        database = opened(engine, tmp_path)
        other = engine.connect(tmp_path, "operator")
        other.script("ALTER SYSTEM SET synchronous_standby_names = 'ghost'")
        other.one("SELECT pg_reload_conf()")
        time.sleep(0.3)
        database.writer.begin()
        database.writer.run("INSERT INTO word (word) VALUES (?)", ("a",))
        found: list[BaseException] = []

        def commit() -> None:
            try:
                database.writer.commit()
            except SqlError as error:
                found.append(error)

        thread = threading.Thread(target=commit)
        thread.start()
        time.sleep(0.5)
        assert thread.is_alive(), "COMMIT did not wait for the standby"
        other.one("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'atoll-owner'")
        thread.join(5)
        assert [type(error) for error in found] == [InDoubt]
        assert "synchronous replication" in str(found[0])
        other.close()
        database.close()
    finally:
        server.stop()


def test_commit_of_what_had_failed_is_no_success(engine: PostgresEngine, tmp_path: Path) -> None:
    database = opened(engine, tmp_path)
    database.writer.begin()
    database.writer.run("INSERT INTO word (word) VALUES (?)", ("a",))
    with pytest.raises(Broken):
        database.writer.run("INSERT INTO word (word) VALUES (?)", ("a",))
    with pytest.raises(Broken, match="ROLLBACK"):
        database.writer.commit()
    assert database.reader.all("SELECT word FROM word") == []
    database.close()


# -- the server goes --------------------------------------------------------------------------------------------------
async def mounted_again(store: Store) -> None:
    for _ in range(200):
        if store.mounted():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("not mounted again")


async def test_what_was_acknowledged_outlives_the_server(tmp_path: Path) -> None:
    server = Server()
    directory = Directory()
    store = Store(PostgresEngine(server.conninfo, place), directory.mailbox, directory,
                  search_engine=SqliteEngine(), clock=StillClock())
    try:
        await store.mount("db1", tmp_path / "db1.sqlite")
        acknowledged: set[bytes] = set()

        async def send(number: int) -> None:
            key = f"k{number}".encode()
            (done,) = await store.deliver([delivery(key=key, message_id=f"<{number}@x>")])
            if not isinstance(done, StoreError):
                acknowledged.add(key)

        killer = asyncio.get_running_loop().run_in_executor(None, lambda: (time.sleep(0.5), server.kill()))
        for number in range(5000):
            await asyncio.gather(*(send(number * 5 + n) for n in range(5)))
            if killer.done():
                break
        assert acknowledged
        assert not store.mounted()
        await asyncio.get_running_loop().run_in_executor(None, server.start)
        await mounted_again(store)
        again = await store.deliver([delivery(key=key, message_id="<again@x>") for key in sorted(acknowledged)[:200]])
        assert all(getattr(done, "duplicate", False) for done in again)
        alice = await store.open(ALICES, ALICE)
        assert len(alice.rows(alice.folder("INBOX"), 1, 1 << 31, Want.HOT, 1 << 20)) >= len(acknowledged)
        assert faults(store.database("db1").reader) == []
    finally:
        await store.close()
        server.stop()


async def test_a_lost_reader_is_a_lost_database(engine: PostgresEngine, tmp_path: Path) -> None:
    """What its server shows after a restart may not be what was acknowledged: nothing is read before the next mount."""
    directory = Directory()
    store = Store(engine, directory.mailbox, directory, search_engine=SqliteEngine(), clock=StillClock())
    await store.mount("db1", tmp_path / "db1.sqlite")
    await store.deliver([delivery()])
    first = store.database("db1")
    reader = first.database.reader
    assert isinstance(reader, PostgresConnection)
    other = engine.connect(tmp_path / "db1.sqlite", "operator")
    other.one("SELECT pg_terminate_backend(?::integer)", (reader.raw.info.backend_pid,))
    other.close()
    with pytest.raises(Broken):
        reader.all("SELECT 1")
    await store._upkeep["db1"]._look()
    await mounted_again(store)
    assert store.database("db1") is not first
    assert store.database("db1").epoch == first.epoch + 1
    await store.close()


# -- the dialect ------------------------------------------------------------------------------------------------------
def test_values_come_back_as_they_went(engine: PostgresEngine, tmp_path: Path) -> None:
    database = engine.open(tmp_path)
    database.writer.script(engine.schema(
        "CREATE TABLE v (a INTEGER PRIMARY KEY, b BLOB, c TEXT) WITHOUT ROWID;\n"
        "--postgresql: ALTER TABLE v ALTER COLUMN b SET STORAGE EXTERNAL;"))
    rows = [(n * (1 << 40), bytes([0, n, 255]), "Kö\u00df%s$1 \U0001f600") for n in range(COPY_FROM)]
    rows += [(-1, None, None), (1, b"", "")]
    database.writer.many("INSERT INTO v (a, b, c) VALUES (?, ?, ?)", rows)
    database.writer.many("INSERT INTO v (a, b, c) VALUES (?, ?, ?)", [(3, b"x", "b"), (4, b"x", "B")])
    found = database.reader.all("SELECT a, b, c FROM v WHERE a NOT IN (?, ?) ORDER BY a", (3, 4))
    assert found == sorted(rows, key=lambda row: row[0])
    assert [type(value) for value in found[1]] == [int, bytes, str]
    assert database.reader.all("SELECT c FROM v WHERE a IN (?, ?) ORDER BY c", (3, 4)) == [("B",), ("b",)]
    total = database.reader.one("SELECT sum(a) FROM v")
    assert total == (sum(row[0] for row in rows) + 7,)
    assert isinstance(total[0], int)
    assert list(database.reader.each("SELECT a FROM v WHERE a < ? ORDER BY a", (2,))) == [(-1,), (0,), (1,)]
    database.close()


async def test_one_text_is_one_prepared_statement(engine: PostgresEngine, tmp_path: Path) -> None:
    database = engine.open(tmp_path)
    for value in (1, 40_000, 1 << 40, True):
        database.reader.all("SELECT ? + 1", (value,))
    prepared = database.reader.one("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT $1%'")
    assert prepared == (1,)
    database.close()


async def test_a_message_with_nul(engine: PostgresEngine, tmp_path: Path) -> None:
    directory = Directory()
    store = Store(engine, directory.mailbox, directory, search_engine=SqliteEngine(), clock=StillClock())
    await store.mount("db1", tmp_path / "db1.sqlite")
    data = message(subject="a\0b", body="nul \0 here", message_id="<n\0l@x>")
    alice = await store.open(ALICES, ALICE)
    await alice.append(alice.folder("INBOX"), [NewMessage(Content(data, scan(data)), T0)])
    assert alice.rows(alice.folder("INBOX"), 1, 1, Want.BODY)[0].body == data
    assert (await check(store.database("db1"))).problems == []
    await store.close()


async def test_the_check_finds_a_broken_index(engine: PostgresEngine, tmp_path: Path) -> None:
    database = opened(engine, tmp_path)
    database.writer.script("CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA pg_catalog")
    database.writer.run("INSERT INTO word (word) VALUES (?)", ("a",))
    assert database.structure_errors() == []
    database.writer.script(
        "UPDATE pg_index SET indisready = false WHERE indexrelid = 'word_pkey'::regclass;"
        " INSERT INTO word (word) VALUES ('not in the index');"
        " UPDATE pg_index SET indisready = true WHERE indexrelid = 'word_pkey'::regclass")
    (found,) = database.structure_errors()
    assert "word_pkey" in found
    database.close()


async def test_what_needs_files_says_so(engine: PostgresEngine, tmp_path: Path) -> None:
    directory = Directory()
    store = Store(engine, directory.mailbox, directory, search_engine=SqliteEngine(), clock=StillClock())
    await store.mount("db1", tmp_path / "db1.sqlite")
    with pytest.raises(Unsupported):
        await backup(store.database("db1"), engine, tmp_path / "copy")
    with pytest.raises(Unsupported):
        await restore_database(store, engine, "db1", tmp_path / "copy")
    with pytest.raises(Unsupported):
        Archive(engine, tmp_path / "copy")
    with pytest.raises(Unsupported):
        engine.salvage(tmp_path, None)
    assert store.mounted() == ["db1"]
    await store.close()
