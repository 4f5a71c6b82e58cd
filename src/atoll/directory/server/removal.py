"""Removed mailboxes: kept for a while, restored, purged (Exchange's disconnected mailboxes).

In     addresses or ids of removed mailboxes; the word of their process that their data are gone.
Out    Fate values; units of work of the directory.
Spec   ISLANDS 11.11 (states); docs/admin.md, "Remove and restore". Removing is Register.remove_mailbox.
Fails  RpcError: not_found, exists, refused.
Not    the data: the mailbox process follows (mailbox.removal).
"""

from __future__ import annotations

from atoll.directory.client.model import Fate
from atoll.directory.server.database import Database, Tx
from atoll.directory.server.names import BadName, Name, address_of
from atoll.directory.server.register import new_address, raise_epoch
from atoll.runtime.rpc import RpcError

SOFT_DELETED, PURGED = "soft-deleted", "purged"


def fates(database: Database, name: str) -> list[Fate]:
    """The mailboxes of a mailbox database that are removed or purged."""
    return [Fate(row[0], row[1] == PURGED, row[2] or 0) for row in database.rows(
        "SELECT id, state, removed FROM mailbox WHERE db = ? AND deleted = 1 AND state IN (?, ?)",
        (name, SOFT_DELETED, PURGED))]


def _find(tx: Tx, address: str, mailbox: bytes) -> tuple[bytes, bytes, str]:
    """(mailbox, person, its address): by id, or the newest that had this address."""
    row = tx.one("""SELECT id, person, address, state FROM mailbox WHERE deleted = 1
        AND (id = ? OR (? = '' AND address = ?)) ORDER BY removed DESC, change DESC LIMIT 1""",
                 (mailbox, "x" if mailbox else "", address))
    if row is None:
        raise RpcError("not_found", f"no removed mailbox: {address[:320]}")
    if row[3] != SOFT_DELETED:
        raise RpcError("not_found", f"{row[2]}: its mail is gone, it was removed too long ago")
    return row[0], row[1], row[2]


def _name(text: str) -> Name:
    try:
        return address_of(text)
    except BadName as error:
        raise RpcError("invalid", f"{text[:80]}: {error}") from None


class Removed:
    """What may be done with a removed mailbox."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def restore(self, address: str, mailbox: bytes = b"", new: str = "") -> str:
        """Bring it back with its person, password, rights and those of its addresses that are free; its address.

        mailbox: its id, b"" the newest that had this address. new: the address that it gets; "" the one it had.
        """
        wanted = str(_name(address)) if address else ""
        target = _name(new) if new else None

        def work(tx: Tx) -> str:
            found, person, before = _find(tx, wanted, mailbox)
            primary = target or _name(before)
            tx.run("UPDATE person SET deleted = 0, disabled = 0 WHERE id = ?", (person,))
            raise_epoch(tx, person, "sessions")
            tx.run("UPDATE mailbox SET deleted = 0, state = 'active', removed = NULL, address = ?, change = ?"
                   " WHERE id = ?", (str(primary), tx.changed("mailbox", found), found))
            new_address(tx, primary, found, True)
            # Those that went with the mailbox, all with one number; an alias that was removed before stays away.
            rows = tx.rows("""SELECT a.local, d.name FROM address a JOIN domain d ON d.id = a.domain AND d.deleted = 0
                WHERE a.mailbox = ? AND a.deleted = 1
                AND a.change = (SELECT max(change) FROM address WHERE mailbox = ? AND deleted = 1)""", (found, found))
            for local, domain in rows:
                if Name(local, domain) != primary and not _taken(tx, Name(local, domain)):
                    new_address(tx, Name(local, domain), found, False)
            return str(primary)

        return await self._db.write(work)

    async def purge(self, address: str, mailbox: bytes = b"") -> bytes:
        """Its data may go: nothing brings it back. Its id."""
        wanted = str(_name(address)) if address else ""

        def work(tx: Tx) -> bytes:
            found, _, _ = _find(tx, wanted, mailbox)
            tx.run("UPDATE mailbox SET state = ?, change = ? WHERE id = ?",
                   (PURGED, tx.changed("mailbox", found), found))
            return found

        return await self._db.write(work)


def _taken(tx: Tx, name: Name) -> bool:
    return tx.one("""SELECT 1 FROM address a JOIN domain d ON d.id = a.domain
        WHERE a.local = ? AND d.name = ? AND a.deleted = 0 AND d.deleted = 0""", name) is not None
