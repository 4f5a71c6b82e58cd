"""edge.spf -- Sender Policy Framework: may this address send mail for that domain?

In     the client's address, MAIL FROM, HELO; Names.
Out    Result: pass, fail, softfail, neutral, none, temperror, permerror, and why.
Spec   [RFC 7208]. At most LOOKUPS terms that ask the DNS, VOID questions without an answer, TARGETS hosts of one MX or
       PTR. No explanation (exp=) is fetched: nobody is refused by SPF alone.
Fails  never: no answer of the DNS is temperror.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from atoll.edge import names as domains
from atoll.edge import spf_record
from atoll.edge.names import Names
from atoll.edge.spf_record import Mechanism
from atoll.runtime.egress import Away

LOOKUPS = 10
VOID = 2
TARGETS = 10
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_RESULTS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}


@dataclass(frozen=True, slots=True)
class Result:
    """domain: the one that was asked, by `identity` (mailfrom or helo)."""

    result: str
    reason: str = ""
    domain: str = ""
    identity: str = "mailfrom"


class _Over(Exception):
    """The evaluation ends with this result."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result


async def check(names: Names, ip: str, sender: str, helo: str) -> Result:
    """MAIL FROM's domain, or HELO's where the sender is null [RFC 7208 §2.4]."""
    identity = "mailfrom" if sender else "helo"
    local, _, name = sender.rpartition("@") if sender else ("postmaster", "", helo)
    asked = domains.domain(name)
    if asked is None or "." not in asked:
        return Result("none", "no domain to ask", "", identity)
    try:
        address = _address(ip)
    except ValueError:
        return Result("none", "no address of the client", asked, identity)
    one = _Check(names, address, f"{local or 'postmaster'}@{name}", local or "postmaster", name, helo)
    try:
        result, reason = await one.host(asked)
    except _Over as over:
        result, reason = over.result, str(over)
    except Away as away:
        result, reason = "temperror", str(away)
    return Result(result, reason, asked, identity)


def _address(ip: str) -> Address:
    one = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(one, ipaddress.IPv6Address) and one.ipv4_mapped is not None:
        return one.ipv4_mapped
    return one


@dataclass(slots=True)
class _Check:
    """One evaluation: what it has asked so far."""

    names: Names
    ip: Address
    sender: str
    local: str
    origin: str
    helo: str
    lookups: int = 0
    void: int = 0
    validated: list[str] | None = field(default=None)
    """Names of the client that lead back to it."""

    @property
    def kind(self) -> str:
        return "A" if self.ip.version == 4 else "AAAA"

    async def host(self, name: str) -> tuple[str, str]:
        """check_host() [RFC 7208 §4]: (result, reason)."""
        records = [text for text in await self.names.text(name) if spf_record.is_spf(text)]
        if not records:
            return "none", f"{name} has no SPF record"
        if len(records) > 1:
            raise _Over("permerror", f"{name} has {len(records)} SPF records")
        try:
            record = spf_record.record(records[0])
        except ValueError as error:
            raise _Over("permerror", f"the SPF record of {name} is malformed: {error}") from None
        for one in record.mechanisms:
            if await self._matches(one, name):
                return _RESULTS[one.qualifier], f"{name} says {'' if one.qualifier == '+' else one.qualifier}{one.name}"
        if record.redirect is None:
            return "neutral", f"{name} says nothing of it"
        self._count()
        target = domains.domain(await self._target(record.redirect, name))
        result, reason = await self.host(target) if target else ("none", "")
        if result == "none":
            raise _Over("permerror", f"{name} redirects to a domain without an SPF record")
        return result, reason

    def _count(self) -> None:
        self.lookups += 1
        if self.lookups > LOOKUPS:
            raise _Over("permerror", f"more than {LOOKUPS} questions to the DNS")

    def _answered(self, found: Sequence[str]) -> Sequence[str]:
        """[RFC 7208 §4.6.4]: few questions may be in vain."""
        if not found:
            self.void += 1
            if self.void > VOID:
                raise _Over("permerror", f"more than {VOID} questions to the DNS in vain")
        return found

    async def _target(self, text: str, name: str) -> str:
        if not text:
            return name
        values = {"s": self.sender, "l": self.local, "o": self.origin, "d": name, "h": self.helo,
                  "v": "in-addr" if self.ip.version == 4 else "ip6", "i": self._dotted()}
        if spf_record.uses(text, "p"):
            values["p"] = await self._p(name)
        try:
            return spf_record.expand(text, values)
        except ValueError as error:
            raise _Over("permerror", str(error)) from None

    def _dotted(self) -> str:
        if self.ip.version == 4:
            return str(self.ip)
        return ".".join(f"{int(self.ip):032x}")

    async def _matches(self, one: Mechanism, name: str) -> bool:
        if one.name == "all":
            return True
        if one.network is not None:
            return one.network.version == self.ip.version and self.ip in one.network
        self._count()
        target = await self._target(one.target, name)
        if one.name == "include":
            return await self._include(target)
        if one.name == "a":
            return await self._a(target, one)
        if one.name == "mx":
            return await self._mx(target, one)
        if one.name == "ptr":
            # A name that cannot be had is no match: for this alone, not an error [RFC 7208 §5.5].
            return any(domains.within(found, target.lower().removesuffix(".")) for found in await self._own_names())
        return bool(self._answered(await self.names.addresses(target, "A")))  # exists [RFC 7208 §5.7]

    async def _include(self, target: str) -> bool:
        asked = domains.domain(target)
        result = (await self.host(asked))[0] if asked else "none"
        if result == "none":
            raise _Over("permerror", f"a domain without an SPF record is included: {target[:100]}")
        return result == "pass"

    def _among(self, addresses: Sequence[str], one: Mechanism) -> bool:
        length = one.prefix4 if self.ip.version == 4 else one.prefix6
        return any(self.ip in ipaddress.ip_network((address, length), strict=False) for address in addresses)

    async def _a(self, target: str, one: Mechanism) -> bool:
        return self._among(self._answered(await self.names.addresses(target, self.kind)), one)

    async def _mx(self, target: str, one: Mechanism) -> bool:
        hosts = self._answered(await self.names.hosts(target, "MX"))
        if len(hosts) > TARGETS:
            raise _Over("permerror", f"{target[:100]} has more than {TARGETS} MX hosts")
        found = await asyncio.gather(*[self.names.addresses(host, self.kind) for host in hosts if host])
        return any(self._among(addresses, one) for addresses in found)

    async def _own_names(self) -> list[str]:
        """The client's names that have its address [RFC 7208 §5.5]; what cannot be asked is left out."""
        if self.validated is None:
            self.validated = []
            try:
                hosts = self._answered(await self.names.hosts(self.ip.reverse_pointer, "PTR"))[:TARGETS]
            except Away:
                return []
            found = await asyncio.gather(*[self.names.addresses(host, self.kind) for host in hosts],
                                         return_exceptions=True)
            for host, addresses in zip(hosts, found, strict=True):
                if not isinstance(addresses, BaseException) and \
                        self.ip in [ipaddress.ip_address(address) for address in addresses]:
                    self.validated.append(host.lower())
        return self.validated

    async def _p(self, name: str) -> str:
        """The macro p: the client's name, one of the domain if there is one."""
        found = await self._own_names()
        name = name.lower()
        best = [one for one in found if one == name] or [one for one in found if domains.within(one, name)] or found
        return best[0] if best else "unknown"
