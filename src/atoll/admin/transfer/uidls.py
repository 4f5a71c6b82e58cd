"""admin.transfer.uidls -- unique ids that an old POP3 server gave, for the messages that IMAP or files show. Pure.

In     LIST, UIDL and TOP of the old server; uids and sizes of its INBOX; dovecot-uidlist.
Out    uid, or header, or file name -> unique id.
Spec   [RFC 1939 §7]; doc.dovecot.org, "Maildir mailbox format" (dovecot-uidlist) and pop3_uidl_format.
Fails  never: without an id a message gets a new one here; a program that leaves mail on the server fetches it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from atoll.admin.transfer.message import checked_uidl

MAX_LINES = 2_000_000


def by_place(pop: list[tuple[int, str]], imap: list[tuple[int, int]]) -> dict[int, str] | None:
    """uid -> id, when both servers show the same messages in the same order. pop: (size, id); imap: (uid, size)."""
    if [size for size, _ in pop] != [size for _, size in imap]:
        return None
    return {uid: uidl for (uid, _), (_, uidl) in zip(imap, pop, strict=True)}


def head_digest(head: bytes) -> bytes:
    """A message's header as both protocols show it: line ends and the blank line do not count."""
    return hashlib.blake2b(b"\n".join(line.rstrip() for line in head.rstrip().splitlines()), digest_size=16).digest()


class ByHead:
    """Ids by header, each given once: for servers whose POP3 does not show what IMAP shows."""

    def __init__(self, heads: Iterable[tuple[bytes, str]]) -> None:
        self._ids: dict[bytes, list[str]] = {}
        for head, uidl in heads:
            self._ids.setdefault(head_digest(head), []).append(uidl)

    def take(self, head: bytes) -> str:
        """The id of the message with this header; "" when there is none left."""
        waiting = self._ids.get(head_digest(head))
        return waiting.pop(0) if waiting else ""


def read_uidlist(text: str) -> Mapping[str, str]:
    """File name without its info part -> unique id, of a dovecot-uidlist (versions 1 and 3).

    Where the file names no id (P), it is the one that Dovecot makes by default: "%08Xu%08Xv".
    """
    lines = text.splitlines()[:MAX_LINES]
    head = lines[0].split() if lines else []
    validity = _validity(head)
    found: dict[str, str] = {}
    for line in lines[1:]:
        words, colon, name = line.partition(" :")
        fields = words.split()
        if not colon and len(fields) == 2:  # version 1: "uid name"
            fields, name = fields[:1], fields[1]
        if not fields or not fields[0].isdigit() or not name:
            continue
        given = next((field[1:] for field in fields[1:] if field.startswith("P") and len(field) > 1), "")
        made = f"{int(fields[0]):08x}{validity:08x}" if validity else ""
        uidl = checked_uidl(given) or made
        if uidl:
            found[name.partition(":2,")[0]] = uidl
    return found


def _validity(head: list[str]) -> int:
    if not head:
        return 0
    if head[0] == "3":
        text = next((word[1:] for word in head[1:] if word.startswith("V")), "")
    else:
        text = head[1] if len(head) > 1 else ""
    return int(text) if text.isdigit() and len(text) <= 10 else 0
