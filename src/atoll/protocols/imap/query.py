"""protocols.imap.query -- from IMAP's search keys to the mailbox layer's query.

In     types.SearchKey and the selected mailbox (for sequence numbers, "$" and \\Recent). Out  mailbox.query.Query.
Spec   [RFC 9051 §6.4.4]. Fails  Bad for a sequence number that is not there. Not  the search.
"""

from __future__ import annotations

import calendar
import datetime as dt
from typing import Literal, cast

from atoll.mailbox import UidSet, query
from atoll.protocols.imap.selected import FLAG_OF, Selected
from atoll.protocols.imap.types import (
    All,
    And,
    HasFlag,
    Header,
    Messages,
    ModSeq,
    Not,
    ObjectId,
    OnDate,
    Or,
    SearchKey,
    Size,
    Text,
)

DAY = 86_400_000


def has_modseq(key: SearchKey) -> bool:
    """Is MODSEQ among the keys? Then the answer carries one."""
    match key:
        case And(keys):
            return any(map(has_modseq, keys))
        case Or(left, right):
            return has_modseq(left) or has_modseq(right)
        case Not(inner):
            return has_modseq(inner)
        case _:
            return isinstance(key, ModSeq)


def to_query(key: SearchKey, selected: Selected) -> query.Query:
    """The same question for the mailbox layer."""
    match key:
        case And(keys):
            return query.And(tuple(to_query(one, selected) for one in keys))
        case Or(left, right):
            return query.Or((to_query(left, selected), to_query(right, selected)))
        case Not(inner):
            return query.Not(to_query(inner, selected))
        case Messages(messages, uids):
            return query.Uids(UidSet(tuple(selected.asked(messages, uid=uids, search=True))))
        case HasFlag(flag):
            return _flag(flag, selected)
        case _:
            return _leaf(key)


def _flag(flag: str, selected: Selected) -> query.Query:
    if flag == "\\Recent":
        return query.Uids(selected.recent)
    known = FLAG_OF.get(flag.lower())
    return query.HasFlag(known) if known is not None else query.HasKeyword(flag)


def _leaf(key: SearchKey) -> query.Query:
    match key:
        case Text("BODY", value):
            return query.Body(value)
        case Text("TEXT", value):
            return query.Text(value)
        case Text(name, ""):  # whoever has the field, be it empty [RFC 9051 §6.4.4, HEADER]
            return query.Header(name, "")
        case Text(name, value):
            return query.Field(cast(Literal["subject", "from", "to", "cc", "bcc"], name.lower()), value)
        case Header(name, value):
            return query.Header(name, value)
        case OnDate():
            return _date(key)
        case Size(op, size):
            return query.Size(larger=size) if op == "LARGER" else query.Size(smaller=size)
        case ModSeq(number):
            return query.ModSeq(number)
        case ObjectId(kind, value):
            return query.Ids("email" if kind == "EMAILID" else "thread", value)
        case _:
            assert isinstance(key, All)
            return query.All()


def _date(key: OnDate) -> query.Query:
    start = calendar.timegm(dt.datetime(key.day.year, key.day.month, key.day.day, tzinfo=dt.UTC).timetuple()) * 1000
    since = start if key.op in ("ON", "SINCE") else None
    before = start if key.op == "BEFORE" else start + DAY if key.op == "ON" else None
    return query.Sent(since, before) if key.sent else query.Received(since, before)
