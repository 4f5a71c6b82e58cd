"""`atoll import` and `atoll export` as people run them, on a running island."""

from __future__ import annotations

import json
import poplib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.island import Island

pytestmark = pytest.mark.island


@pytest.fixture(scope="module")
def island() -> Iterator[Island]:
    with Island(None) as running:
        yield running


def atoll(island: Island, *arguments: str, stdin: str = "", data: str = "") -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own: its pid is what the token is bound to."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from atoll.admin.cli import main; main()",
            "--data",
            data or str(island.data),
            *arguments,
        ],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def result(done: subprocess.CompletedProcess[str]) -> dict:
    return json.loads(done.stdout)["imports"][0]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mail")
    (root / "Boats" / "old").mkdir(parents=True)
    for at in range(20):
        (root / f"{at}.eml").write_bytes(b"From: a@example.com\nSubject: %d\n\nbody\nFrom me\n" % at)
    (root / "Boats" / "old" / "x.eml").write_bytes(b"Subject: boat\r\n\r\nsails\r\n")
    return root


def test_there_and_back_again(island, files, tmp_path):
    done = atoll(island, "import", "eml", str(files), "--to", "alice@example.test", "--into", "cli", "--json")
    assert done.returncode == 0, done.stderr
    assert (result(done)["messages"], result(done)["mended"]) == (21, 20)
    again = atoll(island, "import", "eml", str(files), "--to", "alice@example.test", "--into", "cli", "--json")
    assert (result(again)["messages"], result(again)["already"]) == (0, 21)
    first = {}
    for kind in ("maildir", "mbox", "eml"):
        out = tmp_path / kind
        done = atoll(island, "export", kind, str(out), "--from", "alice@example.test", "--folder", "cli/INBOX",
                     "--folder", "cli/Boats/old", "--json")  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["messages"] == 21
        done = atoll(island, "import", kind, str(out), "--to", "bob@example.test", "--into", kind, "--json")
        assert result(done)["messages"] == 21, done
        back = tmp_path / f"back-{kind}"
        paths = {"maildir": f"{kind}/cli/INBOX", "mbox": f"{kind}/cli/INBOX", "eml": f"{kind}/cli/INBOX"}
        done = atoll(island, "export", "eml", str(back), "--from", "bob@example.test", "--folder", paths[kind])
        assert done.returncode == 0, done.stderr
        first[kind] = sorted(path.read_bytes() for path in back.rglob("*.eml"))
    expected = sorted(path.read_bytes().replace(b"\n", b"\r\n") for path in files.glob("*.eml"))
    assert first["maildir"] == first["mbox"] == first["eml"] == expected


def test_from_an_imap_server_by_a_table(island, files, tmp_path):
    atoll(island, "import", "eml", str(files), "--to", "alice@example.test", "--into", "table", "--json")
    table = tmp_path / "people.csv"
    table.write_text(
        f"user,password,mailbox\nalice@example.test,{island.password('alice')},bob@example.test\n"
        "alice@example.test,wrong,bob@example.test\n"
    )
    done = atoll(island, "import", f"imaps://localhost:{island.ports['imaps']}", "--csv", str(table), "--ca",
                 island.demo["ca"], "--into", "moved", "--folder", "table/Boats/old",
                 "--jobs", "1", "--json")  # fmt: skip
    assert done.returncode == 1
    good, bad = json.loads(done.stdout)["imports"]
    assert (good["messages"], good["error"]) == (1, "")
    assert (bad["messages"], bool(bad["error"])) == (0, True)
    assert "wrong" not in done.stdout + done.stderr
    assert Path(json.loads(done.stdout)["report"]).read_text().count("\n") >= 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["import", "imaps://alice:secret@localhost", "--to", "a@b", "--password-stdin"], 2),
        (["import", "imaps://localhost", "--to", "a@b", "--password-stdin"], 2),
        (["import", "imaps://alice@localhost", "--to", "a@b"], 2),
        (["import", "maildir", "/nonexistent", "--to", "alice@example.test"], 2),
        (["import", "eml", "/etc/hostname", "--to", "nobody@example.test"], 3),
        (["export", "eml", "/tmp", "--from", "alice@example.test"], 1),
        (["export", "eml", "NEW", "--from", "alice@example.test", "--folder", "none"], 3),
        (["import", "imaps://alice@127.0.0.1:1", "--to", "alice@example.test", "--password-stdin"], 4),
    ],
)
def test_exit_codes(island, tmp_path, arguments, code):
    arguments = [str(tmp_path / "new") if word == "NEW" else word for word in arguments]
    done = atoll(island, *arguments, stdin="secret\n")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_no_island_is_tried_again_later(island, files, tmp_path):
    done = atoll(island, "import", "eml", str(files), "--to", "alice@example.test", data=str(tmp_path))
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "import").exists()


def ids(island: Island, who: str) -> list[str]:
    client = poplib.POP3_SSL("localhost", island.ports["pop3s"], context=island.tls(), timeout=20)
    client.user(who)
    client.pass_(island.password(who))
    try:
        return [line.split()[1].decode() for line in client.uidl()[1]]
    finally:
        client.quit()


def test_unique_ids_go_from_server_to_server(island, tmp_path):
    box = tmp_path / "old.mbox"
    box.write_bytes(b"".join(b"From x Tue Nov 24 11:42:16 2026\nX-UIDL: Old-%d!\nSubject: %d\n\na\n\n" % (at, at)
                             for at in range(5)))
    done = atoll(island, "import", "mbox", str(box), "--folder", "INBOX", "--to", "alice@example.test", "--json")
    assert result(done)["messages"] == 5, done
    theirs = ids(island, "alice@example.test")
    assert theirs[-5:] == [f"Old-{at}!" for at in range(5)]
    url = f"imaps://alice@example.test@localhost:{island.ports['imaps']}"
    arguments = ["import", url, "--to", "admin@example.test", "--ca", island.demo["ca"], "--folder", "INBOX",
                 "--password-stdin", "--json", "--pop3"]  # fmt: skip
    password = island.password("alice@example.test") + "\n"
    for url, code in (("imaps://localhost", 2), ("pop3s://alice@localhost", 2), ("pop3s://localhost:1", 4)):
        done = atoll(island, *arguments, url, stdin=password)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
    for _ in range(2):
        done = atoll(island, *arguments, f"pop3s://localhost:{island.ports['pop3s']}", stdin=password)
        assert done.returncode == 0, done.stderr
        assert ids(island, "admin@example.test") == theirs


def test_a_command_that_is_killed_goes_on(island, tmp_path):
    """SIGKILL, three times, at whatever it is doing: every message is there once in the end."""
    source = tmp_path / "Maildir"
    for part in ("cur", "new", "tmp"):
        (source / part).mkdir(parents=True)
    for at in range(4_000):
        (source / "cur" / f"{at:05}.x:2,S").write_bytes(b"Subject: %d\r\n\r\nbody of %d\r\n" % (at, at))
    arguments = ["import", "maildir", str(source), "--to", "bob@example.test", "--into", "killed"]
    before = set(island.data.glob("import/*.journal"))
    command = [sys.executable, "-c", "from atoll.admin.cli import main; main()", "--data", str(island.data), *arguments]
    for lines in (4, 9, 15):  # of its journal: two for each batch of 200
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            journal = next(iter(set(island.data.glob("import/*.journal")) - before), None)
            if journal is not None and journal.read_bytes().count(b"\n") > lines:
                process.kill()
            time.sleep(0.005)
        assert process.returncode == -signal.SIGKILL
    done = result(atoll(island, *arguments, "--json"))
    assert 0 < done["already"] < 4_000
    assert done["messages"] + done["already"] == 4_000
    out = tmp_path / "out"
    assert atoll(island, "export", "eml", str(out), "--from", "bob@example.test", "--folder", "killed/INBOX"
                 ).returncode == 0
    bodies = sorted(path.read_bytes() for path in out.rglob("*.eml"))
    assert bodies == sorted(path.read_bytes() for path in (source / "cur").iterdir())
