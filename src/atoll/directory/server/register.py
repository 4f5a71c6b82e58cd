"""Changing who exists: domains, mailboxes, aliases, app passwords, databases, settings.

In     an administrator's values, already of the right type.
Out    ids; what was made. Each method is one committed unit; followers are told.
Spec   docs/seams.md 3 and 7. Removing keeps the row (deleted = 1) and raises the person's credential epoch.
Fails  RpcError: not_found, exists, invalid, refused. Nothing half done: a unit that fails is undone.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterable

from atoll.base.ids import new_id
from atoll.directory.client.model import PROTOCOLS, Quota, Revocation
from atoll.directory.server import dkim
from atoll.directory.server.database import Database, Tx
from atoll.directory.server.names import BadName, Name, address_of, display_of, domain_of, object_name
from atoll.runtime.rpc import RpcError

_UNLIKELY = frozenset(" \t\"(),:;<>@[\\]")
"""In a local part these need quotes [RFC 5321 §4.1.2], which few programs send: who types one has mistyped."""
SETTINGS: dict[str, tuple[str, Callable[[str], str]]] = {}
"""Organization-wide settings: name -> (what it is, check that gives the stored form)."""


_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)([KMGT]?)(?:I?B)?", re.IGNORECASE)


def _size(text: str) -> str:
    found = _SIZE.fullmatch("0" if text.strip().lower() == "none" else text.strip())
    value = int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " ")) if found else -1
    if not 0 <= value < 1 << 53:
        raise ValueError(f"{text[:40]!r} is not a size: 500M, 10G, none")
    return str(value)


for _step, _says in (("warn", "bytes at which the owner is warned"), ("send", "bytes at which sending stops"),
                     ("receive", "bytes at which receiving stops as well")):
    SETTINGS[f"quota-{_step}"] = (f"{_says}; for mailboxes without their own; 0: none", _size)
SETTINGS["postmaster"] = ("mailbox for postmaster@ where there is none; else the first one",
                          lambda text: str(address_of(text)))
SETTINGS["default-domain"] = ("domain of a login name without @", domain_of)


def secret() -> str:
    """A server-made password of 128 bits, in a form people can type: groups of 26 letters and digits."""
    text = base64.b32encode(os.urandom(16)).decode("ascii").rstrip("=").lower()
    return "-".join(text[start : start + 5] for start in range(0, len(text), 5))


def secret_digest(password: bytes) -> bytes:
    """What is stored of a server-made password: it cannot be guessed, so a fast digest is enough."""
    bare = password.translate(None, b"- ").lower()
    return hashlib.blake2b(bare, digest_size=32, person=b"atoll app pass").digest()


def protocols_of(names: Iterable[str]) -> str:
    """Protocol classes in their stored form; RpcError("invalid")."""
    wanted = set(names)
    if not wanted or not wanted <= set(PROTOCOLS):
        raise RpcError("invalid", f"protocols are {', '.join(PROTOCOLS)}")
    return " ".join(name for name in PROTOCOLS if name in wanted)


def _checked(check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except BadName as error:
        raise RpcError("invalid", str(error)) from None


def _address(text: str) -> Name:
    try:
        return address_of(text)
    except BadName as error:
        raise RpcError("invalid", f"{text[:80]}: {error}") from None


def _domain(tx: Tx, name: str) -> bytes:
    row = tx.one("SELECT id FROM domain WHERE name = ? AND deleted = 0", (name,))
    if row is None:
        raise RpcError("not_found", f"no such domain: {name}")
    return bytes(row[0])


def find_mailbox(tx: Tx, address: Name) -> tuple[bytes, bytes]:
    """(mailbox id, person id) behind an address; RpcError("not_found")."""
    row = tx.one("""SELECT m.id, m.person FROM address a
        JOIN domain d ON d.id = a.domain JOIN mailbox m ON m.id = a.mailbox
        WHERE a.local = ? AND d.name = ? AND a.deleted = 0 AND d.deleted = 0 AND m.deleted = 0""", address)
    if row is None:
        raise RpcError("not_found", f"no such mailbox: {address}")
    return bytes(row[0]), bytes(row[1])


def new_address(tx: Tx, address: Name, mailbox: bytes, primary: bool) -> None:
    """Give a mailbox an address; RpcError("exists"), RpcError("not_found") for its domain."""
    if any(char in _UNLIKELY for char in address.local):
        raise RpcError("invalid", f"{address}: no spaces, quotes, commas, colons or brackets before the @")
    domain = _domain(tx, address.domain)
    if tx.one("SELECT 1 FROM address WHERE domain = ? AND local = ? AND deleted = 0", (domain, address.local)):
        raise RpcError("exists", f"this address is taken: {address}")
    entity = new_id()
    tx.run("INSERT INTO address VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?)",
           (entity, tx.org, tx.changed("address", entity), address.local, domain, mailbox, int(primary), tx.now))


def raise_epoch(tx: Tx, user: bytes, kind: str) -> int:
    """Raise a person's credential epoch: his open sessions end. `kind` is for those who are told."""
    number = tx.change()
    tx.run("""UPDATE person SET epoch = epoch + 1, epoch_change = ?, epoch_kind = ?, change = ? WHERE id = ?""",
           (number, kind, number, user))
    row = tx.one("SELECT epoch FROM person WHERE id = ?", (user,))
    assert row is not None
    tx.events.append(Revocation(number, user, row[0], kind))
    return int(row[0])


class Register:
    """The directory's changes, one method each."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # -- domains ------------------------------------------------------------------------------------------------
    async def create_domain(self, text: str) -> bytes:
        """Accept mail for a domain."""
        name = _checked(domain_of, text)

        def work(tx: Tx) -> bytes:
            if tx.one("SELECT 1 FROM domain WHERE name = ? AND deleted = 0", (name,)):
                raise RpcError("exists", f"this domain is there already: {name}")
            entity = new_id()
            tx.run("INSERT INTO domain VALUES (?, ?, ?, 0, ?, NULL, ?)",
                   (entity, tx.org, tx.changed("domain", entity), name, tx.now))
            return entity

        return await self._db.write(work)

    async def change_domain(self, text: str, catch_all: str) -> None:
        """Give a domain a catch-all mailbox; "" takes it away."""
        name = _checked(domain_of, text)

        def work(tx: Tx) -> None:
            domain = _domain(tx, name)
            mailbox = find_mailbox(tx, _address(catch_all))[0] if catch_all else None
            tx.run("UPDATE domain SET catch_all = ?, change = ? WHERE id = ?",
                   (mailbox, tx.changed("domain", domain), domain))

        await self._db.write(work)

    async def remove_domain(self, text: str) -> None:
        """Stop accepting mail for a domain that has no addresses left."""
        name = _checked(domain_of, text)

        def work(tx: Tx) -> None:
            domain = _domain(tx, name)
            if tx.one("SELECT 1 FROM address WHERE domain = ? AND deleted = 0", (domain,)):
                raise RpcError("refused", f"{name} still has addresses: remove its mailboxes and aliases first")
            dkim.forget(tx, domain)
            tx.run("UPDATE domain SET deleted = 1, change = ? WHERE id = ?", (tx.changed("domain", domain), domain))

        await self._db.write(work)

    # -- mailboxes ----------------------------------------------------------------------------------------------
    async def create_mailbox(self, address: str, *, kind: str = "user", display: str = "", hash_: str | None = None,
                             database: str = "", quota: Quota | None = None) -> tuple[bytes, bytes]:
        """(mailbox id, person id) of a new mailbox. database: "" takes the one with the fewest mailboxes."""
        name = _address(address)
        shown = _checked(display_of, display)

        def work(tx: Tx) -> tuple[bytes, bytes]:
            chosen = _choose_database(tx, database)
            person, mailbox = new_id(), new_id()
            number = tx.change()
            tx.run("INSERT INTO person VALUES (?, ?, ?, 0, ?, ?, 0, ?, 0, 1, ?, 'created', ?)",
                   (person, tx.org, number, shown, hash_, " ".join(PROTOCOLS), number, tx.now))
            steps = (quota.warn, quota.send, quota.receive) if quota else (None, None, None)
            tx.run("INSERT INTO mailbox VALUES (?, ?, ?, 0, ?, ?, ?, 'active', ?, ?, ?, ?, ?, ?, ?)",
                   (mailbox, tx.org, tx.changed("mailbox", mailbox), kind, person, chosen, str(name), shown, *steps,
                    tx.now, None))
            new_address(tx, name, mailbox, True)
            return mailbox, person

        return await self._db.write(work)

    async def change_mailbox(self, address: str, *, display: str | None = None, quota: Quota | None = None,
                             default_quota: bool = False, app_only: bool | None = None,
                             protocols: list[str] | None = None) -> None:
        """Change what is given; the rest stays. default_quota: use the organization's."""
        name = _address(address)

        def work(tx: Tx) -> None:
            mailbox, person = find_mailbox(tx, name)
            number = tx.changed("mailbox", mailbox)
            if display is not None:
                shown = _checked(display_of, display)
                tx.run("UPDATE mailbox SET display = ? WHERE id = ?", (shown, mailbox))
                tx.run("UPDATE person SET display = ?, change = ? WHERE id = ?", (shown, number, person))
            if quota is not None or default_quota:
                steps = (quota.warn, quota.send, quota.receive) if quota else (None, None, None)
                tx.run("UPDATE mailbox SET quota_warn = ?, quota_send = ?, quota_receive = ? WHERE id = ?",
                       (*steps, mailbox))
            if app_only is not None:
                tx.run("UPDATE person SET app_only = ?, change = ? WHERE id = ?", (int(app_only), number, person))
            if protocols is not None:
                tx.run("UPDATE person SET protocols = ?, change = ? WHERE id = ?",
                       (protocols_of(protocols), number, person))
            if app_only or protocols is not None:
                raise_epoch(tx, person, "sessions")
            tx.run("UPDATE mailbox SET change = ? WHERE id = ?", (number, mailbox))

        await self._db.write(work)

    async def enable_mailbox(self, address: str, on: bool) -> None:
        """Let a person sign in, or not. Mail still arrives for a disabled one."""
        name = _address(address)

        def work(tx: Tx) -> None:
            mailbox, person = find_mailbox(tx, name)
            tx.run("UPDATE person SET disabled = ? WHERE id = ?", (int(not on), person))
            if not on:
                raise_epoch(tx, person, "disabled")
            tx.run("UPDATE mailbox SET change = ? WHERE id = ?", (tx.changed("mailbox", mailbox), mailbox))

        await self._db.write(work)

    async def remove_mailbox(self, address: str) -> bytes:
        """Remove a mailbox, its person, addresses and app passwords; the rows stay: it can be restored (Removed)."""
        name = _address(address)

        def work(tx: Tx) -> bytes:
            mailbox, person = find_mailbox(tx, name)
            raise_epoch(tx, person, "removed")
            for table, column, value in (("app_password", "person", person), ("address", "mailbox", mailbox),
                                         ("person", "id", person)):
                tx.run(f"UPDATE {table} SET deleted = 1, change = ? WHERE {column} = ? AND deleted = 0",  # noqa: S608
                       (tx.change(), value))
            tx.run("UPDATE domain SET catch_all = NULL, change = ? WHERE catch_all = ?",
                   (tx.changed("domain", mailbox), mailbox))
            tx.run("UPDATE mailbox SET deleted = 1, state = 'soft-deleted', removed = ?, change = ? WHERE id = ?",
                   (tx.now, tx.changed("mailbox", mailbox), mailbox))
            return mailbox

        return await self._db.write(work)

    async def set_hash(self, user: bytes, hash_: str, *, instead_of: str | None = None) -> bool:
        """Store a password hash. instead_of: only while this is the stored one (re-hashing), sessions stay.

        Without it this is a new password: sessions end.
        """

        def work(tx: Tx) -> bool:
            if instead_of is not None:
                return tx.run("UPDATE person SET hash = ?, change = ? WHERE id = ? AND hash = ? AND deleted = 0",
                              (hash_, tx.change(), user, instead_of)) == 1
            done = tx.run("UPDATE person SET hash = ? WHERE id = ? AND deleted = 0", (hash_, user)) == 1
            if done:
                raise_epoch(tx, user, "password")
            return done

        return await self._db.write(work)

    async def end_sessions(self, user: bytes) -> int:
        """Sign a person out everywhere; the new epoch."""
        return await self._db.write(lambda tx: raise_epoch(tx, user, "sessions"))

    # -- aliases ------------------------------------------------------------------------------------------------
    async def create_alias(self, alias: str, mailbox_address: str) -> None:
        """Another address of a mailbox."""
        new, target = _address(alias), _address(mailbox_address)
        await self._db.write(lambda tx: new_address(tx, new, find_mailbox(tx, target)[0], False))

    async def remove_alias(self, alias: str) -> None:
        """Take an alias away; the primary address stays as long as its mailbox."""
        name = _address(alias)

        def work(tx: Tx) -> None:
            row = tx.one("""SELECT a.id, a.is_primary FROM address a JOIN domain d ON d.id = a.domain
                WHERE a.local = ? AND d.name = ? AND a.deleted = 0 AND d.deleted = 0""", name)
            if row is None:
                raise RpcError("not_found", f"no such alias: {name}")
            if row[1]:
                raise RpcError("refused", f"{name} is the primary address of its mailbox")
            tx.run("UPDATE address SET deleted = 1, change = ? WHERE id = ?", (tx.changed("address", row[0]), row[0]))

        await self._db.write(work)

    # -- app passwords ------------------------------------------------------------------------------------------
    async def create_app_password(self, address: str, label: str, protocols: list[str]) -> tuple[bytes, str]:
        """(id, the password): told once, stored only as a digest."""
        name, shown, allowed = _address(address), _checked(display_of, label), protocols_of(protocols)
        password = secret()

        def work(tx: Tx) -> bytes:
            person = find_mailbox(tx, name)[1]
            if len(tx.rows("SELECT 1 FROM app_password WHERE person = ? AND deleted = 0", (person,))) >= 100:
                raise RpcError("refused", "a mailbox has at most 100 app passwords")
            entity = new_id()
            tx.run("INSERT INTO app_password VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?)",
                   (entity, tx.org, tx.change(), person, shown, allowed, secret_digest(password.encode()), tx.now))
            return entity

        return await self._db.write(work), password

    async def remove_app_password(self, address: str, entity: bytes) -> None:
        """Revoke an app password: the person's sessions end, so that those opened with it do."""
        name = _address(address)

        def work(tx: Tx) -> None:
            person = find_mailbox(tx, name)[1]
            if not tx.run("UPDATE app_password SET deleted = 1, change = ? WHERE id = ? AND person = ? AND deleted = 0",
                          (tx.change(), entity, person)):
                raise RpcError("not_found", "no such app password")
            raise_epoch(tx, person, "app-password")

        await self._db.write(work)

    # -- databases and settings ---------------------------------------------------------------------------------
    async def add_database(self, database: str, backend: str, island: str) -> None:
        """Make a mailbox database known, or leave it as it is."""
        name = _checked(object_name, database)
        known = "SELECT 1 FROM mailbox_db WHERE name = ? AND deleted = 0"
        if self._db.one(known, (name,)) is not None:
            return

        def work(tx: Tx) -> None:
            if tx.one(known, (name,)) is None:
                entity = new_id()
                tx.run("INSERT INTO mailbox_db VALUES (?, ?, ?, 0, ?, ?, ?, 0, 1, ?)",
                       (entity, tx.org, tx.changed("database", entity), name, backend, island, tx.now))

        await self._db.write(work)

    async def next_owner_epoch(self, database: str, at_least: int, backend: str, island: str) -> int:
        """Raise a database's high-water mark and give it out (ISLANDS 11.1, 11.2)."""
        await self.add_database(database, backend, island)

        def work(tx: Tx) -> int:
            row = tx.one("SELECT id, backend, owner_epoch FROM mailbox_db WHERE name = ? AND deleted = 0", (database,))
            assert row is not None
            if row[1] != backend:
                raise RpcError("denied", f"{database} belongs to {row[1]}")
            epoch = max(row[2] + 1, at_least)
            tx.run("UPDATE mailbox_db SET owner_epoch = ?, change = ? WHERE id = ?",
                   (epoch, tx.changed("database", row[0]), row[0]))
            return int(epoch)

        return await self._db.write(work)

    async def set_mounted(self, database: str, on: bool) -> None:
        """Remember whether a database is to be mounted."""

        def work(tx: Tx) -> None:
            row = tx.one("SELECT id FROM mailbox_db WHERE name = ? AND deleted = 0", (database,))
            if row is None:
                raise RpcError("not_found", f"no such database: {database}")
            tx.run("UPDATE mailbox_db SET mounted = ?, change = ? WHERE id = ?",
                   (int(on), tx.changed("database", row[0]), row[0]))

        await self._db.write(work)

    async def set_setting(self, name: str, value: str | None) -> None:
        """Change an organization-wide setting; None takes it away."""
        if name not in SETTINGS:
            raise RpcError("invalid", f"settings are {', '.join(sorted(SETTINGS))}")
        try:
            stored = None if value is None else SETTINGS[name][1](value)
        except ValueError as error:
            raise RpcError("invalid", str(error)) from None

        def work(tx: Tx) -> None:
            if stored and name == "postmaster":
                find_mailbox(tx, _address(stored))
            if stored and name == "default-domain" and tx.one(
                    "SELECT 1 FROM domain WHERE name = ? AND deleted = 0", (stored,)) is None:
                raise RpcError("not_found", f"no such domain: {stored}")
            row = tx.one("SELECT id FROM setting WHERE name = ? AND deleted = 0", (name,))
            entity = row[0] if row else new_id()
            number = tx.changed("setting", entity)
            if stored is None:
                tx.run("UPDATE setting SET deleted = 1, change = ? WHERE id = ?", (number, entity))
            elif row:
                tx.run("UPDATE setting SET value = ?, change = ? WHERE id = ?", (stored, number, entity))
            else:
                tx.run("INSERT INTO setting VALUES (?, ?, ?, 0, ?, ?)", (entity, tx.org, number, name, stored))

        await self._db.write(work)


def _choose_database(tx: Tx, wanted: str) -> str:
    # Transport's queue has an owner epoch here as well, but no mailbox lives in it.
    if wanted:
        if tx.one("""SELECT 1 FROM mailbox_db WHERE name = ? AND deleted = 0 AND backend LIKE 'mailbox-%'""",
                  (wanted,)) is None:
            raise RpcError("not_found", f"no such database: {wanted}")
        return wanted
    row = tx.one("""SELECT b.name FROM mailbox_db b WHERE b.deleted = 0 AND b.mounted = 1
        AND b.backend LIKE 'mailbox-%' ORDER BY
        (SELECT count(*) FROM mailbox m WHERE m.db = b.name AND m.deleted = 0), b.name LIMIT 1""")
    if row is None:
        raise RpcError("temporary", "no mailbox database is mounted")
    return str(row[0])
