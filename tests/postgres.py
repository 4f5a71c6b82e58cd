"""A private PostgreSQL for tests: its own folder, a Unix socket, no port, gone afterwards.

Binaries: .cache/postgres (`python -m tests.postgres` fetches them there; nothing is installed), else those of
/usr/lib/postgresql; 15 or newer. PostgreSQL refuses to run as root: then it runs as the account `postgres` or `nobody`.
"""

from __future__ import annotations

import atexit
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from hashlib import blake2b
from pathlib import Path

import pytest

from atoll.sql.engine import Database, Engine
from atoll.sql.postgres import PostgresConnection, PostgresEngine
from atoll.sql.sqlite import SqliteEngine
from tests.clients.deps import Apt, Failed, library_paths, unpack

FETCHED = Path(__file__).resolve().parents[1] / ".cache" / "postgres" / "root"
FAST = ("fsync=off", "full_page_writes=off")
"""Nothing here cuts the power of a test's server."""


def binaries() -> Path | None:
    """The folder with initdb and postgres; None when there is none."""
    found = [path for root in (FETCHED / "usr/lib/postgresql", Path("/usr/lib/postgresql"))
             for path in sorted(root.glob("*/bin"), key=lambda path: -int(path.parent.name))
             if int(path.parent.name) >= 15 and (path / "initdb").exists()]
    return found[0] if found else None


def fetch() -> None:
    """Debian's own packages, unpacked under .cache/."""
    apt = Apt(FETCHED.parent / "apt")
    apt.update(86_400)
    for package in ("postgresql-15", "postgresql-17"):
        try:
            wanted = apt.closure([package])
        except Failed:
            continue
        unpack(apt.download(wanted, FETCHED.parent / "debs"), FETCHED)
        break
    print(binaries())


class Server:
    """Runs from the constructor to `stop`."""

    def __init__(self, *settings: str) -> None:
        found = binaries()
        if found is None:
            pytest.skip("no PostgreSQL here (python -m tests.postgres fetches one)")
        self.binaries = found
        self.folder = Path(tempfile.mkdtemp(prefix="atoll-pg-", dir="/tmp"))
        self.user = self._user()
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        self.data.mkdir(mode=0o700)
        if os.getuid() == 0:
            shutil.chown(self.folder, self.user, None)
            shutil.chown(self.data, self.user, None)
        self.settings = settings
        self._as_user("initdb", "-D", str(self.data), "-U", "atoll", "-A", "trust", "-E", "UTF8", "--locale=C",
                      "--data-checksums", "--no-sync", "--no-instructions")
        self.process = self._start()

    @staticmethod
    def _user() -> str:
        if os.getuid():
            return pwd.getpwuid(os.getuid()).pw_name
        names = {entry.pw_name for entry in pwd.getpwall()}
        return "postgres" if "postgres" in names else "nobody"

    def _options(self) -> dict[str, object]:
        libraries = ":".join(library_paths(FETCHED)) if self.binaries.is_relative_to(FETCHED) else ""
        options: dict[str, object] = {"cwd": self.folder,
                                      "env": {**os.environ, "LC_ALL": "C", "LD_LIBRARY_PATH": libraries}}
        if os.getuid() == 0:
            account = pwd.getpwnam(self.user)
            options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        return options

    def _as_user(self, command: str, *words: str) -> None:
        done = subprocess.run([self.binaries / command, *words], capture_output=True, text=True, check=False,
                              **self._options())  # type: ignore[call-overload]
        if done.returncode:
            shutil.rmtree(self.folder)
            raise AssertionError(done.stderr)

    def _start(self) -> subprocess.Popen[bytes]:
        words = ["-D", str(self.data), "-k", str(self.folder), "-c", "listen_addresses=", "-c", "max_connections=60"]
        for setting in self.settings:
            words += ["-c", setting]
        with (self.folder / "log").open("ab") as log:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                [self.binaries / "postgres", *words], stdout=log, stderr=log, **self._options())  # type: ignore[call-overload]
        for _ in range(600):
            pidfile = self.data / "postmaster.pid"
            if pidfile.exists() and re.search(r"\bready\b", pidfile.read_text()):
                return process
            assert process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    @property
    def conninfo(self) -> str:
        return f"host={self.folder} user=atoll dbname=postgres"

    def kill(self) -> None:
        """The server dies; what it had not yet written to its log is lost."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(20)

    def start(self) -> None:
        self.process = self._start()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


CONNINFO = "ATOLL_TEST_POSTGRES"


def shared() -> str:
    """The connection string of one server for all tests of this process and its children."""
    if CONNINFO not in os.environ:
        server = Server(*FAST)
        atexit.register(server.stop)
        os.environ[CONNINFO] = server.conninfo
    return os.environ[CONNINFO]


def place(path: Path) -> str:
    """A schema of its own for each path."""
    return "t" + blake2b(str(path).encode(), digest_size=12).hexdigest()


def on_postgres() -> bool:
    """ATOLL_ENGINE=postgres: the store's tests run on PostgreSQL."""
    return os.environ.get("ATOLL_ENGINE") == "postgres"


def chosen_engine(**options: object) -> Engine:
    """The engine that the store's tests are run on. options: SqliteEngine's."""
    if on_postgres():
        return PostgresEngine(shared(), place)
    return SqliteEngine(**options)  # type: ignore[arg-type]


def copy(engine: PostgresEngine, source: Path, target: Path, *, restored: bool = False) -> None:
    """What a backup or a restore by the server's tools does: `target` becomes `source` as it is at this moment."""
    old, new = engine.place(source), engine.place(target)
    connection = engine.connect(source, "atoll-copy")
    try:
        connection.script("BEGIN ISOLATION LEVEL REPEATABLE READ")
        tables = [name for (name,) in connection.all(
            "SELECT tablename FROM pg_tables WHERE schemaname = ? ORDER BY tablename", (old,))]
        connection.script(f"DROP SCHEMA IF EXISTS {new} CASCADE; CREATE SCHEMA {new}")
        for name in tables:
            connection.script(f"CREATE TABLE {new}.{name} (LIKE {old}.{name} INCLUDING ALL);"
                              f" INSERT INTO {new}.{name} SELECT * FROM {old}.{name}")
        if restored:
            connection.script(f"UPDATE {new}.owner SET restored = 1")
        connection.script("COMMIT")
    finally:
        connection.close()


def plan_on_postgres(database: Database, text: str, values: tuple[object, ...]) -> str:
    """What the planner does when reading a whole table is out of the question."""
    reader = database.reader
    assert isinstance(reader, PostgresConnection)
    reader.script("SET enable_seqscan = off")
    for value in values:
        text = text.replace("?", str(value), 1)
    plan = reader.all(f"EXPLAIN {text}")
    reader.script("RESET enable_seqscan")
    return str(plan)


files_only = pytest.mark.skipif(on_postgres(), reason="a database in a file")


if __name__ == "__main__":
    fetch()
