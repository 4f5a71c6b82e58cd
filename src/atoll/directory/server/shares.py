"""Who shares a mailbox with whom, as the mailbox processes say: so that a person finds what is in other processes.

In     reports of mailbox processes, each about its own databases.
Out    the mailboxes in which a person may look up at least one folder.
Not    rights: the mailbox decides when it is opened. Not durable: a process tells everything again when it meets a
       directory that started anew.
"""

from __future__ import annotations

from collections.abc import Iterable

EVERYBODY = bytes(16)
"""Stands for each person of the island [RFC 4314 §2, "anyone"]."""
MAX_SHARES = 1_000_000
"""Pairs of a mailbox and a person that are remembered."""


class Shares:
    """In the directory's memory."""

    def __init__(self) -> None:
        self._people: dict[bytes, tuple[str, frozenset[bytes]]] = {}
        self._mailboxes: dict[bytes, set[bytes]] = {}
        self._pairs = 0

    def report(self, database: str, shares: Iterable[tuple[bytes, list[bytes]]], *, whole: bool) -> None:
        """(mailbox, persons): these and no others. whole: no other mailbox of the database is shared."""
        said = {mailbox: frozenset(people) for mailbox, people in shares}
        if whole:
            for mailbox in [each for each, (where, _) in self._people.items() if where == database]:
                said.setdefault(mailbox, frozenset())
        for mailbox, people in said.items():
            self._set(database, mailbox, people)

    def _set(self, database: str, mailbox: bytes, people: frozenset[bytes]) -> None:
        _, before = self._people.pop(mailbox, ("", frozenset()))
        for person in before:
            self._mailboxes[person].discard(mailbox)
            if not self._mailboxes[person]:
                del self._mailboxes[person]
        self._pairs -= len(before)
        if people and self._pairs + len(people) <= MAX_SHARES:
            self._people[mailbox] = (database, people)
            self._pairs += len(people)
            for person in people:
                self._mailboxes.setdefault(person, set()).add(mailbox)

    def shared_with(self, person: bytes) -> list[bytes]:
        """Mailboxes, in the order of their ids."""
        return sorted(self._mailboxes.get(person, set()) | self._mailboxes.get(EVERYBODY, set()))
