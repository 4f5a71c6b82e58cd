"""edge.arc -- the Authenticated Received Chain: who handled a message on its way, and what did they see?

In     a Message, its BodyDigest, Names, the time.
Out    Chain: none, pass or fail (temperror when the DNS does not answer), and what each link says.
Spec   [RFC 8617 §5.2]. The whole chain is checked: every seal, and the newest message signature.
Fails  never.
Not    whom to believe (arrival.py, by its setting).
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from atoll.edge import canon, dkim
from atoll.edge.message import Field, Message
from atoll.edge.names import Names
from atoll.formats.dkim import tags
from atoll.runtime.egress import Away

MAX_SETS = 50
RESULTS, SIGNATURE, SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
_INSTANCE = re.compile(rb"[ \t]*i[ \t]*=[ \t]*([0-9]{1,4})[ \t]*(?:;|$)")


@dataclass(frozen=True, slots=True)
class Link:
    """One set of a chain that passes. sealer: d= of its seal; results: what follows i= in its results."""

    instance: int
    sealer: str
    results: bytes


@dataclass(frozen=True, slots=True)
class Chain:
    """links: oldest first; empty unless the chain passes."""

    result: str
    reason: str = ""
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class _Set:
    results: Field
    signature: Field
    seal: Field

    @property
    def fields(self) -> tuple[Field, Field, Field]:
        return (self.results, self.signature, self.seal)


async def verify(message: Message, digest: canon.BodyDigest, names: Names) -> Chain:
    """The state of the chain as it came."""
    try:
        sets = sets_of(message.fields)
        if not sets:
            return Chain("none")
        seals = [_seal(one.seal, number) for number, one in enumerate(sets, 1)]
        await asyncio.gather(_newest(sets, message, digest, names),
                             *[_sealed(sets, number, seal, names) for number, seal in enumerate(seals, 1)])
    except dkim.Fault as fault:
        return Chain("fail", str(fault))
    except Away as away:
        return Chain("temperror", str(away))
    return Chain("pass", "", tuple(
        Link(number, seal.domain, one.results.value.partition(b";")[2].strip())
        for number, (one, seal) in enumerate(zip(sets, seals, strict=True), 1)))


def _instance(one: Field) -> int:
    """i= of a field. Fault."""
    if one.name == RESULTS:
        found = _INSTANCE.match(one.value)
        text = found[1].decode("ascii") if found else ""
    else:
        text = dkim.read(one).get("i", "")
    try:
        number = tags.number(text, 4)
    except ValueError:
        number = 0
    if not 1 <= number <= MAX_SETS:
        raise dkim.Fault("fail", f"a link of the chain has no number from 1 to {MAX_SETS}")
    return number


def sets_of(fields: list[Field]) -> list[_Set]:
    """[RFC 8617 §5.2] steps 1 and 3: each number from 1 on has one field of each kind. Fault."""
    found: dict[tuple[int, bytes], Field] = {}
    for one in [one for one in fields if one.name in (RESULTS, SIGNATURE, SEAL)]:
        key = (_instance(one), one.name)
        if key in found:
            raise dkim.Fault("fail", f"link {key[0]} of the chain is there twice")
        found[key] = one
    count = max((number for number, _ in found), default=0)
    if len(found) != 3 * count:
        raise dkim.Fault("fail", "a link of the chain is missing")
    return [_Set(found[number, RESULTS], found[number, SIGNATURE], found[number, SEAL])
            for number in range(1, count + 1)]


def _seal(one: Field, number: int) -> dkim.Signature:
    """A seal has no body, no list of fields, and says what its maker found. Fault."""
    found = dkim.read(one)
    if {"h", "bh", "c", "l"} & found.keys():
        raise dkim.Fault("fail", f"seal {number} has tags that a seal has not")
    if found.get("cv", "").lower() != ("none" if number == 1 else "pass"):
        raise dkim.Fault("fail", f"seal {number} does not say that the chain was right")
    return dkim.parsed(one, found | {"h": "arc-seal", "bh": "", "i": ""}, needs_from=False, version=False)


async def _newest(sets: list[_Set], message: Message, digest: canon.BodyDigest, names: Names) -> None:
    one = sets[-1].signature
    found = dkim.read(one)
    signature = dkim.parsed(one, found | {"i": ""}, needs_from=True, version=False)
    if "arc-seal" in signature.names:
        raise dkim.Fault("fail", "a message signature must not sign seals")
    await dkim.matches(signature, message, digest, names)


async def _sealed(sets: list[_Set], number: int, seal: dkim.Signature, names: Names) -> None:
    """Does this seal hold for all that was there when it was made? [RFC 8617 §5.1.1]"""
    key = await dkim.find_key(seal, names)
    *before, last = [one for each in sets[:number] for one in each.fields]
    data = b"".join([canon.field(one, relaxed=True) for one in before])
    if not key.verify(seal.signature, data + canon.without_signature(last, relaxed=True)):
        raise dkim.Fault("fail", f"seal {number} does not match")
