"""A disk that fails when it is told to: full, read-only, broken. A VFS over SQLite's own; reading always works.

`disk.sick = FULL` makes every write fail until `disk.sick = None`. Each fails as SQLite's own "unix" says it when
write(2) answers ENOSPC, EROFS, EIO (tests/faults/test_bad_disk.py has the real ones).
"""

from __future__ import annotations

import errno

import apsw

NAME = "sickdisk"
FULL, READ_ONLY, BROKEN = errno.ENOSPC, errno.EROFS, errno.EIO


class SickVfs(apsw.VFS):
    """Open databases with SqliteEngine(vfs=NAME)."""

    def __init__(self) -> None:
        self.sick: int | None = None
        self.refused = 0
        super().__init__(NAME, "unix")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self, name, flags)

    def act(self, failure: int) -> None:
        """Fail, if it is time to."""
        if self.sick is not None:
            self.refused += 1
            raise apsw.exception_for(apsw.SQLITE_FULL if self.sick == FULL else failure)

    def xGetLastError(self) -> tuple[int, str]:
        return self.sick or 0, ""


class _File(apsw.VFSFile):
    def __init__(self, disk: SickVfs, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.act(apsw.SQLITE_IOERR_WRITE)
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self._disk.act(apsw.SQLITE_IOERR_TRUNCATE)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        self._disk.act(apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)
