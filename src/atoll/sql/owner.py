"""Who may write: the owner row, its epoch, the fence.

In     a connection; the next epoch, asked of the directory.
Out    Fence (LateFence): begins every write transaction with the check.
Spec   ISLANDS 4 and 11.1; STORE 1 (a fork when the file does not know epochs that were given out).
Fails  Fenced.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

from atoll.sql.engine import Connection
from atoll.sql.errors import Fenced, SqlError


class Epochs(Protocol):
    """The high-water mark of owner epochs, kept outside every database (the directory's)."""

    async def next_epoch(self, database: str, at_least: int) -> int:
        """Higher than any given out before for this database, and >= at_least; durable when it returns."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """epoch: ours. forked: others were given out that this copy has not seen: it is a restored one."""

    epoch: int
    forked: bool


class Fence:
    """Begins write transactions as the owner of one epoch."""

    def __init__(self, connection: Connection, epoch: int) -> None:
        self._connection = connection
        self.epoch = epoch

    @property
    def owned(self) -> bool:
        """Is it written that we are the owner?"""
        return True

    def begin(self) -> None:
        """BEGIN and the check, in this order: what it locks keeps a later owner out until we end."""
        if self._connection.begin_owned() != self.epoch:
            self._connection.rollback()
            raise Fenced(f"epoch {self.epoch} is over")


class LateFence(Fence):
    """Of a process that could not write that it is the owner: it does so before whatever it writes first.

    Only for a file that no other process opens meanwhile (LockFile) and whose epochs nobody else gives out.
    """

    def __init__(self, connection: Connection, process: str) -> None:
        row = connection.one("SELECT owner_epoch FROM owner WHERE one = 1")
        assert row is not None
        super().__init__(connection, int(row[0]))
        self._process = process
        self._ours = False

    @property
    def owned(self) -> bool:
        return self._ours

    def begin(self) -> None:
        if not self._ours:
            super().begin()
            try:
                self._connection.run("UPDATE owner SET owner_epoch = ?, process = ?, restored = 0 WHERE one = 1",
                                     (self.epoch + 1, f"{self._process} {os.getpid()}"))
                self._connection.commit()  # failpoint: none, it is repeated
            except SqlError:
                self._connection.rollback()
                raise
            self.epoch += 1
            self._ours = True
        super().begin()


async def take_ownership(connection: Connection, epochs: Epochs, name: str, process: str) -> Ownership:
    """Become the owner; durable when it returns (the barrier). Nothing may be read or served before."""
    row = connection.one("SELECT owner_epoch, restored FROM owner WHERE one = 1")
    assert row is not None
    seen, restored = int(row[0]), bool(row[1])
    epoch = await epochs.next_epoch(name, seen + 1)
    connection.begin()
    changed = connection.run("UPDATE owner SET owner_epoch = ?, process = ?, restored = 0 WHERE one = 1 AND"
                             " owner_epoch = ?", (epoch, f"{process} {os.getpid()}", seen))
    if changed != 1:
        connection.rollback()
        return await take_ownership(connection, epochs, name, process)
    connection.commit()  # failpoint: mailbox.mount.before_barrier, mailbox.mount.after_barrier
    return Ownership(epoch, forked=restored or (seen > 0 and epoch > seen + 1))
