"""Verified credentials, remembered in the directory's memory only (PROCESSES 5).

In     user id, credential epoch, protocol class, credential id, password.
Out    "was this verified lately?", and over a restart the same in the next process (runtime.handover: never a file).
       The key is a keyed digest with every field length-prefixed, so nothing here is a password, one
       user's entry never answers for another, and a raised epoch makes the old keys unreachable.
Not    failures: a wrong password always pays.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict

import msgspec

from atoll.base.clock import Clock

IDLE_SECONDS = 600.0
MOST_SECONDS = 3600.0
ENTRIES = 20_000


class _Left(msgspec.Struct, array_like=True):
    """What one process of the directory leaves to the next; times are those of the machine's monotonic clock."""

    boot_key: bytes
    rows: list[tuple[bytes, float, float]]


class Remembered:
    """Successes only; least recently used goes first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._boot_key = os.urandom(32)
        self._rows: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def key(self, user: bytes, epoch: int, protocol: str, credential: bytes, password: bytes) -> bytes:
        """The name under which this success is remembered; also what joins identical sign-ins in flight."""
        digest = hashlib.blake2b(key=self._boot_key, digest_size=32)
        for field in (user, epoch.to_bytes(8, "big"), protocol.encode(), credential, password):
            digest.update(len(field).to_bytes(4, "big") + field)
        return digest.digest()

    def has(self, key: bytes) -> bool:
        """Was it verified within the last 10 minutes of use, and within the hour?"""
        row = self._rows.pop(key, None)
        now = self._clock.monotonic()
        if row is None or now >= row[0] or now >= row[1]:
            return False
        self._rows[key] = (now + IDLE_SECONDS, row[1])
        return True

    def add(self, key: bytes) -> None:
        now = self._clock.monotonic()
        self._rows.pop(key, None)
        if len(self._rows) >= ENTRIES:
            self._rows.popitem(last=False)
        self._rows[key] = (now + IDLE_SECONDS, now + MOST_SECONDS)

    def left(self) -> bytes:
        """Everything, for the next process: as secret as this one's memory."""
        return msgspec.msgpack.encode(_Left(self._boot_key, [(key, *times) for key, times in self._rows.items()]))

    def take(self, left: bytes) -> int:
        """Go on where the process before this one ended; how many it remembered. b"" or another form: nothing."""
        try:
            found = msgspec.msgpack.decode(left, type=_Left)
        except msgspec.DecodeError:
            return 0
        if len(found.boot_key) != len(self._boot_key) or len(found.rows) > ENTRIES:
            return 0
        now = self._clock.monotonic()
        self._boot_key = found.boot_key
        for key, idle, most in found.rows:
            if now < min(idle, most) and idle <= now + IDLE_SECONDS and most <= now + MOST_SECONDS:
                self._rows[key] = (idle, most)
        return len(self._rows)
