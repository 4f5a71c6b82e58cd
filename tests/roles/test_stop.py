"""Stop, reload, restart: in order, without losing a session that need not be lost [PROCESSES 11]."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

from atoll.runtime.certificates import make
from tests.island import Island
from tests.roles.people import imap, subjects, works


def stopped_order(island: Island) -> list[str]:
    return [str(event["of"]).partition("-")[0] for event in island.events() if event["event"] == "role stopped"]


def test_stop_goes_from_the_frontend_inwards_and_says_goodbye() -> None:
    with Island(config="[processes]\ndrain_seconds = 0.5\n") as island:
        alice = imap(island, "alice")
        assert island.stop() == 0
        order = list(dict.fromkeys(stopped_order(island)))
        assert [kind for kind in order if kind != "content"] == ["frontend", "transport", "mailbox", "directory"]
        said = alice.readline()
        assert said.startswith(b"* BYE"), said
        assert "Traceback" not in island.log()


def test_a_message_that_is_being_sent_is_finished() -> None:
    with Island(config="[processes]\ndrain_seconds = 20\n") as island:
        sock = _in_the_middle(island)
        assert island.process is not None
        island.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        sock.sendall(b"line\r\n.\r\n")
        assert sock.recv(1000).startswith(b"250 ")
        assert island.process.wait(10) == 0
        island.start()
        assert subjects(imap(island, "alice")) == ["half"]


def test_a_second_signal_hurries() -> None:
    with Island(config="[processes]\ndrain_seconds = 60\n") as island:
        sock = _in_the_middle(island)
        assert island.process is not None
        island.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert island.process.poll() is None, "it waits for the message"
        island.process.send_signal(signal.SIGTERM)
        assert island.process.wait(5) == 0
        sock.close()


def _in_the_middle(island: Island) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", island.ports["smtp"]), 5)
    for line in (b"", b"EHLO x\r\n", b"MAIL FROM:<x@elsewhere.example>\r\n", b"RCPT TO:<alice@example.test>\r\n",
                 b"DATA\r\n"):
        sock.sendall(line)
        time.sleep(0.05)
        assert sock.recv(4000)[:1] in b"23"
    sock.sendall(b"Subject: half\r\n\r\n")
    return sock


def test_nothing_is_left_of_a_stopped_island_but_its_data() -> None:
    with Island() as island:
        pids, ports = island.pids(), island.ports
        island.stop()
        assert [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()] == []
        for port in ports.values():
            with socket.socket() as sock:
                assert sock.connect_ex(("127.0.0.1", port)) != 0
        before = island.demo
        island.start()
        assert island.demo == before, "passwords, ports and authority stay"
        assert works(imap(island, "bob"))


def test_two_supervisors_do_not_share_an_island(island: Island) -> None:
    done = subprocess.run([sys.executable, "-m", "atoll.roles.supervisor", "--data", str(island.data), "--demo"],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "an island runs in" in done.stderr


def reloaded(island: Island, rows: int) -> None:
    """SIGHUP, and the moment it is done."""
    assert island.process is not None
    before = island.log().count("reloaded")
    island.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 5
    while island.log().count("reloaded") < before + rows and time.monotonic() < deadline:
        time.sleep(0.02)


def states(island: Island) -> dict[str, str]:
    return {row["name"]: row["state"] for row in island.health()["rows"] if row["role"] == "supervisor"}


def test_reload_with_a_wrong_configuration_keeps_the_one_before() -> None:
    with Island() as island:
        alice, path = imap(island, "alice"), island.data / "atoll.toml"
        good = path.read_text()
        path.write_text(good + "\n[lisstening]\nport = 1\n")
        reloaded(island, 1)
        assert states(island)["configuration"] == "warn"
        assert "unknown key `lisstening`" in island.log()
        path.write_text(good)
        reloaded(island, 1)
        assert "configuration" not in states(island)
        assert works(alice)


def serial(island: Island) -> str:
    context = island.tls()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", island.ports["imaps"]), 5) as raw, \
            context.wrap_socket(raw, server_hostname="localhost") as sock:
        return ssl.DER_cert_to_PEM_cert(sock.getpeercert(True) or b"")


def test_reload_takes_a_new_certificate_and_refuses_a_bad_one(tmp_path: Path) -> None:
    with Island() as island:
        alice, folder, first = imap(island, "alice"), island.data / "tls", serial(island)
        make(tmp_path, ["localhost"])
        for name in ("cert.pem", "key.pem"):
            (folder / name).write_bytes((tmp_path / name).read_bytes())
        reloaded(island, 1)
        time.sleep(0.2)
        second = serial(island)
        assert second != first
        (folder / "key.pem").write_text("garbage")
        reloaded(island, 1)
        assert states(island)["certificate"] == "warn"
        assert serial(island) == second
        pid = island.kill("frontend-1")  # a new frontend gets the good pair too
        island.wait_back("frontend-1", pid)
        assert serial(island) == second
        assert not works(alice)
