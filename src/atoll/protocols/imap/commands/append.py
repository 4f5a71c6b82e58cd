"""APPEND [RFC 9051 §6.3.12], MULTIAPPEND [RFC 3502] (all or none), literal8 [RFC 3516 §4.4], APPENDUID [RFC 4315]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.mailbox import Content, NewMessage, StoreError
from atoll.protocols.imap import names
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.commands.store import split_flags
from atoll.protocols.imap.errors import Bad, No, to_no
from atoll.protocols.imap.types import Append, Message, ranges_of
from atoll.protocols.imap.wire import response
from atoll.protocols.imap.wire.cursor import Cursor

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session

MAX_MESSAGES = 1000


def parse(cur: Cursor) -> Append:
    """SP mailbox 1*(SP [flags SP] [date-time SP] literal)"""
    cur.space()
    mailbox = cur.mailbox()
    messages: list[Message] = []
    while cur.more():
        cur.space()
        flags: tuple[str, ...] = ()
        at = None
        if cur.peek() == b"(":
            flags = cur.flag_list()
            cur.space()
        if cur.peek() == b'"':
            at = cur.date_time()
            cur.space()
        data, binary = _message(cur)
        messages.append(Message(data, flags, at, binary))
        if len(messages) > MAX_MESSAGES:
            raise No("LIMIT", "Too many messages at once")
    if not messages:
        raise Bad("Expected a message")
    return Append(mailbox, tuple(messages))


def _message(cur: Cursor) -> tuple[bytes, bool]:
    if cur.skip(b"UTF8 (") or cur.skip(b"CATENATE"):
        raise Bad("Expected a literal")
    if cur.peek() not in (b"{", b"~"):
        raise Bad("Expected a literal")
    return cur.literal()


async def run(session: Session, args: Append, tag: bytes) -> Ok:
    try:
        access, folder = await names.open_folder(session, args.mailbox)
    except StoreError as error:
        raise to_no(error, target=True) from None
    if any(not message.data for message in args.messages):
        raise No("CANNOT", "An empty message")
    now = session.server.clock.now_ms()
    fresh = []
    for message in args.messages:
        flags, keywords = split_flags(message.flags)
        scanned = await session.server.scanner.scan(message.data)
        received = now if message.at is None else message.at
        fresh.append(NewMessage(Content(message.data, scanned), received, flags, keywords))
    placed = await access.append(folder, fresh)
    uids = response.ranges(ranges_of([one.uid for one in placed])).decode("ascii")
    return Ok("Stored", f"APPENDUID {folder.uidv} {uids}")
