"""Which mailboxes have reached a step of their quota: what their processes say, told to those who send.

In     reports of mailbox processes, each about its own databases.
Out    the persons who may send nothing now; Sending for each change.
Not    durable: a process tells everything again when it meets a directory that started anew (PROCESSES 6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from atoll.directory.client.model import NO_SENDING, WITHIN, MailboxInfo, QuotaStep, Sending

MAX_STEPS = 1_000_000
"""Mailboxes that are remembered; an island has fewer."""


class QuotaSteps:
    """In the directory's memory. lookup: a mailbox by its id. tell: each change for one who may or may not send."""

    def __init__(self, lookup: Callable[[bytes], MailboxInfo | None], tell: Callable[[Sending], None]) -> None:
        self._lookup = lookup
        self._tell = tell
        self._reached: dict[bytes, tuple[int, str, bytes]] = {}

    def report(self, database: str, steps: Iterable[QuotaStep], *, whole: bool) -> None:
        """What a process says of its database; mailboxes that live elsewhere are passed over."""
        said = {one.mailbox: one.step for one in steps}
        if whole:
            for mailbox in [each for each, (_, where, _) in self._reached.items() if where == database]:
                said.setdefault(mailbox, WITHIN)
        for mailbox, step in said.items():
            self._set(mailbox, step, database)

    def _set(self, mailbox: bytes, step: int, database: str) -> None:
        before, _, user = self._reached.get(mailbox, (WITHIN, "", b""))
        info = self._lookup(mailbox)
        if info is None or info.database != database:
            step = WITHIN
        else:
            user = info.user
        if step == WITHIN:
            self._reached.pop(mailbox, None)
        elif len(self._reached) < MAX_STEPS:
            self._reached[mailbox] = (step, database, user)
        if user and (before >= NO_SENDING) != (step >= NO_SENDING):
            self._tell(Sending(user, step < NO_SENDING))

    def step(self, mailbox: bytes) -> int:
        """The step this mailbox has reached, as far as we were told."""
        return self._reached.get(mailbox, (WITHIN, "", b""))[0]

    def reached(self) -> dict[bytes, int]:
        """The mailboxes that have reached one."""
        return {mailbox: step for mailbox, (step, _, _) in self._reached.items()}

    def stopped(self) -> list[bytes]:
        """Persons who may send nothing."""
        return [user for step, _, user in self._reached.values() if step >= NO_SENDING]
