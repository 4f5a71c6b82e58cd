"""admin.transfer.files -- reading and writing in places that others may have prepared (attack row F001).

In     a directory that the operator named; names inside it that nobody vouches for.
Out    octets of regular files; new files that never replace anything and never leave their directory.
Spec   CWE-22, CWE-59, CWE-367: every step by a directory's descriptor, no symbolic link followed, the kind of a file
       looked at before it is opened and again after.
Fails  Refused(reason): a link, a device, a pipe, somebody else's hard link, too large, changed underfoot.
Not    the operator's own word: the directory that he names may be a link.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

MAX_MESSAGE = 50 * 1024 * 1024
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(Exception):
    """This file is not read; the text says why."""


class Unreadable(Refused):
    """The system does not let us read it: there may be mail in it."""


class Folder:
    """An open directory."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._owner = os.fstat(fd).st_uid

    @classmethod
    def named(cls, path: Path) -> Folder:
        """The one that the operator named."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the descriptor."""
        os.close(self._fd)

    # reading

    def names(self) -> list[str]:
        """What is in it, sorted; links are listed too."""
        return sorted(os.listdir(self._fd))

    def kind(self, name: str) -> str:
        """ "file", "folder" or the reason why it is neither."""
        try:
            mode = os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode
        except OSError as error:
            return f"not readable ({error.strerror})"
        if stat.S_ISREG(mode):
            return "file"
        if stat.S_ISDIR(mode):
            return "folder"
        return "a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"

    def folder(self, name: str) -> Folder:
        """One level down."""
        try:
            return Folder(os.open(name, _FOLDER, dir_fd=self._fd))
        except OSError as error:
            raise Unreadable(f"not readable ({error.strerror})") from None

    def open(self, name: str) -> tuple[int, os.stat_result]:
        """A descriptor of a regular file, and what it is."""
        kind = self.kind(name)
        if kind != "file":
            raise Refused(kind)
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
        except OSError as error:
            raise Unreadable(f"not readable ({error.strerror})") from None
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise Refused("not a regular file")
        if status.st_nlink > 1 and status.st_uid != self._owner:
            # Maildir servers link their own copies; a link to a file of somebody else is a way to have it read.
            os.close(fd)
            raise Refused("a hard link to another owner's file")
        return fd, status

    def read(self, name: str, limit: int = MAX_MESSAGE) -> tuple[bytes, os.stat_result]:
        """A whole file."""
        fd, status = self.open(name)
        with os.fdopen(fd, "rb") as file:
            if status.st_size > limit:
                raise Refused(f"larger than {limit >> 20} MiB")
            data = file.read(limit + 1)
        if len(data) > limit:
            raise Refused(f"larger than {limit >> 20} MiB")
        return data, status

    # writing

    def make(self, name: str) -> Folder:
        """A folder of this name, new or our own from before."""
        try:
            os.mkdir(name, 0o700, dir_fd=self._fd)
        except FileExistsError:
            pass
        return self.folder(name)

    def write(self, name: str, data: bytes, seconds: int | None = None) -> None:
        """A new file; FileExistsError when there is one."""
        fd = os.open(name, _NEW, 0o600, dir_fd=self._fd)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if seconds is not None and seconds >= 0:
                file.flush()
                os.utime(fd, (seconds, seconds))

    def create(self, name: str) -> int:
        """A descriptor of a new file, for a caller who writes it in pieces."""
        return os.open(name, _NEW, 0o600, dir_fd=self._fd)

    def rename(self, name: str, into: Folder, new: str) -> None:
        """Move a file of ours."""
        os.rename(name, new, src_dir_fd=self._fd, dst_dir_fd=into._fd)

    def is_empty(self) -> bool:
        """Nothing in it?"""
        return not os.listdir(self._fd)
