"""THREAD and UID THREAD [RFC 5256 §3]."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from atoll.mailbox.model import SortRow
from atoll.protocols.imap import threads
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.commands.search import find
from atoll.protocols.imap.commands.sort import sort_rows
from atoll.protocols.imap.types import Thread
from atoll.protocols.imap.wire.cursor import Cursor
from atoll.protocols.imap.wire.search import parse_thread

if TYPE_CHECKING:
    from atoll.protocols.imap.selected import Selected
    from atoll.protocols.imap.session import Session

THREAD_HERE = 2000
"""Messages threaded on the loop; more leave it."""


def parse(cur: Cursor) -> Thread:
    """SP algorithm SP charset SP program"""
    cur.space()
    return parse_thread(cur)


async def run(session: Session, args: Thread, tag: bytes, *, uid: bool) -> Ok:
    rows = await sort_rows(session, await find(session, args.search))
    if len(rows) > THREAD_HERE:
        text = await asyncio.to_thread(_text, rows, args.algorithm, session.box, uid=uid)
    else:
        text = _text(rows, args.algorithm, session.box, uid=uid)
    session.write(b"* THREAD" + (b" " + text if text else b"") + b"\r\n")
    return Ok("Threaded")


def _text(rows: list[SortRow], algorithm: str, selected: Selected, *, uid: bool) -> bytes:
    make = threads.references if algorithm == "REFERENCES" else threads.ordered_subject
    return threads.render(make(rows), (lambda one: one) if uid else selected.uids.seq)


run_thread = partial(run, uid=False)
run_uid_thread = partial(run, uid=True)
