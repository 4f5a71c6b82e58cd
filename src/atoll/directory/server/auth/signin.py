"""Sign-in by password: who is it, may they, and a token for the process that holds the mailbox.

In     login, password, protocol, client facts as the frontend states them; the frontend's pid as the kernel states it.
Out    Verdict: a token, or a reason. Unknown users cost the same hash, get the same answer, at the same time: a refusal
       is told no sooner than half a second after the question, however the check ended.
Spec   PROCESSES 5, 6; Trust 2, 7; ATTACKS A001, A003, A004, A006.
Not    a right to a folder: an authzid names a mailbox, the mailbox layer decides what may be opened there.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Coroutine

from atoll.base.audit import AuditLog
from atoll.base.clock import Clock
from atoll.base.ids import to_text
from atoll.directory.client import wire
from atoll.directory.client.model import MAX_LOGIN, MAX_PASSWORD, PROTOCOLS
from atoll.directory.server.auth import hashes
from atoll.directory.server.auth.lane import HashLane, LaneFull
from atoll.directory.server.auth.remembered import Remembered
from atoll.directory.server.auth.slowdown import PAIR_FREE, SlowDown, prefix_of
from atoll.directory.server.recipients import Account, Recipients
from atoll.directory.server.register import Register, secret_digest
from atoll.directory.server.sessions import Grant, NoAudience, Sessions

FLOOR_SECONDS = 0.5
"""Refusals are told at multiples of this after the question: the kind of hash cannot be seen from outside."""
WRONG = wire.Verdict(reason="credentials", text="Wrong user name or password")

_log = logging.getLogger("atoll.directory.signin")


class PasswordSignIn:
    """Checks passwords for every protocol alike."""

    def __init__(self, recipients: Recipients, register: Register, sessions: Sessions, audit: AuditLog, clock: Clock,
                 lane: HashLane, *, floor: float = FLOOR_SECONDS) -> None:
        self._recipients = recipients
        self._register = register
        self._sessions = sessions
        self._audit = audit
        self._clock = clock
        self._lane = lane
        self._floor = floor
        self.remembered = Remembered(clock)
        self._slow = SlowDown(clock)
        self._dummy = hashes.make(os.urandom(16))
        self._in_flight: dict[bytes, asyncio.Future[bool]] = {}
        self._trying: Counter[tuple[bytes, str]] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()

    async def verdict(self, ask: wire.Password, asker_pid: int) -> wire.Verdict:
        """Answer one sign-in."""
        started = self._clock.monotonic()
        verdict = await self._verdict(ask, asker_pid)
        self.counts["granted" if verdict.signed else verdict.reason or ""] += 1
        if verdict.reason in ("credentials", "disabled", "protocol", "authorization") and self._floor:
            passed = self._clock.monotonic() - started
            await asyncio.sleep(self._floor - passed % self._floor)
        return verdict

    async def _verdict(self, ask: wire.Password, asker_pid: int) -> wire.Verdict:
        if ask.protocol not in PROTOCOLS or not 0 < len(ask.password) <= MAX_PASSWORD or len(ask.login) > MAX_LOGIN:
            self._audit.append("auth.failed", login=ask.login[:80], ip=ask.facts.ip, protocol=ask.protocol, why="form")
            return WRONG
        name = self._recipients.login_name(ask.login)
        account = self._recipients.account(name) if name is not None else None
        prefix = prefix_of(ask.facts.ip)
        stranger = str(name or ask.login).encode("utf-8", "replace")
        who = account.user if account else hashlib.blake2b(stranger, digest_size=16).digest()
        wait = self._slow.delay(who, prefix)
        if wait > 0:
            self._note(ask, "auth.slowed", account)
            return wire.Verdict(reason="slow", text="Too many failed sign-ins; try again later", delay=wait)
        try:
            method = await self._method(ask, account, who, prefix, asker_pid)
        except LaneFull as full:
            return wire.Verdict(reason="temporary", text="Too many sign-ins at the moment", delay=full.delay)
        except _TooMany:
            return wire.Verdict(reason="slow", text="Too many sign-ins at once; try again later", delay=1.0)
        if method is None or account is None:
            guess = self.remembered.key(who, 0, "", b"", ask.password)
            failures = self._slow.failed(who, prefix, guess)
            self._note(ask, "auth.failed", account, failures)
            return WRONG
        self._slow.succeeded(who, prefix)
        return self._grant(ask, account, method, asker_pid)

    def _note(self, ask: wire.Password, kind: str, account: Account | None, failures: int = 0) -> None:
        # A flood of failures is told by its first ten and then by every hundredth: the log is no weapon (L002).
        self.counts[kind] += 1
        if failures > PAIR_FREE and failures % 100:
            return
        if kind == "auth.slowed" and self.counts[kind] % 100 != 1:
            return
        self._audit.append(kind, login=ask.login, user=to_text(account.user) if account else "", ip=ask.facts.ip,
                           protocol=ask.protocol, failures=failures or self.counts[kind])

    async def _method(self, ask: wire.Password, account: Account | None, who: bytes, prefix: str,
                      asker_pid: int) -> str | None:
        """How this password signs this account in: "password", "app"; None when it does not."""
        if account is not None:
            secret = secret_digest(ask.password)
            if self._recipients.app_password(account.user, secret, ask.protocol) is not None:
                return "app"
        stored = account.hash if account is not None and account.hash and not account.app_only else None
        epoch = account.epoch if account is not None else 0
        key = self.remembered.key(who, epoch, ask.protocol, b"main", ask.password)
        if stored is not None and self.remembered.has(key):
            return "password"
        right = await self._hash(key, (who, prefix), (asker_pid, prefix), stored or self._dummy, ask.password)
        if not right or stored is None or account is None:
            return None
        if self._recipients.epoch(account.user) != epoch:  # changed while we were hashing
            return None
        self.remembered.add(key)
        if not hashes.is_ours(stored):
            self._later(self._hash_anew(account.user, stored, ask.password, (asker_pid, prefix)))
        return "password"

    async def _hash(self, key: bytes, pair: tuple[bytes, str], group: tuple[int, str], stored: str,
                    password: bytes) -> bool:
        """Verify in the lane; the same question already in flight is waited for instead of asked again."""
        flying = self._in_flight.get(key)
        if flying is not None:
            return await asyncio.shield(flying)
        if self._trying[pair] >= PAIR_FREE:  # different passwords at once: they would all pass before one fails
            raise _TooMany
        flying = self._in_flight[key] = asyncio.ensure_future(
            self._lane.run(*group, lambda: hashes.verify(stored, password)))
        self._trying[pair] += 1
        flying.add_done_callback(lambda done: self._landed(key, pair, done))
        return await asyncio.shield(flying)

    def _landed(self, key: bytes, pair: tuple[bytes, str], done: asyncio.Future[bool]) -> None:
        self._in_flight.pop(key, None)
        self._trying[pair] -= 1
        if self._trying[pair] <= 0:
            del self._trying[pair]
        if not done.cancelled():
            done.exception()  # every asker may have left

    async def _hash_anew(self, user: bytes, stored: str, password: bytes, group: tuple[int, str]) -> None:
        try:
            better = await self._lane.run(*group, lambda: hashes.make(password))
            if await self._register.set_hash(user, better, instead_of=stored):
                self._audit.append("auth.rehashed", user=to_text(user))
        except LaneFull:
            pass  # the next sign-in tries again
        except Exception:
            _log.exception("re-hashing failed", extra={"f": {"user": to_text(user)}})

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _grant(self, ask: wire.Password, account: Account, method: str, asker_pid: int) -> wire.Verdict:
        user = to_text(account.user)
        if account.disabled:
            self._audit.append("auth.denied", user=user, ip=ask.facts.ip, protocol=ask.protocol, why="disabled")
            return wire.Verdict(reason="disabled", text="This account is disabled")
        if ask.protocol not in account.protocols:
            self._audit.append("auth.denied", user=user, ip=ask.facts.ip, protocol=ask.protocol, why="protocol")
            return wire.Verdict(reason="protocol", text="This account may not use this protocol")
        target = account.mailbox
        if ask.authzid:
            other = self._recipients.login_name(ask.authzid)
            named = self._recipients.by_name(other) if other is not None else None
            if named is None or (ask.protocol == "submit" and named.mailbox != target.mailbox):
                self._audit.append("auth.denied", user=user, ip=ask.facts.ip, protocol=ask.protocol, why="authzid")
                return wire.Verdict(reason="authorization", text="This mailbox may not be opened")
            target = named
        backend = "transport" if ask.protocol == "submit" else target.backend
        grant = Grant(account.user, target.mailbox, account.epoch, ask.protocol, account.mailbox.address, method,
                      ask.facts)
        try:
            signed = self._sessions.issue(backend, grant, asker_pid)
        except NoAudience:
            return wire.Verdict(reason="temporary", text="The mailbox is not available at the moment", delay=0.3)
        self._audit.append("auth.ok", user=user, address=grant.address, mailbox=to_text(target.mailbox),
                           ip=ask.facts.ip, port=ask.facts.port, tls=ask.facts.tls, protocol=ask.protocol,
                           method=method, sid=signed.sid, frontend=asker_pid)
        return wire.Verdict(signed=signed)


class _TooMany(Exception):
    """More different passwords of one pair at once than may fail."""
