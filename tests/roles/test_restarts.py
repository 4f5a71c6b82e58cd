"""`atoll role restart`: a process is replaced while it serves, nothing under way is harmed [PROCESSES 11]."""

from __future__ import annotations

import asyncio
import imaplib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from atoll.admin import ops
from atoll.runtime.paths import RunPaths
from atoll.runtime.rpc import RpcClient
from tests.island import ROOT, Island, alive
from tests.roles.people import Sender, imap, imap_again, shared, subjects, works


@pytest.fixture(scope="module")
def house() -> Iterator[Island]:
    with Island(config="[processes]\ndrain_seconds = 0\n") as island:
        yield island


def atoll(island: Island, *words: str, code: int = 0) -> Any:
    """What the command says as JSON."""
    done = subprocess.run([sys.executable, "-P", "-c", "from atoll.admin.cli import main; main()",
                           "--data", str(island.data), *words, "--json"],
                          env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if code == 0 else done.stderr


def roles(island: Island) -> dict[str, Any]:
    return {row["name"]: row for row in atoll(island, "role", "list")["roles"]}


def gone_within(pid: int, seconds: float) -> float:
    begin = time.monotonic()
    while alive(pid) and time.monotonic() - begin < seconds:
        time.sleep(0.02)
    assert not alive(pid), f"{pid} lives after {seconds} s"
    return time.monotonic() - begin


def deaths(island: Island) -> list[Any]:
    return [event for event in island.events() if event["event"] == "role died"]


def test_a_frontends_sessions_go_on_in_the_old_process_and_new_ones_come_to_the_new(house: Island) -> None:
    old, alice = house.pids()["frontend-1"], imap(house, "alice")
    row = atoll(house, "role", "restart", "frontend-1")["roles"][0]
    assert (row["state"], row["old"], row["starts"]) == ("ok", 1, 2)
    assert row["pid"] not in (0, old)
    assert works(alice)
    rows = [row for row in house.health()["rows"] if row["name"] == "old process"]
    assert [(row["role"], row["state"]) for row in rows] == [("frontend-1", "ok")]
    assert f"pid {old} lets its sessions end" in rows[0]["detail"]
    bob = imap(house, "bob")
    assert works(bob)
    alice.logout()
    gone_within(old, 5)
    assert works(bob), "the new process has it"
    assert roles(house)["frontend-1"]["old"] == 0
    assert deaths(house) == []
    bob.logout()


def test_the_drain_time_is_a_bound_and_ends_with_a_goodbye(house: Island) -> None:
    old, people = house.pids()["frontend-1"], [imap(house, who) for who in ("alice", "bob", "alice", "bob")]
    begin = time.monotonic()
    atoll(house, "role", "restart", "frontend-1", "--drain", "3")
    assert works(people[0]) or works(people[1]) or works(people[2]), "not all at once"
    ends = []
    for client in people:
        client.sock.settimeout(10)
        said = b""
        while line := client.readline():
            said += line
        assert said.endswith(b"* BYE [UNAVAILABLE] Mailbox is not available, please connect again\r\n"), said
        ends.append(time.monotonic() - begin)
    assert max(ends) > 3
    gone_within(old, 3)
    assert works(imap(house, "alice"))


def test_nobody_is_refused_while_a_frontend_is_replaced(house: Island) -> None:
    failed: list[str] = []
    stop = threading.Event()

    def sign_in_again_and_again() -> None:
        while not stop.is_set():
            try:
                imap(house, "alice").logout()
            except (OSError, imaplib.IMAP4.error) as error:
                failed.append(str(error))
                return

    thread = threading.Thread(target=sign_in_again_and_again)
    thread.start()
    try:
        for _ in range(2):
            atoll(house, "role", "restart", "frontend-1")
    finally:
        stop.set()
        thread.join(20)
    assert failed == []


def test_whoever_was_accepted_before_the_restart_finishes_the_handshake_and_stays(house: Island) -> None:
    old = house.pids()["frontend-1"]
    before = socket.create_connection(("localhost", house.ports["imaps"]), timeout=20)
    imap(house, "bob").logout()  # accepted later: so the other one is too
    atoll(house, "role", "restart", "frontend-1")
    with house.tls().wrap_socket(before, server_hostname="localhost") as client, client.makefile("rb") as lines:
        assert lines.readline().startswith(b"* OK [CAPABILITY ")
        time.sleep(1.5)  # the old process has looked at who is left, more than once
        assert alive(old)
        client.sendall(f"a LOGIN alice@{house.domain} {house.password('alice')}\r\nb LOGOUT\r\n".encode())
        assert lines.readline().startswith(b"a OK ")
        assert lines.readline().startswith(b"* BYE ")
    gone_within(old, 5)


def test_a_new_frontend_that_dies_before_it_is_ready_changes_nothing(house: Island) -> None:
    old, alice = house.pids()["frontend-1"], imap(house, "alice")
    command = threading.Thread(target=lambda: said.append(atoll(house, "role", "restart", "frontend-1", code=1)))
    said: list[str] = []
    command.start()
    while house.pids()["frontend-1"] == old and command.is_alive():  # the newest of them
        time.sleep(0.005)
    os.kill(house.pids()["frontend-1"], signal.SIGKILL)
    command.join(30)
    assert "did not become ready; the old one goes on" in said[0]
    assert house.pids()["frontend-1"] == old
    assert works(alice)
    assert ("frontend-1", "restart") in {(row["role"], row["name"]) for row in house.health()["rows"]}
    atoll(house, "role", "restart", "frontend-1")
    assert ("frontend-1", "restart") not in {(row["role"], row["name"]) for row in house.health()["rows"]}
    alice.logout()


def test_a_mailbox_says_goodbye_and_whoever_comes_back_waits_for_it(house: Island) -> None:
    alice, bob = imap(house, "alice"), imap(house, "bob")
    sender = Sender(house, "alice", "restart")
    with sender.sending():
        time.sleep(0.3)
        row = atoll(house, "role", "restart", "mailbox-1")["roles"][0]
        time.sleep(0.3)
    assert (row["name"], row["starts"]) == ("mailbox-1", 2)
    alice.sock.settimeout(5)
    said = b""
    while line := alice.readline():
        said += line
    assert b"* BYE" in said
    assert works(bob)
    again, seconds = imap_again(house, "alice")
    assert seconds < shared(2)
    deadline = time.monotonic() + 30
    while set(sender.acknowledged) - set(found := subjects(again)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert set(sender.acknowledged) <= set(found)
    assert [subject for subject in set(found) if found.count(subject) > sender.attempts.get(subject, 1)] == []
    assert deaths(house) == []


@pytest.mark.parametrize("role", ["transport", "directory", "content"])
def test_whoever_needs_it_waits_and_is_not_refused(house: Island, role: str) -> None:
    alice = imap(house, "alice")
    sender = Sender(house, "bob", f"while-{role}")
    with sender.sending():
        time.sleep(0.3)
        before = roles(house)[role]
        row = atoll(house, "role", "restart", role)["roles"][0]
        time.sleep(0.3)
    assert row["starts"] == before["starts"] + 1
    assert row["pid"] != before["pid"]
    assert works(alice)
    assert len(sender.acknowledged) > 5
    assert works(imap(house, "bob"))
    assert deaths(house) == []


def test_all_of_them_one_after_the_other_is_an_upgrade(house: Island) -> None:
    alice, before = imap(house, "alice"), roles(house)
    sender = Sender(house, "bob", "upgrade")
    with sender.sending():
        rows = atoll(house, "role", "restart", "--all", "--drain", "1")["roles"]
    assert [row["name"] for row in rows] == ["directory", "content", "mailbox-1", "mailbox-2", "transport",
                                             "frontend-1"]
    assert all(row["starts"] == before[row["name"]]["starts"] + 1 for row in rows)
    assert not {row["pid"] for row in rows} & {row["pid"] for row in before.values()}
    assert not works(alice)
    bob = imap(house, "bob")
    deadline = time.monotonic() + 30
    while set(sender.acknowledged) - set(subjects(bob)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert set(sender.acknowledged) <= set(subjects(bob))
    assert deaths(house) == []


def test_a_directory_that_dies_before_its_restart_begins_is_not_taken_for_asked_to_end_later() -> None:
    with Island() as island:
        pid = island.pids()["directory"]

        async def restart() -> None:
            client = RpcClient(RunPaths(island.data).admin)
            await client.call("role.restart", ops.RoleRestart("directory"), ops.RoleRow)
            os.kill(pid, signal.SIGKILL)  # within ANSWER_SECONDS
            await client.close()

        asyncio.run(restart())
        island.wait_back("directory", pid)
        assert [event["of"] for event in deaths(island)] == ["directory"]
        time.sleep(0.3)
        pid = island.kill("directory")
        island.wait_back("directory", pid)
        assert [event["again_in"] for event in deaths(island)] == [0.0, 0.2], "no back-off"


def test_what_cannot_be_restarted(house: Island) -> None:
    assert "no such role; there are directory, content" in atoll(house, "role", "restart", "postmaster", code=3)
    assert "a role's name, or --all" in atoll(house, "role", "restart", code=2)


def test_stop_does_not_wait_for_sessions_of_an_old_process() -> None:
    with Island(config="[processes]\ndrain_seconds = 0.5\n") as island:
        old, alice = island.pids()["frontend-1"], imap(island, "alice")
        atoll(island, "role", "restart", "frontend-1")
        begin = time.monotonic()
        assert island.stop() == 0
        assert time.monotonic() - begin < 8
        assert not alive(old)
        assert alice.readline().startswith(b"* BYE")
        assert "Traceback" not in island.log()


def remembered(island: Island, lives: int) -> list[int]:
    """How many verified credentials each of so many lives of the directory began with."""
    deadline = time.monotonic() + 5
    while True:
        events = atoll(island, "audit", "list", "--kind", "directory.start")["events"]
        if len(events) >= lives or time.monotonic() > deadline:
            return [event["remembered"] for event in events]


def test_verified_credentials_outlive_a_restart_of_the_directory_but_no_crash() -> None:
    with Island() as island:
        for who in ("alice", "bob"):
            imap(island, who).logout()
        atoll(island, "role", "restart", "directory")
        imap(island, "alice").logout()
        atoll(island, "role", "restart", "directory")
        assert remembered(island, 3) == [0, 2, 2]
        with pytest.raises(imaplib.IMAP4.error):
            imaplib.IMAP4_SSL("localhost", island.ports["imaps"], ssl_context=island.tls()).login(
                f"alice@{island.domain}", "wrong password")
        atoll(island, "mailbox", "password", f"bob@{island.domain}")
        with pytest.raises(imaplib.IMAP4.error):
            imap(island, "bob")
        island.wait_back("directory", island.kill("directory"))
        island.wait_back("directory", island.kill("directory", signal.SIGTERM))
        assert remembered(island, 5) == [0, 2, 2, 0, 0]
        secret = island.password("alice").encode()
        assert [path for path in island.data.rglob("*") if path.is_file() and path.name != "demo.json"
                and path.name != "island.log" and secret in path.read_bytes()] == []


def test_a_delegate_still_reaches_the_other_process_after_a_restart_of_the_directory(house: Island) -> None:
    alice, bob = imap(house, "alice"), imap(house, "bob")
    assert bob.create("Team")[0] == "OK"
    assert bob.setacl("Team", f"alice@{house.domain}", "lrs")[0] == "OK"
    atoll(house, "role", "restart", "directory")
    assert alice.select(f'"Other Users/bob@{house.domain}/Team"')[0] == "OK"
    assert works(bob)
