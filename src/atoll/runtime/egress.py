"""runtime.egress -- the one door outwards: every connection that a server of ours starts goes through here.

In     names and ports that others chose (a recipient's domain, a link in a message), the networks that are allowed.
Out    names looked up once; a connection to the very address that was checked.
Spec   SECURITY rule 7 (no request to ourselves or to the inner network in a stranger's name); [RFC 5321 §5.1] for MX,
       [RFC 7505] null MX, [RFC 6890] for what is not public.
Fails  Away: not now (a name server that does not answer, nobody listening); Never: no such name, or not permitted.
Not    what is said on the connection.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver
    from dns.nameserver import Nameserver
    from dns.resolver import Answer

CONNECT_SECONDS = 30.0
LOOKUP_SECONDS = 20.0
MAX_CACHED = 1000
"""Answers of name servers that are kept, each as long as it says."""
MAX_EXCHANGES = 10
"""Hosts of one domain that are tried; more is a waste of everybody's time."""
MAX_ADDRESSES = 4
"""Of one host."""
MAX_LINE = 64 << 10
"""Octets that a connection keeps before its reader takes them."""
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Away(Exception):
    """Not now; the same later may succeed. str() is for a person."""


class Never(Exception):
    """There is no such place, or we do not go there. status: enhanced code [RFC 3463]; str() is for a person."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Host:
    """A name and where it is: addresses that were checked."""

    name: str
    addresses: tuple[str, ...]


class Egress:
    """What goes out of one process. servers: "address" or "address:port" of name servers; none: the machine's own.

    allowed: networks that may be connected to although they are not public.
    """

    def __init__(self, *, servers: Sequence[str] = (), allowed: Iterable[str] = ()) -> None:
        from dns.resolver import LRUCache  # 0.3 s: only roles that go out pay for it

        self._allowed: list[Network] = [ipaddress.ip_network(one, strict=False) for one in allowed]
        self._resolver = resolver_of(servers)
        self._resolver.lifetime = LOOKUP_SECONDS
        self._resolver.cache = LRUCache(MAX_CACHED)

    def permits(self, address: str) -> bool:
        """May this address be connected to?"""
        one: Address = ipaddress.ip_address(address)
        if isinstance(one, ipaddress.IPv6Address):
            one = _inside(one) or one
        return (one.is_global and not one.is_multicast) or any(one in network for network in self._allowed)

    async def _look_up(self, name: str, kind: str) -> Answer | None:
        """An answer; None when there is no such record. Never("5.1.2"): no such name."""
        import dns.exception
        import dns.resolver

        try:
            return await self._resolver.resolve(name, kind, raise_on_no_answer=True, search=False)
        except dns.resolver.NoAnswer:
            return None
        except dns.resolver.NXDOMAIN:
            raise Never("5.1.2", f"There is no domain {name}") from None
        except (dns.exception.DNSException, OSError, ValueError) as error:
            # ValueError: a label that is no name
            if isinstance(error, (dns.exception.SyntaxError, ValueError)):
                raise Never("5.1.2", f"{name} is no domain name") from None
            raise Away(f"The name servers of {name} do not answer") from None

    async def exchanges(self, domain: str) -> list[str]:
        """The hosts that take mail for a domain, best first; of equal ones a random order [RFC 5321 §5.1]."""
        answer = await self._look_up(domain, "MX")
        if answer is None:
            return [domain]
        rows = [(record.preference, random.random(), str(record.exchange).rstrip(".").lower())  # noqa: S311
                for record in answer]
        if len(rows) == 1 and not rows[0][2]:
            raise Never("5.1.10", f"{domain} takes no mail")
        return [host for _, _, host in sorted(rows) if host][:MAX_EXCHANGES]

    async def host(self, name: str) -> Host:
        """A host's addresses that may be connected to, IPv6 first. Away, Never."""
        try:
            ipaddress.ip_address(name)
            found = [name]
        except ValueError:
            found = await self._addresses(name)
        permitted = tuple(one for one in found if self.permits(one))[:MAX_ADDRESSES]
        if not permitted:
            raise Never("5.4.4", f"{name} has no address that mail can be sent to")
        return Host(name, permitted)

    async def _addresses(self, name: str) -> list[str]:
        found: list[str] = []
        missed: Away | None = None
        for kind in ("AAAA", "A"):
            try:
                answer = await self._look_up(name, kind)
            except Away as error:
                missed = error
                continue
            found += [record.address for record in answer or ()]
        if not found and missed is not None:
            raise missed
        return found

    async def connect(self, host: Host, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The first of a host's addresses that answers within CONNECT_SECONDS. Away."""
        why = "nobody answers"
        for address in host.addresses:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(address, port, limit=MAX_LINE)
            except TimeoutError:
                why = f"no answer within {CONNECT_SECONDS:.0f} s"
            except OSError as error:
                why = (error.strerror or "no connection").lower()
        raise Away(f"{host.name} cannot be reached: {why}")


def _inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Where it leads to by way of a gateway: mapped, NAT64 [RFC 6052 §2.1], 6to4, Teredo."""
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]


def resolver_of(servers: Sequence[str]) -> Resolver:
    """Asks these name servers, or those of the machine."""
    import dns.asyncresolver

    resolver = dns.asyncresolver.Resolver(configure=not servers)
    if servers:
        resolver.nameservers = [_server(one) for one in servers]
    return resolver


def _server(text: str) -> Nameserver:
    from dns.nameserver import Do53Nameserver

    address, _, port = text.rpartition(":") if text.count(":") == 1 or text.startswith("[") else (text, "", "53")
    return Do53Nameserver(address.strip("[]"), int(port))
