"""Unique ids that messages brought from the POP3 server of before.

In     a mailbox's mid.
Out    id of an item -> unique id.
Spec   [RFC 1939 §7]: an id never changes, so programs that leave mail on the server do not fetch all of it again.
Not    ids of other messages: POP3 makes those of UIDVALIDITY and uid.
"""

from __future__ import annotations

from atoll.mailbox.database import MailboxDatabase

PUT_UIDL = ("INSERT INTO uidl (mid, uidl, id) VALUES (?, ?, ?)"
            " ON CONFLICT (mid, uidl) DO UPDATE SET id = excluded.id")
PAGE = 2000
"""Rows of a slice."""


async def kept_uidls(database: MailboxDatabase, mid: int) -> dict[int, str]:
    """All of a mailbox; most have none."""
    found: dict[int, str] = {}
    last = ""
    while rows := database.reader.all("SELECT uidl, id FROM uidl WHERE mid = ? AND uidl > ? ORDER BY uidl LIMIT ?",
                                      (mid, last, PAGE)):
        found.update((id_, uidl) for uidl, id_ in rows)
        last = rows[-1][0]
        if len(rows) < PAGE:
            break
        await database.turns.take()
    return found
