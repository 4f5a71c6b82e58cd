"""server(7): what a measurement needs to know of a server, whichever it is.

Out:   names, ports, logins, the accounting group, where its files lie.
Not:   how a server is started: bench/peer.py and bench/atoll.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bench.meter import Group


class Server:
    """One of the two sides of a comparison."""

    name: str
    domain: str
    ports: dict[str, int]
    group: Group
    ready_after: float = 0.0  # seconds from the start until every port answered

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def login(self, i: int | str) -> tuple[str, str]:
        """(login, password) of the i-th or the named account."""
        raise NotImplementedError

    def restart(self, empty: bool = False) -> None:
        """Stop and start again, with no mail at all if `empty`; returns when every port answers."""
        raise NotImplementedError

    def accounts(self, names: Iterable[int | str], database: str = "") -> None:
        """Make sure that these accounts exist, in this database where one is named."""

    def folder_files(self, login: str, folder: str) -> Path:
        """The files that hold this folder: what a cold run drops from the page cache."""
        raise NotImplementedError

    def forget_cache(self, login: str, folder: str) -> None:
        """As if nobody had listed the folder before: remove what the server keeps from an earlier listing."""

    def evict(self, login: str, folder: str) -> None:
        """Drop a folder's files from the page cache, without touching the rest of the machine."""
        for top, _, files in os.walk(self.folder_files(login, folder)):
            for name in files:
                try:
                    handle = os.open(os.path.join(top, name), os.O_RDONLY)
                except OSError:
                    continue
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(handle)
