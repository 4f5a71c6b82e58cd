"""protocols.imap.staged -- messages that another process sends in several commands, until the last one comes.

In     the messages of APPEND ... FIRST, MORE. Out  all of them for APPEND ... LAST.
Fails  No("LIMIT"): one person's COPY is too large, or all that the process holds is.
Not    on disk: who goes before LAST has stored nothing.
"""

from __future__ import annotations

from atoll.mailbox import NewMessage
from atoll.protocols.imap.errors import No
from atoll.protocols.imap.host import Host


class Staged:
    """Those of one session; counted among what the large commands of the process hold."""

    __slots__ = ("_held", "_messages")

    def __init__(self) -> None:
        self._messages: list[NewMessage] = []
        self._held = 0

    def keep(self, host: Host, messages: list[NewMessage]) -> None:
        """These and no others."""
        octets = sum(message.content.size for message in messages)
        if octets > host.limits.append_command or host.held + octets > host.limits.in_flight:
            raise No("LIMIT", "Too much at once")
        host.held += octets
        self._messages, self._held = messages, octets

    def take(self, host: Host) -> list[NewMessage]:
        """What was kept, and keep it no longer."""
        host.held -= self._held
        messages, self._messages, self._held = self._messages, [], 0
        return messages
