"""SUBSCRIBE and UNSUBSCRIBE [RFC 9051 §6.3.7, §6.3.8]: remembered for the person, in whatever mailbox."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from atoll.protocols.imap import names
from atoll.protocols.imap.command import Ok

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session


async def run(session: Session, name: str, tag: bytes, *, on: bool) -> Ok:
    access, path = await names.resolve(session, name)
    await access.subscribe(path, on)
    return Ok("Subscribed" if on else "Unsubscribed")


run_subscribe = partial(run, on=True)
run_unsubscribe = partial(run, on=False)
