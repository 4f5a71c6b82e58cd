"""Rows of a rebuilt database that are made again from what its indexes, and other rows, still know of them.

In     a rebuilt file; fragments: rows whose own page is lost.
Out    mailboxes, folders and messages that can be opened. What nothing knows any more is as of a new one: a message is
       unread and without flags, a folder that was not there from the start is "Recovered N" and new to every client.
Spec   ARCHITECTURE "Integrity": what is derivable is repaired. Counters come after this, from integrity.check.
Not    a message whose content nobody can name any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from atoll.mailbox.folders import HIDDEN, INSERT_FOLDER, RECOVERABLE, VISIBLE
from atoll.mailbox.memory import MAILBOX_COLUMNS
from atoll.mailbox.model import WellKnown
from atoll.sql import Connection, Fragment

RECOVERED = "Recovered"
_HIDDEN_ROOT = len(VISIBLE) + 1
"""Number of the first hidden folder in its mailbox: `folders.born` numbers them in this order."""


def remake(writer: Connection, fragments: Iterable[Fragment]) -> int:
    """In one transaction of the caller's; how many rows."""
    found: dict[str, list[dict[str, Any]]] = {"mailbox": [], "folder": [], "item": []}
    for one in fragments:
        if one.table in found:
            found[one.table].append(one.values)
    made = sum(_mailbox(writer, values) for values in found["mailbox"])
    made += sum(_item(writer, values) for values in found["item"])
    known = {values["fid"]: values for values in found["folder"]}
    for fid, mid in writer.all("SELECT DISTINCT i.fid, i.mid FROM item i LEFT JOIN folder f ON f.fid = i.fid"
                               " WHERE f.fid IS NULL"):
        known.setdefault(fid, {"fid": fid, "mid": mid})
    for fid in sorted(known):
        made += _folder(writer, known[fid])
    return made


def _mailbox(writer: Connection, values: dict[str, Any]) -> int:
    mid, guid = values["mid"], values.get("guid")
    if not guid:
        return 0
    cn, uidv, base, fno = writer.one(
        "SELECT coalesce(max(cn_high), 0), coalesce(max(uidv), 1), coalesce(min(uidv), 1), coalesce(max(fno), 0) + 1"
        " FROM folder WHERE mid = ?", (mid,)) or (0, 1, 1, 1)
    writer.run(f"INSERT INTO mailbox ({MAILBOX_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, ?)",
               (mid, guid, cn, uidv, base, fno, os.urandom(32)))
    return 1


def _number(writer: Connection, mid: int) -> int:
    """A change number that nobody was given yet."""
    writer.run("UPDATE mailbox SET cn = cn + 1 WHERE mid = ?", (mid,))
    (number,) = writer.one("SELECT cn FROM mailbox WHERE mid = ?", (mid,)) or (0,)
    return int(number)


def _item(writer: Connection, values: dict[str, Any]) -> int:
    mid, blob = values.get("mid"), values.get("blob")
    if mid is None or blob is None:
        return 0
    cn = _number(writer, mid)  # clients learn that its flags are gone
    (size,) = writer.one("SELECT size FROM blob WHERE blob = ?", (blob,)) or (0,)
    id_ = values.get("id") or cn
    writer.run("INSERT INTO item (fid, uid, mid, id, cn, cn_item, cn_body, flags, received, size, blob, conv)"
               " VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)",
               (values["fid"], values["uid"], mid, id_, cn, cn, cn, values.get("received") or 0, size, blob,
                values.get("conv") or id_))
    return 1


def _folder(writer: Connection, values: dict[str, Any]) -> int:
    fid, mid, fno = values["fid"], values["mid"], values.get("fno")
    row = writer.one("SELECT uidv, fno_next FROM mailbox WHERE mid = ?", (mid,))
    if row is None:
        return 0
    uidv, following = int(row[0]) + 1, int(row[1])
    if fno is None:
        fno, following = following, following + 1
    name, which, hidden = _role(fno)
    parent = 0
    if hidden and fno != _HIDDEN_ROOT:
        (parent,) = writer.one("SELECT fid FROM folder WHERE mid = ? AND fno = ?", (mid, _HIDDEN_ROOT)) or (0,)
    if writer.one("SELECT 1 FROM folder WHERE mid = ? AND parent = ? AND name = ? AND gone = 0", (mid, parent, name)):
        name, which = f"{RECOVERED} {fno}", WellKnown.NONE
    writer.run("UPDATE mailbox SET uidv = ?, fno_next = ? WHERE mid = ?", (uidv, max(following, fno + 1), mid))
    cn = _number(writer, mid)
    writer.run(INSERT_FOLDER, (fid, mid, fno, parent, name, "IPF.Note", int(which), int(hidden), 0, uidv, cn, cn, cn))
    return 1


def _role(fno: int) -> tuple[str, WellKnown, bool]:
    """(name, use, hidden) of a folder by its number in the mailbox."""
    if fno <= len(VISIBLE):
        which, name = VISIBLE[fno - 1]
        return name, which, False
    if fno == _HIDDEN_ROOT:
        return RECOVERABLE, WellKnown.RECOVERABLE, True
    if fno <= _HIDDEN_ROOT + len(HIDDEN):
        which, name = HIDDEN[fno - _HIDDEN_ROOT - 1]
        return name, which, True
    return f"{RECOVERED} {fno}", WellKnown.NONE, False
