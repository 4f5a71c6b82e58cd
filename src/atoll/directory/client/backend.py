"""A mailbox process's and transport's end of backend.sock.

In     ids and addresses.
Out    our own token key, mailboxes, recipients, owner epochs; revocations and changes as they happen.
Spec   docs/seams.md 3; PROCESSES 4 to 6; ISLANDS 11.2 (owner epoch).
Fails  RpcError: temporary (directory away), not_found, denied.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from atoll.base.clock import Clock
from atoll.directory.client import wire
from atoll.directory.client.cache import Missing, ShortCache
from atoll.directory.client.feed import Feed
from atoll.directory.client.model import (
    AuditEvent,
    Changed,
    DatabaseInfo,
    Fate,
    MailboxInfo,
    Quota,
    QuotaStep,
    Refused,
    Sending,
    SignedIn,
    SigningKey,
)
from atoll.directory.client.tokens import TokenVerifier
from atoll.runtime.rpc import Empty, RpcClient, RpcError

SHARED_WITHIN = 1.0
"""Seconds: a list of folders does not wait longer for those of other people."""
UNTIL_CHANGED = 3600.0
"""Mailboxes are cached until a change says otherwise; an hour bounds a change that was lost."""


class Backend(Feed):
    """Ask the directory as a process that holds databases or the queue."""

    def __init__(self, rpc: RpcClient, clock: Clock | None = None, born: Callable[[int], int] = lambda pid: 0) -> None:
        super().__init__(rpc, clock)
        self._born = born
        self._mailboxes: ShortCache[bytes, MailboxInfo] = ShortCache(self.clock, yes=UNTIL_CHANGED)
        self._addresses: ShortCache[str, MailboxInfo] = ShortCache(self.clock, yes=UNTIL_CHANGED)
        self._signing: ShortCache[str, list[SigningKey]] = ShortCache(self.clock, yes=UNTIL_CHANGED, no=UNTIL_CHANGED)
        self._stopped: set[bytes] = set()
        self._instance = ""
        self._verifiers: list[TokenVerifier] = []

    async def connected(self) -> None:
        """A directory that started anew has forgotten us: fetch its key for us before it can give out tokens."""
        if self._instance:
            key = await self._key(self._instance)
            for verifier in self._verifiers:
                verifier.replace_key(key)
        await super().connected()

    def subscribed(self, answer: wire.Subscribed) -> None:
        self._stopped = set(answer.stopped)

    def told(self, op: str, raw: bytes) -> None:
        if op == "sending":
            said = msgspec.msgpack.decode(raw, type=Sending)
            (self._stopped.discard if said.allowed else self._stopped.add)(said.user)

    def may_send(self, user: bytes) -> bool:
        """Has this person's mailbox room enough to send? Known here: nobody is asked."""
        return user not in self._stopped

    def forget(self) -> None:
        super().forget()
        self._mailboxes.clear()
        self._addresses.clear()
        self._signing.clear()

    def apply(self, change: Changed) -> None:
        super().apply(change)
        if change.kind == "mailbox":
            self._mailboxes.drop(lambda info: info is None or info.mailbox == change.id)
            self._addresses.drop(lambda info: info is None or info.mailbox == change.id)
        else:
            self._mailboxes.clear()
            self._addresses.clear()
            self._signing.clear()

    async def _key(self, instance: str) -> bytes:
        return (await self.rpc.call("audience", wire.Audience(instance), wire.AudienceKey, repeat=True)).key

    async def audience(self, instance: str) -> bytes:
        """Our own token key, 32 bytes; fresh for each start of ours and of the directory.

        instance: our role's name and start id, "mailbox-1.4f9c".
        """
        key = await self._key(instance)
        self._instance = instance
        return key

    async def verifier(self, instance: str, protocol: str) -> TokenVerifier:
        """A verifier for tokens of one protocol that follows key changes and revocations by itself."""
        verifier = TokenVerifier(await self.audience(instance), instance, protocol, self.clock, self._born)
        self._verifiers.append(verifier)
        self.on_revoked(verifier.revoke)
        return verifier

    async def mailbox(self, mailbox: bytes) -> MailboxInfo:
        """One mailbox by its id; RpcError("not_found")."""
        known = self._mailboxes.get(mailbox)
        if isinstance(known, Missing):
            generation = self._generation
            known = (await self.rpc.call("mailbox", wire.MailboxId(mailbox), wire.Mailbox, repeat=True)).info
            if generation == self._generation:
                self._mailboxes.put(mailbox, known)
        if known is None:
            raise RpcError("not_found", "no such mailbox")
        return known

    async def mailbox_of(self, address: str) -> MailboxInfo | None:
        """The mailbox that an address (primary or alias, no +detail, no catch-all) belongs to."""
        known = self._addresses.get(address)
        if not isinstance(known, Missing):
            return known
        generation = self._generation
        info = (await self.rpc.call("mailbox_of", wire.Address(address), wire.Mailbox, repeat=True)).info
        if generation == self._generation:
            self._addresses.put(address, info)
        return info

    async def may_send_as(self, user: bytes, address: str) -> bool:
        """May this user write in the name of this address (envelope sender, From)?"""
        return (await self.rpc.call("may_send_as", wire.SendAs(user, address), wire.YesNo, repeat=True)).yes

    async def signing_keys(self, domain: str) -> list[SigningKey]:
        """The DKIM keys of a domain of ours, newest first; transport only."""
        known = self._signing.get(domain)
        if isinstance(known, Missing):
            generation = self._generation
            known = (await self.rpc.call("signing_keys", wire.Domain(domain), wire.SigningKeys, repeat=True)).keys
            if generation == self._generation:
                self._signing.put(domain, known or None)
        return known or []

    async def next_epoch(self, database: str, at_least: int = 0) -> int:
        """The next epoch of a database: higher than any given out before and not below `at_least`; durable.

        A database that the directory does not know becomes one of the asking process.
        """
        return (await self.rpc.call("owner_epoch", wire.OwnerEpoch(database, at_least), wire.Epoch, repeat=True)).epoch

    async def databases(self, backend: str) -> list[DatabaseInfo]:
        """The databases of a process ("mailbox-1")."""
        return (await self.rpc.call("databases", wire.Databases(backend), wire.DatabaseList, repeat=True)).databases

    async def quotas(self, database: str) -> list[tuple[bytes, Quota]]:
        """The mailboxes of a database that have limits."""
        return (await self.rpc.call("quotas", wire.QuotasOf(database), wire.Quotas, repeat=True)).quotas

    async def quota_steps(self, database: str, steps: list[QuotaStep], *, whole: bool = False) -> None:
        """Tell what mailboxes of ours have reached. whole: those that are not named are within their limits."""
        await self.rpc.call("quota_steps", wire.Steps(database, steps, whole), Empty, repeat=True)

    async def fates(self, database: str) -> list[Fate]:
        """The mailboxes of a database that were removed."""
        return (await self.rpc.call("fates", wire.FatesOf(database), wire.Fates, repeat=True)).fates

    async def purge(self, database: str, mailbox: bytes) -> None:
        """A removed mailbox of ours has been kept long enough. RpcError("not_found"): it was restored meanwhile."""
        await self.rpc.call("purge", wire.Purge(database, mailbox), Empty)

    async def exchange(self, sid: str, user: bytes, mailbox: bytes) -> SignedIn:
        """A token for a mailbox of another process, for a live session that we hold; Refused."""
        try:
            verdict = await self.rpc.call("exchange", wire.Exchange(sid, user, mailbox), wire.Verdict,
                                          repeat=True)
        except RpcError:
            raise Refused("temporary", "The directory is not available", 5.0) from None
        if verdict.signed is None:
            raise Refused(verdict.reason or "temporary", verdict.text, verdict.delay)
        return verdict.signed

    async def shares(self, database: str, shares: list[tuple[bytes, list[bytes]]], *, whole: bool = False) -> None:
        """Tell who may look into mailboxes of ours. whole: all others of the database are shared with nobody."""
        await self.rpc.call("shares", wire.Shares(database, shares, whole), Empty, repeat=True)

    async def shared_with(self, sid: str) -> list[MailboxInfo]:
        """Mailboxes of the island that are shared with the person of a live session that we hold; within a second."""
        found = await self.rpc.call("shared_with", wire.SharedWith(sid), wire.MailboxIds, SHARED_WITHIN, repeat=True)
        infos = []
        for mailbox in found.mailboxes:
            try:
                infos.append(await self.mailbox(mailbox))
            except RpcError as error:
                if error.code != "not_found":
                    raise
        return infos

    async def ended(self, sids: list[str]) -> None:
        """These sessions of ours are over: nothing is exchanged for them any more."""
        await self.rpc.call("ended", wire.Ended(sids), Empty)

    async def audit(self, event: AuditEvent) -> None:
        """Write an event to the audit log; durable when this returns."""
        await self.rpc.call("audit", event, Empty)


