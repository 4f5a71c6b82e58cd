"""A disk that fails when it is told to: full, read-only, broken. A VFS over SQLite's own; reading always works.

`disk.sick = FULL` makes every write fail until `disk.sick = None`.
"""

from __future__ import annotations

import apsw

NAME = "sickdisk"
FULL, READ_ONLY, BROKEN = apsw.FullError, apsw.ReadOnlyError, apsw.IOError


class SickVfs(apsw.VFS):
    """Open databases with SqliteEngine(vfs=NAME)."""

    def __init__(self) -> None:
        self.sick: type[apsw.Error] | None = None
        self.refused = 0
        super().__init__(NAME, "unix")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self, name, flags)

    def act(self) -> None:
        """Fail, if it is time to."""
        if self.sick is not None:
            self.refused += 1
            raise self.sick("the disk says no")


class _File(apsw.VFSFile):
    def __init__(self, disk: SickVfs, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.act()
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self._disk.act()
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        self._disk.act()
        super().xSync(flags)
