"""protocols.imap.host -- what an IMAP session asks of the server that it belongs to.

In     nothing. Out  the shapes of the store, the directory and the server, as far as a session knows them.
Not    their doing: mailbox.Store, directory.client.Backend, server.ImapServer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from atoll.base.clock import Clock
from atoll.base.ids import MailboxId, UserId
from atoll.content import Scanner
from atoll.directory.client.model import MailboxInfo, SignedIn
from atoll.directory.client.tokens import TokenVerifier
from atoll.mailbox import Access
from atoll.protocols.imap.command import Command
from atoll.protocols.imap.limits import Limits
from atoll.runtime.peers import Peer
from atoll.runtime.turns import Turns


@dataclass(slots=True)
class Enabled:
    """What this client has switched on [RFC 5161]."""

    rev2: bool = False
    condstore: bool = False
    qresync: bool = False

    def names(self) -> list[str]:
        """As ENABLE takes them."""
        known = (("IMAP4rev2", self.rev2), ("CONDSTORE", self.condstore), ("QRESYNC", self.qresync))
        return [name for name, on in known if on]


class Mailboxes(Protocol):
    """What IMAP needs of mailbox.Store."""

    async def open(self, mailbox: MailboxId, who: UserId, *, scope: str = "full") -> Access:
        """A person's access to a mailbox."""

    def shared_with(self, who: UserId) -> list[MailboxId]:
        """Mailboxes of this process in which this person may look."""


class People(Protocol):
    """What IMAP needs of directory.client.Backend: whose mailbox is that?"""

    async def mailbox_of(self, address: str) -> MailboxInfo | None:
        """By its address."""

    async def mailbox(self, mailbox: bytes) -> MailboxInfo:
        """By its id."""

    async def shared_with(self, sid: str) -> list[MailboxInfo]:
        """Mailboxes of the island that are shared with the person of this session."""

    async def exchange(self, sid: str, user: bytes, mailbox: bytes) -> SignedIn:
        """A token for a mailbox of another process."""


class Host(Protocol):
    """What a session asks of the server that it belongs to."""

    store: Mailboxes
    people: People
    verifier: TokenVerifier
    clock: Clock
    limits: Limits
    commands: Mapping[str, Command]
    backend: str
    turns: Turns
    """For what goes on: a slice of long work."""
    starts: Turns
    """For what begins: a command."""
    scanner: Scanner
    held: int
    """Bytes that large commands of all sessions hold."""

    def literal_limit(self, head: bytes) -> tuple[int, int]:
        """How large the next literal, and the whole command that begins so, may be now."""

    def socket_of(self, backend: str) -> Path:
        """Where another mailbox process takes delegates."""

    def enter(self, session: Any, peer: Peer) -> bool:
        """A new connection. Is it from a frontend or a mailbox process? Others need an administrator's token."""

    def leave(self, session: Any) -> None:
        """A connection ended."""
