"""A demo organization in an empty directory.

In     accounts: address, password, database, as the supervisor made them and showed them.
Out    their domains, mailboxes and hashes, once: a directory that has a mailbox is left alone.
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


async def create(database: Database, register: Register, lane: HashLane, accounts: Sequence[Account]) -> bool:
    """Make the accounts if there is no mailbox yet; were they made? Their databases are known already."""
    if database.one("SELECT 1 FROM mailbox LIMIT 1") is not None:
        return False
    for domain in dict.fromkeys(account.address.rpartition("@")[2] for account in accounts):
        if database.one("SELECT 1 FROM domain WHERE name = ? AND deleted = 0", (domain,)) is None:
            await register.create_domain(domain)
    for account in accounts:
        password = account.password.encode()
        hash_ = await lane.run("demo", "", lambda secret=password: hashes.make(secret))  # type: ignore[misc]
        await register.create_mailbox(account.address, display=account.address.partition("@")[0].capitalize(),
                                      hash_=hash_, database=account.database)
    return True
