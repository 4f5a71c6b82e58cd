"""A demo organization in an empty directory.

In     accounts: address, password, database, as the supervisor made them and showed them.
Out    their domains, mailboxes and hashes, and the postmaster, once: a directory of somebody's own is left alone.
Fails  a death before the end: the next start makes what is missing. The postmaster's setting is the last of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from atoll.directory.server.auth import hashes
from atoll.directory.server.auth.lane import HashLane
from atoll.directory.server.database import Database
from atoll.directory.server.register import Register


class Account(NamedTuple):
    """One demo mailbox."""

    address: str
    password: str
    database: str
    postmaster: bool = False


async def create(database: Database, register: Register, lane: HashLane, accounts: Sequence[Account]) -> bool:
    """Make the accounts if nobody else is there; were some made? Their databases are known already."""
    there = {row[0] for row in database.rows("SELECT address FROM mailbox ORDER BY address")}  # removed ones as well
    done = database.one("SELECT 1 FROM setting WHERE name = 'postmaster'") is not None
    if done or there - {account.address for account in accounts}:
        return False
    for domain in dict.fromkeys(account.address.rpartition("@")[2] for account in accounts):
        if database.one("SELECT 1 FROM domain WHERE name = ? AND deleted = 0", (domain,)) is None:
            await register.create_domain(domain)
    for account in accounts:
        if account.address in there:
            continue
        password = account.password.encode()
        hash_ = await lane.run("demo", "", lambda secret=password: hashes.make(secret))  # type: ignore[misc]
        await register.create_mailbox(account.address, display=account.address.partition("@")[0].capitalize(),
                                      hash_=hash_, database=account.database)
    for account in accounts:
        if account.postmaster:
            await register.set_setting("postmaster", account.address)
    return True
