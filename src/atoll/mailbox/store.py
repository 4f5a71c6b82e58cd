"""Every database mounted in this process.

In     a database engine, the directory's answers, deliveries.
Out    Access objects; Delivered once committed.
Spec   docs/seams.md 4; ISLANDS 4, 11.
Fails  StoreError(UNAVAILABLE): not mounted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atoll.base.ids import MailboxId, UserId
from atoll.mailbox.access import Access
from atoll.mailbox.errors import StoreError
from atoll.mailbox.model import Delivered, Delivery


class Store:
    """Mounted databases of one process, all on one event loop."""

    async def mount(self, name: str, path: Path) -> None:
        """Open a database, raise its owner epoch durably, serve it."""
        raise NotImplementedError

    async def dismount(self, name: str) -> None:
        """Finish what runs, close it."""
        raise NotImplementedError

    async def open(self, mailbox: MailboxId, who: UserId, *, scope: str = "full") -> Access:
        """A person's access to a mailbox; made with its well-known folders on first use. NO_FOLDER, UNAVAILABLE."""
        raise NotImplementedError

    async def deliver(self, deliveries: Sequence[Delivery]) -> list[Delivered | StoreError]:
        """Each committed or refused on its own; resolves after the commit."""
        raise NotImplementedError
