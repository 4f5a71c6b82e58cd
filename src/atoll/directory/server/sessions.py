"""Who may be told what: token keys of backend instances, and the sessions they hold (PROCESSES 4, 6).

In     a backend's instance name, kernel-told pids, granted sign-ins.
Out    tokens: one key per instance, fresh for each of its starts and of ours, in memory only.
Fails  NoAudience: that process is not there now (it starts, or its connection is away): temporary.
"""

from __future__ import annotations

import base64
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from atoll.base.clock import Clock
from atoll.base.ids import new_id, to_text
from atoll.directory.client.model import ClientFacts, SignedIn
from atoll.directory.client.tokens import LIFE_MS, Claims, sign

LIVE = 200_000
"""Sessions known for exchange and for `atoll session list`; the oldest is forgotten first."""


class NoAudience(Exception):
    """The backend process has not asked for its key."""


@dataclass(frozen=True, slots=True)
class Live:
    """A session that a backend was given."""

    sid: str
    user: bytes
    mailbox: bytes
    instance: str
    protocol: str
    address: str
    epoch: int
    facts: ClientFacts
    since: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What the checks of a sign-in allow: the token says it in other words."""

    user: bytes
    mailbox: bytes
    epoch: int
    protocol: str
    address: str
    method: str
    facts: ClientFacts
    scope: str = "full"


class Sessions:
    """Keys and live sessions."""

    def __init__(self, clock: Clock, born: Callable[[int], int] = lambda pid: 0) -> None:
        self._clock = clock
        self._born = born
        self._keys: dict[str, tuple[str, bytes]] = {}
        self._live: OrderedDict[str, Live] = OrderedDict()

    def key_for(self, instance: str) -> bytes:
        """The key of this instance; a new instance of the same role makes the old one's tokens worthless."""
        name = instance.partition(".")[0]
        known = self._keys.get(name)
        if known is None or known[0] != instance:
            self._drop_others(name, instance)
            known = (instance, os.urandom(32))
            self._keys[name] = known
        return known[1]

    def _drop_others(self, name: str, instance: str) -> None:
        for sid in [sid for sid, live in self._live.items()
                    if live.instance != instance and live.instance.partition(".")[0] == name]:
            del self._live[sid]

    def instance_of(self, backend: str) -> str:
        """The running instance of a backend; NoAudience."""
        known = self._keys.get(backend)
        if known is None:
            raise NoAudience(backend)
        return known[0]

    def issue(self, backend: str, grant: Grant, asker_pid: int) -> SignedIn:
        """A token for `backend`, bound to the process that asked for it; NoAudience."""
        known = self._keys.get(backend)
        if known is None:
            raise NoAudience(backend)
        now = self._clock.now_ms()
        sid = to_text(new_id())
        claims = Claims(sub=grant.user, mbx=grant.mailbox, aud=known[0], pro=grant.protocol, ep=grant.epoch, sid=sid,
                        jti=base64.b64encode(os.urandom(12)).decode(), fe=asker_pid,
                        fb=self._born(asker_pid), iat=now, exp=now + LIFE_MS,
                        mth=grant.method, adr=grant.address, scp=grant.scope, ip=grant.facts.ip[:64],
                        port=grant.facts.port, tls=grant.facts.tls[:32])
        if len(self._live) >= LIVE:
            self._live.popitem(last=False)
        self._live[sid] = Live(sid, grant.user, grant.mailbox, known[0], grant.protocol, grant.address, grant.epoch,
                               grant.facts, now)
        return SignedIn(sign(known[1], claims), backend, grant.user, grant.mailbox, sid, grant.address)

    def left(self) -> bytes:
        """The live sessions, for the directory's next process (runtime.handover); no keys: those are asked for anew."""
        return msgspec.msgpack.encode(list(self._live.values()))

    def take(self, left: bytes) -> int:
        """Know what the process before this one knew; how many. b"" or another form: nothing."""
        try:
            found = msgspec.msgpack.decode(left, type=list[Live])
        except msgspec.DecodeError:
            return 0
        self._live.update((live.sid, live) for live in found[-LIVE:])
        return len(self._live)

    def held_by(self, instance: str, sid: str) -> Live | None:
        """The session, if this instance was given it and has not ended it."""
        live = self._live.get(sid)
        return live if live is not None and live.instance == instance else None

    def given_to(self, backend: str) -> list[Live]:
        """The sessions that a backend was given and has not ended."""
        return [live for live in self._live.values() if live.instance.partition(".")[0] == backend]

    def ended(self, instance: str, sids: list[str]) -> None:
        """A backend says that these sessions are over."""
        for sid in sids:
            if self.held_by(instance, sid) is not None:
                del self._live[sid]

    def revoked(self, user: bytes, epoch: int) -> None:
        """Sessions below this epoch are being ended."""
        for sid in [sid for sid, live in self._live.items() if live.user == user and live.epoch < epoch]:
            del self._live[sid]
