"""Following the directory: recipients and revocations as both kinds of client see them (PROCESSES 5, 6).

In     an RpcClient of signin.sock or backend.sock.
Out    cached recipients; callbacks for revocations and changes. A client that was away is told what it missed:
       on each connection it says the last change number it knows, and its caches start empty.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from atoll.base.clock import Clock, SystemClock
from atoll.directory.client import wire
from atoll.directory.client.cache import MISSING, Missing, ShortCache
from atoll.directory.client.model import MAX_ADDRESS, Addressee, Changed, RecipientInfo, Revocation
from atoll.runtime.rpc import RpcClient

AWAY_SECONDS = 300.0
"""Sessions go on for so long without the stream of revocations."""

_log = logging.getLogger("atoll.directory.client")


def fits(text: str, octets: int) -> bool:
    """Can this be told, and is it short enough to be asked about?"""
    try:
        return len(text.encode()) <= octets
    except UnicodeEncodeError:  # bytes that were no UTF-8, carried as surrogates
        return False


class Feed:
    """One connection to the directory with its caches. Takes over the RpcClient's callbacks."""

    def __init__(self, rpc: RpcClient, clock: Clock | None = None) -> None:
        self.rpc = rpc
        self.clock: Clock = clock or SystemClock()
        self._since = 0
        self._recipients: ShortCache[str, Addressee] = ShortCache(self.clock)
        self._domains: ShortCache[str, bool] = ShortCache(self.clock, size=1000)
        self._asking: dict[str, asyncio.Future[Addressee | None]] = {}
        self._generation = 0
        self._revoked: list[Callable[[Revocation], None]] = []
        self._changed: list[Callable[[Changed], None]] = []
        rpc.on_push = self._pushed
        self._away: list[Callable[[], None]] = []
        self._connected: list[Callable[[], None]] = []
        self._away_timer: asyncio.TimerHandle | None = None
        rpc.on_connect = self.connected
        rpc.on_lost = self._lost

    def start(self) -> None:
        """Connect now, so that revocations arrive before anything is asked."""
        self.rpc.start()

    def on_revoked(self, callback: Callable[[Revocation], None]) -> None:
        """Call for each revocation: end the user's sessions of a lower epoch."""
        self._revoked.append(callback)

    def on_changed(self, callback: Callable[[Changed], None]) -> None:
        """Call for each change of the directory's content."""
        self._changed.append(callback)

    def on_away(self, callback: Callable[[], None]) -> None:
        """Call when the directory has been away for five minutes: nobody would tell us of revocations (PROCESSES 6)."""
        self._away.append(callback)

    def on_connected(self, callback: Callable[[], None]) -> None:
        """Call after each connection: the directory may have started anew and forgotten what we told it."""
        self._connected.append(callback)

    def _lost(self) -> None:
        if self._away_timer is None:
            self._away_timer = asyncio.get_running_loop().call_later(AWAY_SECONDS, self._tell_away)

    def _tell_away(self) -> None:
        self._away_timer = None
        for callback in self._away:
            callback()

    async def connected(self) -> None:
        """Subscribe again after each connection."""
        self.forget()
        answer = await self.rpc.call("subscribe", wire.Subscribe(self._since), wire.Subscribed)
        for revocation in answer.revocations:
            self._tell_revoked(revocation)
        self._since = max(self._since, answer.change)
        self.subscribed(answer)
        if self._away_timer is not None:
            self._away_timer.cancel()
            self._away_timer = None
        for callback in self._connected:
            callback()

    def subscribed(self, answer: wire.Subscribed) -> None:
        """What else the directory tells a client that connects."""

    def forget(self) -> None:
        """Drop what is cached: a change may have been missed."""
        self._generation += 1
        self._recipients.clear()
        self._domains.clear()

    def _pushed(self, op: str, raw: bytes) -> None:
        if op == "revoked":
            revocation = msgspec.msgpack.decode(raw, type=Revocation)
            self._since = max(self._since, revocation.seq)
            self._tell_revoked(revocation)
        elif op == "changed":
            change = msgspec.msgpack.decode(raw, type=Changed)
            self._since = max(self._since, change.change)
            self.apply(change)
            for callback in self._changed:
                callback(change)
        else:
            self.told(op, raw)

    def told(self, op: str, raw: bytes) -> None:
        """A push that not every client gets."""

    def apply(self, change: Changed) -> None:
        """Drop what a change makes stale."""
        self._generation += 1
        if change.kind == "mailbox":
            self._recipients.drop(lambda info: not isinstance(info, RecipientInfo) or info.mailbox == change.id)
        else:
            self._recipients.clear()
            self._domains.clear()

    def _tell_revoked(self, revocation: Revocation) -> None:
        for callback in self._revoked:
            try:
                callback(revocation)
            except Exception:
                _log.exception("a revocation callback failed")

    async def recipient(self, address: str) -> Addressee | None:
        """Where mail for an address goes; None: no such recipient. RpcError("temporary"): the directory is away."""
        if not fits(address, MAX_ADDRESS):
            return None
        known = self._recipients.get(address)
        if not isinstance(known, Missing):
            return known
        asking = self._asking.get(address)
        if asking is None:  # a question of its own: whoever asked first may leave, others may be waiting
            asking = self._asking[address] = asyncio.get_running_loop().create_task(self._ask_recipient(address))
            asking.add_done_callback(partial(self._heard, address))
        return await asyncio.shield(asking)

    async def _ask_recipient(self, address: str) -> Addressee | None:
        generation = self._generation
        answer = await self.rpc.call("recipient", wire.Address(address), wire.Recipient, repeat=True)
        if generation == self._generation:  # a change told meanwhile may be newer than this answer
            self._recipients.put(address, answer.info or answer.group)
        return answer.info or answer.group

    def _heard(self, address: str, asked: asyncio.Future[Addressee | None]) -> None:
        del self._asking[address]
        if not asked.cancelled():
            asked.exception()  # it may be that nobody waits any more

    def cached_recipient(self, address: str) -> Addressee | None:
        """The recipient if it is known now without asking: for the hot path of RCPT."""
        known = self._recipients.get(address)
        return None if isinstance(known, Missing) else known

    async def is_local_domain(self, domain: str) -> bool:
        """Does the organization accept mail for this domain?"""
        known = self._domains.get(domain)
        if known is not MISSING:
            return bool(known)
        generation = self._generation
        answer = await self.rpc.call("is_local_domain", wire.Domain(domain), wire.YesNo, repeat=True)
        if generation == self._generation:
            self._domains.put(domain, answer.yes or None)
        return answer.yes
