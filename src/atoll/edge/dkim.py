"""edge.dkim -- DomainKeys Identified Mail: are a message's signatures right, and whose are they?

In     a Message, its BodyDigest, Names, the time.
Out    a Checked for each DKIM-Signature, from the top; at most MAX_SIGNATURES are looked at.
Spec   [RFC 6376 §6], [RFC 8301] (rsa-sha1 and short keys count for nothing), [RFC 8463], [RFC 8616].
       l= is not trusted: a body with more than is signed is "policy", which counts for nothing.
Fails  never: what is wrong is a result with its reason. No answer of the DNS: temperror.
Not    signing (sealing.py); what the results are worth (dmarc.py).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from atoll.edge import canon
from atoll.edge.message import Field, Message
from atoll.edge.names import Names, domain, within
from atoll.formats.dkim import keys, tags
from atoll.runtime.egress import Away

MAX_SIGNATURES = 10
MAX_SIGNED_FIELDS = 500
SKEW = 3600
"""Seconds that a signer's clock may be ahead of ours."""


@dataclass(frozen=True, slots=True)
class Checked:
    """result: pass, fail, policy, neutral, temperror or permerror [RFC 8601 §2.7.1]; reason: in words.

    mark: the beginning of b=, which tells signatures of one domain apart [RFC 6008 §4].
    """

    result: str
    reason: str = ""
    domain: str = ""
    selector: str = ""
    identity: str = ""
    algorithm: str = ""
    mark: str = ""
    bits: int = 0


class Fault(Exception):
    """A signature that will not do: result and reason."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result


@dataclass(frozen=True, slots=True)
class Signature:
    """What a signature's field says, once it has been found to be in order."""

    field: Field
    domain: str
    selector: str
    algorithm: str
    signature: bytes
    body_hash: bytes
    names: list[str]
    identity: str
    relaxed_header: bool
    relaxed_body: bool
    length: int
    signed: int
    expires: int

    @property
    def key_name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"


async def verify(message: Message, digest: canon.BodyDigest, names: Names, now: int) -> list[Checked]:
    """Every signature of a message, at the same time. now: seconds since 1970."""
    found = message.named(b"dkim-signature")[:MAX_SIGNATURES]
    if len(found) == 1:
        return [await _checked(found[0], message, digest, names, now)]
    return list(await asyncio.gather(*[_checked(one, message, digest, names, now) for one in found]))


async def _checked(one: Field, message: Message, digest: canon.BodyDigest, names: Names, now: int) -> Checked:
    found: dict[str, str] = {}
    bits = 0
    try:
        found = read(one)
        signature = parsed(one, found, needs_from=True)
        _in_time(signature, now)
        bits = await matches(signature, message, digest, names)
        result, reason = "pass", ""
    except Fault as fault:
        result, reason = fault.result, str(fault)
    except Away as away:
        result, reason = "temperror", str(away)
    name = domain(found.get("d", "")) or ""
    return Checked(result, reason, name, domain(found.get("s", "")) or "", found.get("i", "") or f"@{name}",
                   found.get("a", "").lower(), "".join(found.get("b", "").split())[:8], bits)


def read(one: Field) -> dict[str, str]:
    """The tags of a signature. Fault."""
    try:
        return tags.tag_list(one.value)
    except ValueError as error:
        raise Fault("permerror", str(error)) from None


def parsed(one: Field, found: dict[str, str], *, needs_from: bool, version: bool = True) -> Signature:
    """The signature, in order as far as it can be told without its key. version: it has v=1 (ARC's have none)."""
    if version and found.get("v") != "1":
        raise Fault("permerror", "the signature has another version")
    if missing := [name for name in ("a", "b", "bh", "d", "h", "s") if name not in found]:
        raise Fault("permerror", f"the signature lacks {missing[0]}=")
    name, selector = domain(found["d"]), domain(found["s"])
    if name is None or selector is None or "." not in name:
        raise Fault("permerror", "the signature names no domain")
    algorithm = _algorithm(found["a"])
    if "q" in found and "dns/txt" not in tags.words(found["q"]):
        raise Fault("permerror", "the key is not in the DNS")
    header, body = _forms(found.get("c", "simple/simple"))
    try:
        signature, body_hash = tags.octets(found["b"]), tags.octets(found["bh"])
        length = tags.number(found["l"], 76) if "l" in found else -1
        signed = tags.number(found["t"]) if "t" in found else 0
        expires = tags.number(found["x"]) if "x" in found else 0
    except ValueError as error:
        raise Fault("permerror", f"the signature is malformed: {error}") from None
    signed_names = tags.words(found["h"])
    if needs_from and "from" not in signed_names:
        raise Fault("permerror", "From is not signed")
    if len(signed_names) > MAX_SIGNED_FIELDS or "" in signed_names:
        raise Fault("permerror", "the list of signed fields is malformed")
    return Signature(one, name, selector, algorithm, signature, body_hash, signed_names,
                     _identity(found.get("i", ""), name), header, body, length, signed, expires)


def _algorithm(text: str) -> str:
    algorithm = text.lower()
    if algorithm == "rsa-sha1":
        raise Fault("permerror", "SHA-1 proves nothing")
    if algorithm not in keys.ALGORITHMS:
        raise Fault("permerror", "the algorithm is unknown")
    return algorithm


def _forms(text: str) -> tuple[bool, bool]:
    """(relaxed header?, relaxed body?)"""
    header, _, body = text.lower().partition("/")
    if not {header, body or "simple"} <= {"simple", "relaxed"}:
        raise Fault("permerror", "the canonical form is unknown")
    return header == "relaxed", body == "relaxed"


def _identity(text: str, name: str) -> str:
    """The domain of i=."""
    if not text:
        return name
    found = domain(text.rpartition("@")[2])
    if "@" not in text or found is None or not within(found, name):
        raise Fault("permerror", "i= is not in the signer's domain")
    return found


def _in_time(signature: Signature, now: int) -> None:
    if signature.signed > now + SKEW:
        raise Fault("permerror", "signed in the future")
    if signature.expires and signature.expires < signature.signed:
        raise Fault("permerror", "it expired before it was signed")
    if signature.expires and signature.expires < now:
        raise Fault("fail", "the signature has expired")


async def matches(signature: Signature, message: Message, digest: canon.BodyDigest, names: Names) -> int:
    """Does it hold? Bits of its key; Fault, Away."""
    key = await find_key(signature, names)
    if key.strict and signature.identity != signature.domain:
        raise Fault("permerror", "the key is not for subdomains")
    found, left = await digest.get(relaxed=signature.relaxed_body, length=signature.length)
    if left < 0:
        raise Fault("permerror", "more is said to be signed than the body has")
    if found != signature.body_hash:
        raise Fault("fail", "the body was changed")
    data = b"".join(canon.chosen(message, signature.names, relaxed=signature.relaxed_header))
    if not key.verify(signature.signature,
                      data + canon.without_signature(signature.field, relaxed=signature.relaxed_header)):
        raise Fault("fail", "the signature does not match")
    if left:
        raise Fault("policy", f"the last {left} octets of the body are not signed")
    return key.bits


async def find_key(signature: Signature, names: Names) -> keys.PublicKey:
    """Its key, as the DNS has it. Fault, Away."""
    records = await names.text(signature.key_name)
    if not records:
        raise Fault("permerror", "there is no such key")
    try:
        key = keys.public_key(records[0])
    except keys.BadKey as error:
        raise Fault("permerror", str(error)) from None
    if key.kind != keys.ALGORITHMS[signature.algorithm]:
        raise Fault("permerror", "the key is of another kind")
    return key


