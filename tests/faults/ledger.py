"""What was tried, what was acknowledged, what is there: the set algebra of a queue that must lose nothing.

Spec   Jepsen's total-queue: lost = acknowledged - read, duplicated, unexpected = read - tried; all must be empty.
       recovered = read - acknowledged is allowed: the answer was lost, not the message.
"""

from __future__ import annotations

import hashlib
import random
import re
import threading
from collections import Counter
from dataclasses import dataclass, field

Copy = tuple[str, str]
"""(name of the attempt, whose mailbox)."""
_NAME = re.compile(rb"(?mi)^X-Attempt: (\S+) (\S+)\r$")


@dataclass
class Ledger:
    """Filled by several threads; an attempt's name is never used twice."""

    tried: set[Copy] = field(default_factory=set)
    acknowledged: set[Copy] = field(default_factory=set)
    there: Counter[Copy] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def attempt(self, name: str, people: tuple[str, ...]) -> None:
        with self.lock:
            self.tried |= {(name, who) for who in people}

    def acknowledge(self, name: str, people: tuple[str, ...]) -> None:
        with self.lock:
            self.acknowledged |= {(name, who) for who in people}

    def read(self, who: str, message: bytes) -> None:
        """One message of a mailbox; others than ours are left alone."""
        found = _NAME.search(message)
        if found is None:
            return
        name, body = found[1].decode(), message.partition(b"\r\n\r\n")[2]
        self.there[name, who] += 1
        if hashlib.sha256(body).hexdigest()[:16].encode() != found[2]:
            self.damaged.append(f"{name} of {who}: {len(body)} octets of body")

    def lost(self) -> set[Copy]:
        return self.acknowledged - set(self.there)

    def wrong(self) -> dict[str, object]:
        """{} when everything is as promised."""
        found = {"lost": sorted(self.lost()), "unexpected": sorted(set(self.there) - self.tried),
                 "duplicated": sorted(copy for copy, times in self.there.items() if times > 1),
                 "damaged": self.damaged}
        return {name: what for name, what in found.items() if what}


def letter(name: str, chance: random.Random) -> bytes:
    """A message that says which attempt it is and what its body ought to be; mostly small, seldom large."""
    size = chance.choice((60, 600, 4000, 4000, 9000, 60_000)) if chance.random() < 0.97 else 400_000
    body = b"".join(chance.randbytes(36).hex().encode() + b"\r\n" for _ in range(size // 74 + 1))
    digest = hashlib.sha256(body).hexdigest()[:16]
    return (f"From: sender@outside.example\r\nTo: people@example.test\r\nSubject: {name}\r\n"
            f"X-Attempt: {name} {digest}\r\nMessage-ID: <{name}@outside.example>\r\n\r\n").encode() + body
