"""A new database file takes the place of the old one, whole or not at all, wherever the process dies.

In     the file in use, which nobody has open; a complete new one beside it; the name to keep the old one under.
Out    the new one in place. A file NAME.for.KEPT says that it is decided: whoever mounts NAME finishes it first.
Spec   ISLANDS 11.2. A write-ahead log never stands beside a file that it is not of.
Fails  OSError.
"""

from __future__ import annotations

import os
from pathlib import Path

from atoll.base.failpoints import FAILPOINTS

_DECIDED = ".for."


def switch(path: Path, kept: Path, fresh: Path) -> None:
    """`path` becomes `kept`, `fresh` becomes `path`."""
    decided = path.with_name(f"{path.name}{_DECIDED}{kept.name}")
    os.replace(fresh, decided)
    sync_folder(path.parent)
    if FAILPOINTS.active:
        FAILPOINTS.hit("mailbox.switch.decided")
    finish_switch(path)


def finish_switch(path: Path) -> None:
    """What a process that died had begun; nothing, usually."""
    for decided in path.parent.glob(f"{path.name}{_DECIDED}*"):
        kept = path.with_name(decided.name.removeprefix(f"{path.name}{_DECIDED}"))
        for suffix in ("-wal", "-shm", ""):
            if path.with_name(path.name + suffix).exists():
                os.replace(path.with_name(path.name + suffix), kept.with_name(kept.name + suffix))
        sync_folder(path.parent)  # the old log has gone before the new file comes, in a power cut too
        if FAILPOINTS.active:
            FAILPOINTS.hit("mailbox.switch.between")
        os.replace(decided, path)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """The names in it are durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
