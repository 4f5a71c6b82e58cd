"""protocols.imap.wire.client_id -- the argument of ID.

In     wire.cursor.Cursor after "ID". Out  types.ClientId.
Spec   [RFC 2971 §3.3]: at most 30 fields, names of 30 octets, values of 1024. Fails  Bad.
"""

from __future__ import annotations

from atoll.protocols.imap.types import ClientId
from atoll.protocols.imap.wire.cursor import Cursor, as_text
from atoll.protocols.imap.wire.errors import Bad

MAX_FIELDS = 30
MAX_NAME = 30
MAX_VALUE = 1024


def parse(cur: Cursor) -> ClientId:
    """SP (NIL | "(" [string SP nstring ...] ")")"""
    cur.space()
    if cur.skip(b"NIL"):
        cur.end()
        return ClientId()
    cur.expect(b"(")
    fields: dict[str, str] = {}
    while not cur.skip(b")"):
        if fields:
            cur.space()
        name = as_text(cur.string())
        cur.space()
        value = cur.nstring()
        if len(name) > MAX_NAME or len(value or b"") > MAX_VALUE or len(fields) >= MAX_FIELDS:
            raise Bad("ID is too long")
        fields[name.lower()] = as_text(value or b"")
    cur.end()
    return ClientId(fields)
