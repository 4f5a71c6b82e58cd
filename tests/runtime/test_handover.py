"""A sealed piece of memory from one process to the next."""

from __future__ import annotations

import os

import pytest

from atoll.runtime import handover


def test_what_was_written_is_read_once_and_cannot_be_changed() -> None:
    fd = handover.create("test")
    assert not handover.is_sealed(fd)
    handover.write(fd, b"secret" * 1000)
    assert handover.is_sealed(fd)
    for change in (lambda: os.write(fd, b"x"), lambda: os.ftruncate(fd, 0), lambda: os.ftruncate(fd, 1 << 20)):
        with pytest.raises(PermissionError):
            change()
    assert handover.read(fd) == b"secret" * 1000
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_what_was_not_finished_is_nothing() -> None:
    fd = handover.create("test")
    os.write(fd, b"half of it")
    assert handover.read(fd) == b""


def test_it_is_no_file_and_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "LIMIT", 10)
    fd = handover.create("test")
    assert os.readlink(f"/proc/self/fd/{fd}") == "/memfd:atoll test (deleted)"
    assert not os.get_inheritable(fd)
    with pytest.raises(OSError, match="too much"):
        handover.write(fd, bytes(handover.LIMIT + 1))
    os.close(fd)
