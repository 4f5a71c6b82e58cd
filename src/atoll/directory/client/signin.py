"""The frontend's end of signin.sock: it can ask, it cannot list or change.

In     what a client typed, and the facts about its connection.
Out    SignedIn: a token for one mailbox process, bound to this frontend's process id.
Spec   docs/seams.md 3; PROCESSES 4 to 6.
Fails  Refused; the directory being away is Refused("temporary"). A full hash lane is tried again for up to 55 s.
"""

from __future__ import annotations

import asyncio
import random

from atoll.base.clock import Clock
from atoll.directory.client import wire
from atoll.directory.client.feed import Feed, fits
from atoll.directory.client.model import MAX_LOGIN, MAX_PASSWORD, ClientFacts, Protocol, Refused, SignedIn
from atoll.runtime.rpc import RpcClient, RpcError

BUSY_SECONDS = 55.0
"""How long a sign-in that found the hash lane full is tried again before the client hears of it."""


class SignIn(Feed):
    """Ask the directory to sign a client in, and where mail goes. on_revoked: drop cached tokens of that user."""

    def __init__(self, rpc: RpcClient, clock: Clock | None = None) -> None:
        super().__init__(rpc, clock)

    async def password(self, protocol: Protocol, login: str, password: bytes, facts: ClientFacts,
                       authzid: str = "") -> SignedIn:
        """Sign in by password (SASL PLAIN, LOGIN, USER/PASS). authzid: the address of another mailbox to open.

        Refused when not granted: its text is the same whether or not the user exists.
        """
        if not 0 < len(password) <= MAX_PASSWORD or not fits(login, MAX_LOGIN) or not fits(authzid, MAX_LOGIN):
            raise Refused("credentials", "Wrong user name or password")
        params = wire.Password(protocol, login, password, facts, authzid)
        deadline = self.clock.monotonic() + BUSY_SECONDS
        while True:
            try:
                verdict = await self.rpc.call("password", params, wire.Verdict, within=60.0, repeat=True)
            except RpcError:
                raise Refused("temporary", "Sign-in is not possible at the moment", 5.0) from None
            if verdict.signed is not None:
                return verdict.signed
            delay = verdict.delay * random.uniform(0.7, 1.3)  # noqa: S311 -- spreads retries, guards nothing
            if verdict.reason != "temporary" or self.clock.monotonic() + delay > deadline or delay <= 0:
                raise Refused(verdict.reason or "temporary", verdict.text, verdict.delay)
            await asyncio.sleep(delay)
