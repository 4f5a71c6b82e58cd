"""A disk that remembers what a power cut would have left of it.

In     every write, truncate, sync and delete of SQLite in this process (a VFS under all others, over the real files).
Out    a Journal of them in order; the folder as it is after a cut at any point of that order.
Spec   what POSIX promises: a write is on the disk when a sync that began after it has ended. Until then any part of it
       may be there: pieces of SECTOR octets are whole or not there, in any order. A file's name is there once the file
       was synced; a deleted name is gone once the folder was synced, which SQLite does with the first sync of each log.
Fails  the real disk's errors are passed on.
Not    the -shm files: they are memory, and made anew.
"""

from __future__ import annotations

import os
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

import apsw

NAME = "powerloss"
SECTOR = 512


@dataclass(frozen=True, slots=True)
class Op:
    """kind: write, truncate (at = new size), delete; sync, folder (at = operations before the sync began)."""

    kind: str
    file: str
    at: int = 0
    data: bytes = b""


@dataclass
class Journal:
    """What happened, in order. `len(journal)` is a point in time."""

    ops: list[Op] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ops)

    def image(self, cut: int, chance: random.Random, keep: str) -> dict[str, bytes]:
        """File name -> content after a cut before operation number `cut`.

        keep: what becomes of what was not synced: "nothing", "some" (each write whole or not at all), "torn" (each
        sector there or not), "all".
        """
        files: dict[str, _File] = {}
        for number, op in enumerate(self.ops[:cut]):
            if op.kind == "folder":
                for file in files.values():
                    file.folder_synced(op.at)
            else:
                files.setdefault(op.file, _File()).take(number, op)
        left = {name: file.after(chance, keep) for name, file in files.items()}
        return {name: content for name, content in left.items() if content is not None}

    def write_image(self, folder: Path, cut: int, chance: random.Random, keep: str) -> None:
        """The same, as files in an empty folder."""
        folder.mkdir(parents=True)
        for name, content in self.image(cut, chance, keep).items():
            (folder / name).write_bytes(content)


class _File:
    """One name: what is on the disk for certain, what is on its way there."""

    def __init__(self) -> None:
        self.durable: bytearray | None = None
        self.pending: list[tuple[int, Op]] = []

    def take(self, number: int, op: Op) -> None:
        if op.kind != "sync":
            self.pending.append((number, op))
            return
        done = [one for begun, one in self.pending if begun < op.at]
        self.pending = [(begun, one) for begun, one in self.pending if begun >= op.at]
        content = self.durable if self.durable is not None else bytearray()
        for one in done:
            content = _applied(content, one)
        self.durable = content

    def folder_synced(self, at: int) -> None:
        """Deletes that came before are durable, and with them everything before them."""
        deletes = [number for number, op in self.pending if op.kind == "delete" and number < at]
        if deletes:
            self.durable = None
            self.pending = [(number, op) for number, op in self.pending if number > deletes[-1]]

    def after(self, chance: random.Random, keep: str) -> bytes | None:
        content = None if self.durable is None else bytearray(self.durable)
        for _, op in self.pending:
            if not _made_it(op, chance, keep):
                continue
            if op.kind == "delete":
                content = None
                continue
            for piece in _pieces(op, chance) if keep == "torn" else (op,):
                content = _applied(bytearray() if content is None else content, piece)
        return None if content is None else bytes(content)


def _made_it(op: Op, chance: random.Random, keep: str) -> bool:
    """Is (any of) what was not synced on the disk?"""
    if keep == "torn" and op.kind == "write":
        return True  # sector by sector
    return keep == "all" or (keep != "nothing" and chance.random() < 0.5)


def _pieces(op: Op, chance: random.Random) -> list[Op]:
    """The sectors of a write that made it."""
    if op.kind != "write":
        return [op]
    return [Op("write", op.file, op.at + start, op.data[start:start + SECTOR])
            for start in range(0, len(op.data), SECTOR) if chance.random() < 0.5]


def _applied(content: bytearray, op: Op) -> bytearray:
    if op.kind == "delete":
        return bytearray()
    if op.kind == "truncate":
        del content[op.at:]
        return content
    if len(content) < op.at:
        content.extend(bytes(op.at - len(content)))
    content[op.at:op.at + len(op.data)] = op.data
    return content


class PowerLossVfs(apsw.VFS):
    """Registered as the default, so that checksums (and every other layer) come to lie above it.

    Make it before atoll.sql.sqlite is imported.
    """

    def __init__(self) -> None:
        self.journal = Journal()
        self.lock = threading.Lock()
        super().__init__(NAME, "unix", makedefault=True)

    def note(self, op: Op) -> None:
        with self.lock:
            self.journal.ops.append(op)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        kept = flags[0] & (apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL)
        return _Recorded(self, name, flags, os.path.basename(path) if path and kept else "")

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        name = os.path.basename(filename)
        self.note(Op("delete", name))
        if syncdir:
            self.note(Op("folder", "", len(self.journal)))


class _Recorded(apsw.VFSFile):
    """A file whose operations are noted; no name: a temporary one, which nobody misses."""

    def __init__(self, disk: PowerLossVfs, name: str | apsw.URIFilename | None, flags: list[int], known: str) -> None:
        self._disk = disk
        self._known = known
        logs = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
        self._sync_folder = bool(flags[0] & logs and flags[0] & apsw.SQLITE_OPEN_CREATE)
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        if self._known:
            self._disk.note(Op("write", self._known, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        if self._known:
            self._disk.note(Op("truncate", self._known, newsize))

    def xSync(self, flags: int) -> None:
        begun = len(self._disk.journal)
        super().xSync(flags)
        if self._known:
            self._disk.note(Op("sync", self._known, begun))
            if self._sync_folder:
                self._disk.note(Op("folder", "", begun))
                self._sync_folder = False
