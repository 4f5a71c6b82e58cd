"""Distribution groups: addresses that stand for other addresses.

In     an administrator's values.
Out    GroupInfo for transport; what was made. Each method is one committed unit; followers are told.
Spec   docs/seams.md 3 and 7. A member is any address, another group's too: loops are cut where mail is expanded
       (transport.categorize), so that a group may be made before its members are.
Fails  RpcError: not_found, exists, invalid, refused.
"""

from __future__ import annotations

from atoll.base.ids import new_id
from atoll.directory.client.model import GroupInfo, Role, Who
from atoll.directory.server.database import Database, Row, Tx
from atoll.directory.server.names import BadName, Name, address_of, display_of
from atoll.directory.server.register import new_address
from atoll.runtime.rpc import RpcError

MAX_MEMBERS = 10_000
_BY_ADDRESS = """SELECT g.id, g.address, g.display, g.who FROM grp g
    JOIN address a ON a.mailbox = g.id AND a.deleted = 0 JOIN domain d ON d.id = a.domain AND d.deleted = 0
    WHERE d.name = ? AND a.local = ? AND g.deleted = 0"""
_MEMBERS = "SELECT role, address FROM member WHERE grp = ? AND deleted = 0 ORDER BY address"


def name_of(text: str) -> Name:
    """An address; RpcError("invalid")."""
    try:
        return address_of(text)
    except BadName as error:
        raise RpcError("invalid", f"{text[:80]}: {error}") from None


class Groups:
    """All of the organization's."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # -- reading

    def by_name(self, name: Name) -> GroupInfo | None:
        """The group with exactly this address."""
        row = self._db.one(_BY_ADDRESS, (name.domain, name.local))
        return None if row is None else self._info(row)

    def all(self, domain: str = "") -> list[GroupInfo]:
        """Every group, or those whose primary address is in a domain."""
        rows = self._db.rows("SELECT id, address, display, who FROM grp WHERE deleted = 0 ORDER BY address")
        return [self._info(row) for row in rows if not domain or row[1].endswith(f"@{domain}")]

    def _info(self, row: Row) -> GroupInfo:
        found: dict[str, list[str]] = {"member": [], "owner": [], "sender": []}
        for role, address in self._db.rows(_MEMBERS, (row[0],)):
            found[role].append(address)
        return GroupInfo(group=row[0], address=row[1], display=row[2], who=row[3], members=tuple(found["member"]),
                         owners=tuple(found["owner"]), senders=tuple(found["sender"]))

    # -- changing

    async def create(self, address: str, display: str, who: Who, members: list[str], owners: list[str]) -> None:
        """A new group."""
        name, shown = name_of(address), _display(display)
        named = [("member", str(name_of(one))) for one in members] + [("owner", str(name_of(one))) for one in owners]

        def work(tx: Tx) -> None:
            group = new_id()
            tx.run("INSERT INTO grp VALUES (?, ?, ?, 0, ?, ?, ?, ?)",
                   (group, tx.org, tx.changed("group", group), str(name), shown, who, tx.now))
            new_address(tx, name, group, True)
            for role, one in dict.fromkeys(named):
                _add(tx, group, role, one)

        await self._db.write(work)

    async def change(self, address: str, *, display: str | None, who: Who | None) -> None:
        """Change what is given."""
        name = name_of(address)
        shown = None if display is None else _display(display)

        def work(tx: Tx) -> None:
            group = _find(tx, name)
            if shown is not None:
                tx.run("UPDATE grp SET display = ? WHERE id = ?", (shown, group))
            if who is not None:
                tx.run("UPDATE grp SET who = ? WHERE id = ?", (who, group))
            tx.run("UPDATE grp SET change = ? WHERE id = ?", (tx.changed("group", group), group))

        await self._db.write(work)

    async def remove(self, address: str) -> None:
        """Take it away with its addresses; its members stay who they are."""
        name = name_of(address)

        def work(tx: Tx) -> None:
            group = _find(tx, name)
            for table, column in (("member", "grp"), ("address", "mailbox"), ("grp", "id")):
                tx.run(f"UPDATE {table} SET deleted = 1, change = ? WHERE {column} = ? AND deleted = 0",  # noqa: S608
                       (tx.changed("group", group), group))

        await self._db.write(work)

    async def add(self, address: str, role: Role, others: list[str]) -> int:
        """Add members, owners or senders; how many were not there before."""
        name, named = name_of(address), dict.fromkeys(str(name_of(one)) for one in others)

        def work(tx: Tx) -> int:
            group = _find(tx, name)
            tx.changed("group", group)
            return sum(_add(tx, group, role, one) for one in named)

        return await self._db.write(work)

    async def drop(self, address: str, role: Role, others: list[str]) -> int:
        """Take members, owners or senders away; how many were there."""
        name, named = name_of(address), dict.fromkeys(str(name_of(one)) for one in others)

        def work(tx: Tx) -> int:
            group = _find(tx, name)
            number = tx.changed("group", group)
            return sum(tx.run("UPDATE member SET deleted = 1, change = ? WHERE grp = ? AND role = ? AND address = ?"
                              " AND deleted = 0", (number, group, role, one)) for one in named)

        return await self._db.write(work)


def _display(text: str) -> str:
    try:
        return display_of(text)
    except BadName as error:
        raise RpcError("invalid", str(error)) from None


def _find(tx: Tx, name: Name) -> bytes:
    row = tx.one(_BY_ADDRESS, (name.domain, name.local))
    if row is None:
        raise RpcError("not_found", f"no such group: {name}")
    return bytes(row[0])


def _add(tx: Tx, group: bytes, role: str, address: str) -> int:
    if tx.one("SELECT 1 FROM member WHERE grp = ? AND role = ? AND address = ? AND deleted = 0",
              (group, role, address)):
        return 0
    count = tx.one("SELECT count(*) FROM member WHERE grp = ? AND deleted = 0", (group,))
    if count is not None and count[0] >= MAX_MEMBERS:
        raise RpcError("refused", f"a group has at most {MAX_MEMBERS} members; put some into a group of their own")
    tx.run("INSERT INTO member VALUES (?, ?, ?, 0, ?, ?, ?, ?)",
           (new_id(), tx.org, tx.change(), group, role, address, tx.now))
    return 1
