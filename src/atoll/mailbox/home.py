"""What an Access asks of the store that made it.

Out    the directory's word on a mailbox, the search index of a database; told that rights changed.
Not    the store itself: an Access knows no more of it than this.
"""

from __future__ import annotations

from typing import Protocol

from atoll.base.ids import MailboxId
from atoll.directory.client.model import MailboxInfo
from atoll.mailbox.database import MailboxDatabase
from atoll.mailbox.search.feed import SearchFeed


class Home(Protocol):
    """What an Access asks of the Store that made it."""

    async def info(self, mailbox: MailboxId) -> MailboxInfo:
        """What the directory says now."""

    def feed(self, database: MailboxDatabase) -> SearchFeed:
        """The search index of a mounted database."""

    def shared(self, database: MailboxDatabase, mailbox: MailboxId) -> None:
        """Rights in a mailbox were given or taken."""
