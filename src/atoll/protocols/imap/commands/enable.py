"""ENABLE [RFC 9051 §6.3.1], [RFC 5161]: IMAP4rev2, CONDSTORE, QRESYNC, UTF8=ACCEPT is not offered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.wire.cursor import Cursor

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session


def parse(cur: Cursor) -> list[str]:
    """1*(SP capability)"""
    cur.space()
    words = [cur.word()]
    while cur.skip(b" "):
        words.append(cur.word())
    cur.end()
    return words


async def run(session: Session, words: list[str], tag: bytes) -> Ok:
    enabled = session.enabled
    done: list[str] = []
    for word in dict.fromkeys(words):
        if word == "IMAP4REV2":
            enabled.rev2 = True
            done.append("IMAP4rev2")
        elif word == "CONDSTORE":
            done.append(word)
        elif word == "QRESYNC":  # [RFC 7162 §3.2.3] it includes CONDSTORE
            enabled.qresync = True
            done.append(word)
    await session.enable_there(done)
    session.write(" ".join(["* ENABLED", *done]).encode("ascii") + b"\r\n")
    if "CONDSTORE" in done or "QRESYNC" in done:
        session.use_condstore()
    return Ok("Enabled")
