"""Signing a submission client in: the directory's token, then a connection of its own to transport (PROCESSES 6)."""

from __future__ import annotations

import asyncio

from atoll.directory.client.model import ClientFacts, Refused
from atoll.formats.sasl import Credentials
from atoll.formats.smtp import replies
from atoll.formats.smtp.replies import Reply
from atoll.protocols.smtp.handoff import HopConnection
from atoll.protocols.smtp.shared import Shared
from atoll.protocols.smtp.types import HopFacts
from atoll.runtime.admission import Ticket

_REPLIES = {
    "credentials": replies.AUTH_FAILED,
    "disabled": replies.AUTH_FAILED,
    "authorization": replies.AUTH_FAILED,
    "protocol": replies.AUTH_FAILED,
    "slow": replies.AUTH_SLOW,
    "temporary": replies.AUTH_TEMPORARY,
}


async def open_submission(front: Shared, ticket: Ticket, found: Credentials,
                          facts: HopFacts) -> tuple[HopConnection, str] | Reply:
    """(connection to transport, the address signed in as), or what to say instead."""
    client = ClientFacts(ticket.ip, ticket.port, facts.tls, facts.cipher, helo=facts.helo)
    try:
        signed = await front.sign_in.password("submit", found.login, found.password, client, found.authzid)
    except Refused as refused:
        if refused.delay:
            await asyncio.sleep(min(refused.delay, 5.0))
        return _REPLIES.get(refused.reason, replies.AUTH_FAILED)
    hop = await front.submit_hops.connect()
    if hop is None:
        return replies.AUTH_TEMPORARY
    code = 0
    try:
        code = (await hop.answer(f"AUTH ATOLL {signed.token}\r\n".encode())).code
    finally:  # whatever ends the wait
        if code != 235:
            hop.close()
    return (hop, signed.address) if code == 235 else replies.AUTH_TEMPORARY
