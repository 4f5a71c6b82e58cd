"""Listeners: modes, long paths, what an operator reads when a port is taken; words to systemd."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import time
from pathlib import Path

import pytest
import uvloop

from atoll.runtime import notify
from atoll.runtime.sockets import (
    MAX_UNIX_PATH,
    BindError,
    Passed,
    acknowledge_at_once,
    bind_tcp,
    bind_unix,
    make_directory,
    serve_unix,
)


def test_a_unix_listener_has_its_mode_and_replaces_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    old_umask = os.umask(0)
    try:
        bind_unix(path, 0o600).close()
        with bind_unix(path, 0o600):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))  # it listens: nobody needs to accept yet
    finally:
        os.umask(old_umask)


async def test_the_end_of_a_server_leaves_the_listener_and_its_path(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    ours = bind_unix(path, 0o600)
    (await serve_unix(asyncio.Protocol, ours.dup())).close()
    await asyncio.sleep(0.05)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))  # it waits for the next life
    ours.close()


def test_a_long_path_is_said() -> None:
    with pytest.raises(BindError, match="too long"):
        bind_unix(Path("/tmp") / ("x" * MAX_UNIX_PATH), 0o600)


def test_a_port_in_use_is_said() -> None:
    with bind_tcp("imap", "127.0.0.1", 0) as sock, pytest.raises(BindError, match="for imap is in use by another"):
        bind_tcp("imap", "127.0.0.1", sock.getsockname()[1])


def test_an_address_that_is_not_ours_is_said() -> None:
    with pytest.raises(BindError, match="is not an address of this machine"):
        bind_tcp("imap", "192.0.2.1", 0)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_every_address_takes_both_families() -> None:
    with bind_tcp("imap", "::", 0) as sock:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, sock.getsockname()[1]), 1).close()


def test_a_directory_gets_exactly_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    path.mkdir(parents=True, mode=0o777)
    make_directory(path, 0o710)
    assert stat.S_IMODE(path.stat().st_mode) == 0o710


@pytest.mark.parametrize("abstract", [False, True])
def test_notify_reaches_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    address = f"atoll-test-{os.getpid()}" if abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + address if abstract else address)
        sock.settimeout(1)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + address if abstract else address)
        notify.tell("READY=1")
        assert sock.recv(100) == b"READY=1"


def test_nobody_to_notify_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.tell("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify.tell("READY=1")


def test_the_watchdog_is_told_twice_as_often_as_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert notify.watchdog_seconds() == 15
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert notify.watchdog_seconds() is None


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "n"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        begin = time.monotonic()
        for _ in range(1000):
            notify.tell("WATCHDOG=1", wait=0)
        assert time.monotonic() - begin < 1
        notify.tell("STOPPING=1")
        assert time.monotonic() - begin < 3


def test_sockets_that_were_passed_are_taken_by_their_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        port, other = first.getsockname()[1], second.getsockname()[1]
        passed = Passed([("imap", first.dup()), ("smtp", second.dup())])
        assert passed.take("127.0.0.2", port) is None
        assert passed.take("127.0.0.1", port + 1 if port + 1 != other else port + 2) is None
        taken = passed.take("127.0.0.1", port)
        assert taken is not None
        assert not taken.getblocking()
        taken.close()
        assert passed.take("127.0.0.1", port) is None
        assert passed.close() == ["smtp"]


@pytest.mark.parametrize("environ", [{}, {"LISTEN_FDS": "2"}, {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())},
                                     {"LISTEN_FDS": "2", "LISTEN_PID": "1", "LISTEN_FDNAMES": "a:b"}])
def test_descriptors_for_others_are_left_alone(environ: dict[str, str]) -> None:
    assert notify.passed(environ) == []
    assert environ == {}


def test_an_acknowledgement_that_does_not_wait() -> None:
    """The kernel holds acknowledgements back on a connection that asks and answers, and after the call it does not."""
    seen = []

    class Answering(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            ours = self.transport.get_extra_info("socket")
            seen.append(ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK))
            acknowledge_at_once(self.transport)
            seen.append(ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK))
            ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            self.transport.write(data)  # type: ignore[attr-defined]

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(3):
            writer.write(b"x")
            await reader.readexactly(1)
        writer.close()
        server.close()

    uvloop.run(main())
    assert seen[2:] == [0, 1, 0, 1]


def test_an_acknowledgement_on_no_tcp_connection() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        acknowledge_at_once(transport)
        transport.close()
        theirs.close()

    uvloop.run(main())
