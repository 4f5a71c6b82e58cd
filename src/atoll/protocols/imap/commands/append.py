"""APPEND [RFC 9051 §6.3.12], MULTIAPPEND [RFC 3502] (all or none), literal8 [RFC 3516 §4.4], APPENDUID [RFC 4315]."""

from __future__ import annotations

import re
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
PARTS = ("FIRST", "MORE", "LAST")
_UIDL = re.compile(r"[!-~]{1,70}\Z")  # [RFC 1939 §7]


def parse(cur: Cursor) -> Append:
    """SP mailbox 1*(SP [flags SP] [date-time SP] literal); other processes may say more: protocols.imap.across."""
    cur.space()
    mailbox = cur.mailbox()
    part = next((word for word in PARTS if cur.skip(b" %b" % word.encode("ascii"))), "")
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
        email = ""
        if cur.skip(b"EMAILID "):
            email = cur.atom().decode("ascii")
            cur.space()
        uidl = _uidl(cur)
        data, binary = _message(cur)
        messages.append(Message(data, flags, at, binary, email, uidl))
        if len(messages) > MAX_MESSAGES:
            raise No("LIMIT", "Too many messages at once")
    if not messages:
        raise Bad("Expected a message")
    return Append(mailbox, tuple(messages), part)


def _uidl(cur: Cursor) -> str:
    """["ATOLL.UIDL" SP string SP]: the unique id of POP3 that an imported message has [RFC 4466 §2.3]."""
    if not cur.skip(b"ATOLL.UIDL "):
        return ""
    text = cur.text()
    if not _UIDL.match(text):
        raise Bad("Expected a unique id")
    cur.space()
    return text


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
    if not session.is_delegate and (args.part or any(message.email for message in args.messages)):
        raise Bad("Expected a literal")
    if any(message.uidl for message in args.messages) and not session.administers:
        raise No("NOPERM", "Unique ids come with imported mail only")
    now = session.server.clock.now_ms()
    staged = session.staged.take(session.server)
    fresh = staged if args.part in ("MORE", "LAST") else []
    for message in args.messages:
        flags, keywords = split_flags(message.flags)
        scanned = await session.server.scanner.scan(message.data)
        received = now if message.at is None else message.at
        fresh.append(NewMessage(Content(message.data, scanned), received, flags, keywords, message.email,
                                uidl=message.uidl))
    if args.part in ("FIRST", "MORE"):
        session.staged.keep(session.server, fresh)
        return Ok("Waiting")
    placed = await access.append(folder, fresh)
    uids = response.ranges(ranges_of([one.uid for one in placed])).decode("ascii")
    return Ok("Stored", f"APPENDUID {folder.uidv} {uids}")
