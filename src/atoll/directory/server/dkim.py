"""Keys that sign the mail of our domains.

In     an administrator's wish for keys of a domain.
Out    SigningKey values for transport; rows for people, with what the DNS is to say.
Spec   [RFC 6376 §3.1] selectors: a letter for the kind and the day it was made. Making one changes nothing by itself:
       transport signs with a key once the DNS shows it, so a new one can be published beside the old one.
Fails  RpcError: not_found, refused.
Not    a private key in any answer but to transport, in any log, or in a file once it was removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from string import ascii_lowercase

from atoll.base.ids import new_id
from atoll.directory.client.model import SigningKey
from atoll.directory.server.database import Database, Row, Tx
from atoll.directory.server.names import BadName, domain_of
from atoll.runtime.rpc import RpcError

KINDS = ("rsa", "ed25519")
MAX_KEYS = 20
"""Of one domain."""
_ROWS = """SELECT d.name, k.selector, k.kind, k.record, k.created FROM dkim_key k JOIN domain d ON d.id = k.domain
    WHERE k.deleted = 0 AND d.deleted = 0 AND (? = '' OR d.name = ?) ORDER BY d.name, k.created DESC, k.selector"""
_KEYS = """SELECT d.name, k.selector, k.private FROM dkim_key k JOIN domain d ON d.id = k.domain
    WHERE k.deleted = 0 AND d.deleted = 0 AND d.name = ? ORDER BY k.created DESC, k.selector DESC"""


class Dkim:
    """The directory's DKIM keys."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def create(self, text: str, kinds: Sequence[str] = KINDS) -> None:
        """A new key of each kind for a domain of ours."""
        name = _domain(text)
        if not set(kinds) <= set(KINDS):
            raise RpcError("invalid", f"kinds of keys are {', '.join(KINDS)}")
        made = await asyncio.to_thread(_make, kinds)

        def work(tx: Tx) -> None:
            domain = _id(tx, name)
            taken = {row[0] for row in tx.rows("SELECT selector FROM dkim_key WHERE domain = ?", (domain,))}
            held = tx.rows("SELECT 1 FROM dkim_key WHERE domain = ? AND deleted = 0", (domain,))
            if len(held) + len(made) > MAX_KEYS:
                raise RpcError("refused", f"{name} has {len(held)} keys: remove old ones first")
            for kind, record, private in made:
                entity, selector = new_id(), _selector(kind, tx.now, taken)
                taken.add(selector)
                tx.run("INSERT INTO dkim_key VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?)",
                       (entity, tx.org, tx.changed("dkim", entity), domain, selector, kind, record, private, tx.now))

        await self._db.write(work)

    async def remove(self, text: str, selector: str) -> None:
        """Sign with a key no longer; its private half is gone."""
        name = _domain(text)

        def work(tx: Tx) -> None:
            row = tx.one("SELECT id FROM dkim_key WHERE domain = ? AND selector = ? AND deleted = 0",
                         (_id(tx, name), selector))
            if row is None:
                raise RpcError("not_found", f"{name} has no key {selector[:80]}")
            tx.run("UPDATE dkim_key SET deleted = 1, private = x'', change = ? WHERE id = ?",
                   (tx.changed("dkim", row[0]), row[0]))

        await self._db.write(work)

    def keys(self, name: str) -> list[SigningKey]:
        """For transport, newest first."""
        return [SigningKey(*row) for row in self._db.rows(_KEYS, (name,))]

    def rows(self, text: str) -> list[Row]:
        """(domain, selector, kind, record, created) of one domain, or of all."""
        name = _domain(text) if text else ""
        if name and self._db.one("SELECT 1 FROM domain WHERE name = ? AND deleted = 0", (name,)) is None:
            raise RpcError("not_found", f"no such domain: {name}")
        return self._db.rows(_ROWS, (name, name))


def forget(tx: Tx, domain: bytes) -> None:
    """A domain is removed: its keys are gone."""
    tx.run("UPDATE dkim_key SET deleted = 1, private = x'', change = ? WHERE domain = ? AND deleted = 0",
           (tx.change(), domain))


def _make(kinds: Sequence[str]) -> list[tuple[str, str, bytes]]:
    """(kind, record, private key) of each; an RSA key takes a second."""
    from atoll.formats.dkim import keys  # only who makes keys pays for loading the library

    made = [(kind, keys.new_key(kind)) for kind in kinds]
    return [(kind, keys.record_of(key), keys.private_octets(key)) for kind, key in made]


def _selector(kind: str, now: int, taken: set[str]) -> str:
    first = f"{kind[0]}{datetime.fromtimestamp(now / 1000, UTC):%Y%m%d}"
    for number in range(26):
        selector = first + (ascii_lowercase[number] if number else "")
        if selector not in taken:
            return selector
    raise RpcError("refused", "too many keys were made today")


def _domain(text: str) -> str:
    try:
        return domain_of(text)
    except BadName as error:
        raise RpcError("invalid", str(error)) from None


def _id(tx: Tx, name: str) -> bytes:
    row = tx.one("SELECT id FROM domain WHERE name = ? AND deleted = 0", (name,))
    if row is None:
        raise RpcError("not_found", f"no such domain: {name}")
    return bytes(row[0])
