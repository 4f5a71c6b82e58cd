"""The audit log: its chain, crashes, full disks, rotation."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from atoll.base import audit
from atoll.base.audit import AuditFailed, AuditLog
from atoll.base.clock import SystemClock


async def written(path: Path, events: int) -> AuditLog:
    log = AuditLog(path, SystemClock())
    log.open()
    for number in range(events):
        log.append("test", number=number)
    await log.durable("end")
    return log


async def test_the_chain_goes_on_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    for _ in range(3):
        await (await written(path, 10)).close()
    found = audit.verify(path)
    assert (found.lines, found.seq, found.broken) == (33, 33, None)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", ["change", "remove", "swap", "insert", "truncate-middle"])
async def test_damage_shows_and_says_where(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "audit.log"
    await (await written(path, 10)).close()
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "change":
        lines[4] = lines[4].replace(b'"number":4', b'"number":7')
    elif damage == "remove":
        del lines[4]
    elif damage == "swap":
        lines[4], lines[5] = lines[5], lines[4]
    elif damage == "insert":
        lines.insert(4, lines[4])
    else:
        lines[4] = lines[4][:20] + b"\n"
    path.write_bytes(b"".join(lines))
    broken = audit.verify(path).broken
    assert broken is not None
    assert broken.line in (5, 6)


async def test_a_line_torn_by_a_crash_is_cut_and_told(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    await (await written(path, 3)).close()
    with path.open("ab") as stream:
        stream.write(b'{"seq":5,"time":1,"kind":"half')
    await (await written(path, 0)).close()
    assert audit.verify(path).broken is None
    assert [event["kind"] for event in audit.read(path)][-2:] == ["audit.torn", "end"]


async def test_rotation_keeps_the_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_FILE", 1000)
    path = tmp_path / "audit.log"
    for _ in range(5):
        await (await written(path, 20)).close()
    assert len(audit.files_of(path)) > 3
    assert audit.verify(path)[1:2] == (105,)
    assert audit.verify(path).broken is None
    audit.files_of(path)[1].unlink()
    assert audit.verify(path).broken is not None


async def test_a_full_disk_loses_nothing_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[str] = []
    log = AuditLog(tmp_path / "audit.log", SystemClock(), on_state=lambda state, detail: states.append(state))
    log.open()
    await log.durable("before")
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        write(descriptor, data[:30])  # a part of it reaches the disk
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(audit, "MAX_WAITING", 5)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(AuditFailed):
        await log.durable("refused.admin.act")
    for number in range(8):
        log.append("during", number=number)
    assert states == ["fail"]
    monkeypatch.setattr(os, "write", write)
    while log._waiting:
        log._flush()
        await asyncio.sleep(0.01)
    await log.durable("after")
    await log.close()
    kinds = [event["kind"] for event in audit.read(tmp_path / "audit.log")]
    assert kinds == ["before", "refused.admin.act", *["during"] * 4, "audit.lost", "after"]
    assert states == ["fail", "ok"]
    assert audit.verify(tmp_path / "audit.log").broken is None


async def test_durable_means_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (synced.append(descriptor), sync(descriptor))[1])
    log = AuditLog(tmp_path / "audit.log", SystemClock())
    log.open()
    await log.durable("one")
    assert len(synced) == 1
    for _ in range(100):
        log.append("signed in")
    await asyncio.sleep(0.4)
    assert len(synced) == 2  # in batches
    await log.close()


@pytest.mark.parametrize("call", ["open", "rename"])
async def test_a_file_that_cannot_be_ended_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "audit.log"
    log = await written(path, 3)
    monkeypatch.setattr(audit, "MAX_FILE", 100)

    def refuse(*args: object, **more: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    for name in ("open", "link", "rename") if call == "open" else ("link", "rename"):
        monkeypatch.setattr(audit.os, name, refuse)
    await log.durable("one")
    assert os.fstat(log._descriptor).st_ino == path.stat().st_ino  # still ours, and no other file's
    await log.durable("two")
    monkeypatch.undo()
    monkeypatch.setattr(audit, "MAX_FILE", 100)
    await log.durable("three")
    await log.durable("four")
    await log.close()
    found = audit.verify(path)
    assert (found.seq, found.broken) == (8, None)
    assert len(audit.files_of(path)) > 1
