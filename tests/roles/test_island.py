"""An island as it stands: its sockets, its files, what each role has loaded and given up, its users."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll.base.config import Config
from atoll.roles import ROLES, instances
from tests.island import ROOT, Island
from tests.roles.people import imap, subjects, works

INSIDE = ("front-dir/signin.sock", "back-dir/backend.sock", "admin.sock", "front-trans/smtp.sock",
          "front-trans/submit.sock", "trans-mbox/lmtp-1.sock", "trans-mbox/lmtp-2.sock", "front-mbox/imap-1.sock",
          "front-mbox/pop-1.sock", "mbox-mbox/imap-2.sock", "dir-op/mailbox-1.sock", "dir-op/transport.sock",
          "dir-op/supervisor.sock")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_and_sockets_are_ours_alone(island: Island) -> None:
    data = island.data
    assert {name: oct(mode(data / name)) for name in (".", "run", "dir", "queue", "mbox/1", "tls")} == {
        ".": "0o700", "run": "0o711", "dir": "0o700", "queue": "0o700", "mbox/1": "0o700", "tls": "0o700"}
    assert {name: oct(mode(data / name)) for name in ("demo.json", "tls/key.pem")} == {
        "demo.json": "0o600", "tls/key.pem": "0o600"}
    for name in INSIDE:
        path = data / "run" / name
        assert stat.S_ISSOCK(path.stat().st_mode), name
        assert mode(path) == 0o600, name
        if path.parent.name != "run":
            assert mode(path.parent) == 0o700, name


def test_demo_json_has_all_that_a_script_needs(island: Island) -> None:
    card = island.demo
    assert card["domain"] == "example.test"
    assert {one["address"] for one in card["accounts"]} == {f"{who}@example.test" for who in ("alice", "bob", "admin")}
    assert set(card["ports"]) == {"smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s", "health"}
    assert {one["database"] for one in card["accounts"]} == {"db1", "db2"}, "nothing may assume one database"
    assert "web_url" not in card
    for who in ("alice", "bob", "admin"):
        client = imap(island, who)
        assert works(client)
        client.logout()
    log = island.log()
    assert all(one["password"] in log for one in card["accounts"]), "the terminal says them"
    assert [event for event in island.events() for one in card["accounts"]
            if one["password"] in json.dumps(event)] == [], "the log's records never do"


def test_the_ready_line_says_that_the_roles_share_a_uid(island: Island) -> None:
    assert "share one uid" in island.log()
    assert any(row["name"] == "separation" and row["state"] == "warn" for row in island.health()["rows"])


@pytest.mark.parametrize("service", ["imaps", "pop3s", "submissions"])
def test_the_certificate_is_good_for_the_demos_names(island: Island, service: str) -> None:
    for name in ("localhost", "127.0.0.1", "mail.example.test"):
        with socket.create_connection(("127.0.0.1", island.ports[service]), 5) as raw, \
                island.tls().wrap_socket(raw, server_hostname=name) as sock:
            assert sock.version() == "TLSv1.3"
    with socket.create_connection(("127.0.0.1", island.ports[service]), 5) as raw, \
            pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")


def test_health_and_metrics(island: Island) -> None:
    health = island.health()
    assert {row["role"] for row in health["rows"] if row["name"] == "process"} == set(island.pids())
    assert [row for row in health["rows"] if row["state"] == "fail"] == []
    with urllib.request.urlopen(f"http://127.0.0.1:{island.ports['health']}/metrics", timeout=5) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"
        text = answer.read().decode()
    for role in island.pids():
        assert f'atoll_role_up{{of="{role}",role="supervisor"}} 1' in text
        assert f'atoll_process_resident_bytes{{role="{role}"}}' in text
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{island.ports['health']}/", timeout=5)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads another process's status")
def test_every_role_has_given_up_what_it_does_not_need(island: Island) -> None:
    for role, pid in island.pids().items():
        status = Path(f"/proc/{pid}/status").read_text()
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert (role, facts["NoNewPrivs"], facts["Seccomp"]) == (role, "1", "2")
        assert int(facts["CapEff"], 16) & ~2 == 0, role
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert "Max core file size        0" in limits, role
        assert Path(f"/proc/{pid}/exe").readlink() == Path(sys.executable).resolve()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"HOME=" not in environment, "nothing that the operator's shell happens to hold"
    rows = [row for row in island.health()["rows"] if row["name"] == "hardening"]
    assert {row["role"] for row in rows} == set(island.pids())
    assert [row for row in rows if row["state"] != "ok"] == []


FRONT_MAY_NOT = ("atoll.mailbox", "atoll.directory.server", "atoll.sql", "atoll.transport", "atoll.delivery",
                 "atoll.admin", "apsw", "sqlite3", "psycopg", "argon2", "bcrypt", "cryptography")
MAY_NOT = {
    "frontend": FRONT_MAY_NOT,
    "directory": ("atoll.mailbox", "atoll.transport", "atoll.protocols", "atoll.formats", "click", "rich"),
    "transport": ("atoll.mailbox", "atoll.directory.server", "argon2", "bcrypt", "click"),
    "mailbox": ("atoll.directory.server", "argon2", "bcrypt", "atoll.transport.queue",
                "atoll.transport.pipeline", "click"),
    "content": ("atoll.mailbox", "atoll.directory", "atoll.sql", "atoll.protocols", "apsw"),
    "supervisor": ("atoll.mailbox", "atoll.directory", "atoll.protocols", "atoll.sql", "apsw", "cryptography", "click",
                   "rich"),
}


@pytest.mark.parametrize("kind", [*(role.kind for role in ROLES), "supervisor"])
def test_what_a_role_loads(kind: str) -> None:
    code = f"import sys, atoll.roles.{kind}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    loaded = done.stdout.split()
    assert [name for name in loaded for banned in MAY_NOT[kind]
            if name == banned or name.startswith(banned + ".")] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads another process's maps")
def test_a_frontend_at_work_has_no_engine_mapped(island: Island) -> None:
    client = imap(island, "alice")
    maps = Path(f"/proc/{island.pids()['frontend-1']}/maps").read_text()
    assert not any(word in maps for word in ("apsw", "sqlite", "argon2", "/bcrypt", "cryptography/"))
    client.logout()


def test_the_table_of_roles_is_the_list_of_modules() -> None:
    assert [role.kind for role in ROLES if not (ROOT / f"src/atoll/roles/{role.kind}.py").exists()] == []
    assert [one.name for one in instances(Config())] == [
        "directory", "content", "mailbox-1", "mailbox-2", "transport", "frontend-1"]


def test_single_process_does_the_same_in_one(tmp_path: Path) -> None:
    with Island(single_process=True, config="[processes]\nsingle_process_as_root = true\n") as island:
        assert island.pids() == {}
        assert "single process" in next(iter(island.events()))["event"]
        client = imap(island, "alice")
        assert works(client)
        assert b"atoll_role_up" in island.http("/metrics")
        client.logout()
        assert island.stop() == 0
        assert "Traceback" not in island.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="root only")
def test_single_process_as_root_needs_a_setting() -> None:
    with pytest.raises(Exception, match="single_process_as_root"):
        Island(single_process=True).__enter__()


USERS = {"frontend": 64101, "directory": 64102, "transport": 64103, "mailbox": 64104, "content": 64105}


@pytest.fixture
def separated() -> Iterator[Island]:
    """Roles under users of their own, with code that these users can read."""
    for path in (Path(sys.base_prefix), ROOT):
        if any(not mode(parent) & 0o001 for parent in (path, *path.parents)):
            pytest.skip(f"{path} is not readable by other users")
    lines = "".join(f'{kind} = "{uid}"\n' for kind, uid in USERS.items())
    with Island(config=f"[run_as]\n{lines}") as island:
        yield island


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives roles users of their own")
def test_roles_under_their_own_users(separated: Island) -> None:
    island = separated
    for role, pid in island.pids().items():
        facts = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{USERS[role.partition('-')[0]]}" in facts
        assert "CapEff:\t0000000000000000" in facts
    assert mode(island.data / "run" / "admin.sock") == 0o600
    assert (island.data / "run" / "front-dir").stat().st_gid == USERS["frontend"]
    for folder in ("dir", "queue", "mbox/1"):
        assert mode(island.data / folder) == 0o700
    alice = imap(island, "alice")
    assert works(alice)
    assert subjects(alice) == []
    assert _as_user(USERS["frontend"], f"open('{island.data}/dir/directory.sqlite')") == "PermissionError"
    assert _as_user(USERS["frontend"], f"open('{island.data}/tls/key.pem')") == "PermissionError"
    lmtp = f"__import__('socket').socket(1).connect('{island.data}/run/trans-mbox/lmtp-1.sock')"
    assert _as_user(USERS["frontend"], lmtp) == "PermissionError"
    signin = f"__import__('socket').socket(1).connect('{island.data}/run/front-dir/signin.sock')"
    assert _as_user(USERS["frontend"], signin) == "done"
    for role in ("frontend-1", "mailbox-1"):
        island.wait_back(role, island.kill(role))


def _as_user(uid: int, expression: str) -> str:
    python = shutil.which("python3", path="/usr/bin:/bin")
    assert python
    code = f"try:\n    {expression}\n    print('done')\nexcept OSError as error:\n    print(type(error).__name__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, user=uid, group=uid, extra_groups=[],
                          check=True)
    return done.stdout.strip()
