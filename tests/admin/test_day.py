"""An administrator's day on a running island: typing errors, wrong places, things that are not there. Every answer says
what to do, has the documented exit code, and is never a traceback.
"""

from __future__ import annotations

import imaplib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.island import Island

PASSWORD = "a-long-enough-password"
COMMAND = [sys.executable, "-c", "from atoll.admin.cli import main; main()"]


class Desk:
    """The `atoll` command at an island."""

    def __init__(self, island: Island) -> None:
        self.island = island

    def __call__(self, *words: object, stdin: str | bytes = b"", data: Path | None = None, env: str = "",
                 ) -> subprocess.CompletedProcess[str]:
        """One command line. data: by --data before the noun; env: ATOLL_DATA."""
        line = [*COMMAND, *(["--data", str(data)] if data else []), *map(str, words)]
        text = stdin.decode() if isinstance(stdin, bytes) else stdin
        done = subprocess.run(line, input=text, capture_output=True, text=True, timeout=60,
                              env={**os.environ, "ATOLL_DATA": env or str(self.island.data)})
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def json(self, *words: object, stdin: str = "") -> Any:
        done = self(*words, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def imap(self, stem: str) -> imaplib.IMAP4_SSL:
        client = imaplib.IMAP4_SSL("localhost", self.island.ports["imaps"], ssl_context=self.island.tls())
        client.login(f"{stem}@{self.island.domain}", self.island.password(stem))
        return client

    def put(self, stem: str, subject: str) -> None:
        client = self.imap(stem)
        client.append("INBOX", "", None, f"From: Carla <carla@b.example>\r\nSubject: {subject}\r\n\r\nx\r\n".encode())
        client.logout()


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with Island() as island:
        yield Desk(island)


ALICE = "alice@example.test"


def test_the_named_island_is_the_one_that_is_asked(desk: Desk, tmp_path: Path) -> None:
    """--data before the noun wins over ATOLL_DATA, as it does behind the verb."""
    assert desk("mailbox", "list", data=tmp_path / "other").returncode == 4
    assert "other" in desk("mailbox", "list", data=tmp_path / "other").stderr
    assert desk("mailbox", "list", data=desk.island.data, env=str(tmp_path / "other")).returncode == 0
    assert desk("mailbox", "list", "--data", desk.island.data, env=str(tmp_path / "other")).returncode == 0


def test_a_full_disk_behind_the_output(desk: Desk) -> None:
    with Path("/dev/full").open("wb") as full:
        for words in (["mailbox", "list"], ["--help"], ["completion", "bash"]):
            done = subprocess.run([*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30,
                                  env={**os.environ, "ATOLL_DATA": str(desk.island.data)})
            assert done.stderr == "atoll: No space left on device\n"
            assert done.returncode == 4


def test_configurations_that_cannot_be_read(desk: Desk, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"\xff\xfe")
    done = desk("config", "check", bad)
    assert (done.returncode, done.stderr) == (1, f"atoll: {bad}: not UTF-8 text\n")
    done = subprocess.run([*COMMAND, "config", "check"], capture_output=True, text=True, timeout=30,
                          env={**os.environ, "ATOLL_DATA": str(desk.island.data), "ATOLL_SMTP__RECIPIENTS": "many"})
    assert done.returncode == 1
    assert done.stderr == "atoll: ATOLL_SMTP__RECIPIENTS: Expected `int`, got `str`\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's files")
def test_somebody_elses_island(tmp_path: Path, desk: Desk) -> None:
    """As root without its powers over files, before an island that is nobody's."""
    place = tmp_path / "theirs"
    (place / "run").mkdir(parents=True)
    (place / "atoll.toml").touch()
    for path in (place, place / "run", place / "atoll.toml"):
        os.chown(path, 65534, 65534)
        path.chmod(0o700 if path.is_dir() else 0o600)
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if subprocess.run([*drop, "true"], capture_output=True).returncode:
        pytest.skip("no setpriv")
    for words, says in ((["health"], "is not yours: administer as the user that runs the island"),
                        (["config", "check"], "Permission denied"),
                        (["config", "check", str(place / "atoll.toml")], "Permission denied")):
        done = subprocess.run([*drop, *COMMAND, *words], capture_output=True, text=True, timeout=30,
                              env={**os.environ, "ATOLL_DATA": str(place)})
        assert says in done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr
        assert done.returncode == 1


def test_settings_name_what_there_is(desk: Desk) -> None:
    for name, value in (("postmaster", "nobody@example.test"), ("default-domain", "nowhere.test")):
        before = desk.json("setting", "get", name)
        done = desk("setting", "set", name, value)
        assert done.returncode == 3, name
        assert value in done.stderr
        assert desk.json("setting", "get", name) == before
    assert desk("setting", "set", "default-domain", "example.test").returncode == 0
    assert desk("setting", "set", "postmaster", ALICE).returncode == 0


def test_nobody_signs_in_to_a_shared_mailbox(desk: Desk) -> None:
    assert desk("mailbox", "create", "team@example.test", "--shared", "--password-stdin", stdin=PASSWORD
                ).returncode == 2
    assert desk("mailbox", "create", "team@example.test", "--shared").returncode == 0
    done = desk("app-password", "create", "team@example.test", "--name", "x")
    assert (done.returncode, done.stderr) == (1, "atoll: nobody signs in to a shared mailbox\n")


def test_a_dismounted_database(desk: Desk) -> None:
    """It is said, wherever it is asked for, and what opens it."""
    assert desk("database", "dismount", "db1").returncode == 0
    try:
        assert desk("database", "dismount", "db1").returncode == 0  # as mounting twice
        for verb in ("check", "backup"):
            done = desk("database", verb, "db1")
            assert done.returncode == 1
            assert done.stderr == "atoll: db1 is dismounted: atoll database mount db1 opens it\n"
        row = next(row for row in desk.json("health")["rows"] if row["name"] == "database db1")
        assert (row["state"], row["detail"]) == ("warn", "dismounted: atoll database mount db1 opens it")
        assert desk("quota", "show", ALICE).stdout.splitlines()[-1].partition(":")[2].strip() == \
            "unknown: its database is not mounted"
        assert "dismounted\t" in desk("database", "list").stdout
        assert "none" not in desk("database", "list").stdout
        assert desk("role", "restart", "mailbox-1").returncode == 0  # whoever copies its files now is not disturbed
        assert {row["database"]: row["state"] for row in desk.json("database", "list")["databases"]} == {
            "db1": "dismounted", "db2": "mounted"}
        row = next(row for row in desk.json("health")["rows"] if row["name"] == "database db1")
        assert (row["state"], row["detail"]) == ("warn", "dismounted: atoll database mount db1 opens it")
    finally:
        assert desk("database", "mount", "db1").returncode == 0
    row = next(row for row in desk.json("health")["rows"] if row["name"] == "database db1")
    assert (row["state"], row["detail"]) == ("ok", "")


def test_deleted_items_by_id_and_by_words(desk: Desk) -> None:
    for subject in ("first invoice", "second invoice", "a letter"):
        desk.put("alice", subject)
    client = desk.imap("alice")
    client.select("INBOX")
    client.store("1:*", "+FLAGS", "\\Deleted")
    client.expunge()
    rows = {row["subject"]: row for row in desk.json("mailbox", "recoverable", "list", ALICE)["items"]}
    assert set(rows) >= {"first invoice", "second invoice", "a letter"}
    count = len(rows)
    for wrong in ("foo", "\N{SUPERSCRIPT TWO}", "99999999"):  # a typing error brings nothing back
        done = desk("mailbox", "recoverable", "recover", ALICE, wrong)
        assert done.returncode == 3, (wrong, done.stdout)
        assert "no such recoverable item" in done.stderr
    assert len(desk.json("mailbox", "recoverable", "list", ALICE)["items"]) == count
    assert desk("mailbox", "recoverable", "recover", ALICE, "--text", "nothing like it").stdout == "0 recovered\n"
    assert desk("mailbox", "recoverable", "recover", ALICE, rows["a letter"]["id"]).stdout == "1 recovered\n"
    assert {row["sender"] for row in rows.values()} == {"carla"}
    assert desk("mailbox", "recoverable", "recover", ALICE, "--text", "carla").returncode == 0
    assert desk.json("mailbox", "recoverable", "list", ALICE)["items"] == []


def test_sessions_tell_where_they_are(desk: Desk) -> None:
    client = desk.imap("alice")
    client.create("Reading")
    rows = desk.json("session", "list", ALICE)["sessions"]
    assert [row["folder"] for row in rows if row["protocol"] == "imap"] == [""]
    client.select("Reading")
    rows = desk.json("session", "list", ALICE)["sessions"]
    assert [row["folder"] for row in rows if row["protocol"] == "imap"] == ["Reading"]
    assert desk("session", "end", rows[0]["sid"]).returncode == 0
    with pytest.raises((imaplib.IMAP4.error, OSError)):
        client.noop()


def test_restores_say_what_they_did(desk: Desk) -> None:
    desk.put("alice", "to be kept")
    made = desk.json("database", "backup", "db1")["backup"]
    done = desk("database", "restore", "db1", made, "--mailbox", "bob@example.test")
    assert done.returncode == 3
    assert done.stderr == "atoll: bob@example.test is not in db1\n"
    done = desk("database", "restore", "db1", made, "--mailbox", ALICE, "--item", "nonsense")
    assert (done.returncode, done.stderr) == (1, "atoll: not an item's id\n")
    done = desk("database", "restore", "db1", "db1-never", "--mailbox", ALICE)
    assert (done.returncode, done.stderr) == (3, "atoll: no such backup: db1-never (atoll database backups db1)\n")
    done = desk("database", "restore", "db1", made, "--yes")
    assert done.stdout.startswith(f"db1 is as it was in {made}; what was there before: db1.before-restore-")


def test_imports_fail_when_nothing_could_come(desk: Desk, tmp_path: Path) -> None:
    """What the operator named and what is no mail is an error, not a success with 0 messages."""
    (tmp_path / "notes.txt").write_text("no mbox\n")
    (tmp_path / "a.eml").write_text("Subject: one\n\nbody\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "readme").write_text("no mbox\n")
    (tmp_path / "tree" / "good").write_text("From a@b Mon Jan  1 00:00:00 2024\nSubject: x\n\nbody\n\n")
    to = ("--to", "bob@example.test")
    for words, says in ((("mbox", tmp_path / "notes.txt"), "not an mbox"),
                        (("maildir", tmp_path / "empty"), "no Maildir here"),
                        (("eml", tmp_path / "a.eml", "--into", "../up"), "the folder cannot be made")):
        done = desk("import", *words, *to)
        assert done.returncode == 1, (words, done.stdout)
        assert says in done.stderr
    done = desk("import", "mbox", tmp_path / "tree", *to)  # in a tree there may be anything
    assert done.returncode == 0
    assert "left out" in done.stdout


def test_an_import_that_is_interrupted_ends_at_once_and_goes_on(desk: Desk, tmp_path: Path) -> None:
    count = 12_000
    (tmp_path / "big.mbox").write_text("".join(
        f"From a@b Mon Jan  1 00:00:00 2024\nSubject: big {at}\n\nline {at}\n\n" for at in range(count)))
    words = ["import", "mbox", str(tmp_path / "big.mbox"), "--to", "admin@example.test", "--folder", "Big"]
    client = desk.imap("admin")
    with subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "ATOLL_DATA": str(desk.island.data)}) as running:
        while client.status("Big", "(MESSAGES)")[0] == "NO" or b" 0)" in client.status("Big", "(MESSAGES)")[1][0]:
            time.sleep(0.02)
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        begun = time.monotonic()
        _, said = running.communicate(timeout=60)
    assert said == "atoll: interrupted: run it again to go on\n"
    assert running.returncode == 1
    assert time.monotonic() - begun < 5
    (done,) = desk.json(*words)["imports"]
    assert 0 < done["already"] < count
    assert done["already"] + done["messages"] == count
    assert client.select("Big")[1] == [str(count).encode()]


def test_imports_from_servers_that_are_not_there(desk: Desk, tmp_path: Path) -> None:
    port = desk.island.ports["imaps"]
    to = ("--to", "bob@example.test", "--password-stdin")
    done = desk("import", "imap", "imaps://a@localhost:1", *to, stdin="x\n")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        4, "atoll: bob@example.test: localhost port 1: Connection refused")
    done = desk("import", "imap", f"imaps://a@localhost:{port}", *to, stdin="x\n")
    assert done.returncode == 1
    assert "localhost shows a certificate that is not trusted (self-signed certificate" in done.stderr
    assert "--ca names its authority" in done.stderr
    for text, says in ((b"", "no accounts"), (b"user,password,mailbox\n", "no accounts"), (b"\xff\xfe", "not UTF-8")):
        (tmp_path / "people.csv").write_bytes(text)
        done = desk("import", "imap", f"imaps://localhost:{port}", "--csv", tmp_path / "people.csv")
        assert done.returncode == 2, text
        assert says in done.stderr
