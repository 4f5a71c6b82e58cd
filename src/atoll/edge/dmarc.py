"""edge.dmarc -- is the author that people see the one who was proved, and what does his domain want done if not?

In     the author, what SPF and DKIM found; Names.
Out    Outcome: pass, fail, none, temperror, permerror; the policy that applies.
Spec   [RFC 9989]: policies are found and organizations told apart by walking up the DNS tree (§4.10), no list of
       public suffixes. pct= is no longer a tag (§A); pct=0, which meant "only trying", is read as t=y.
Fails  never. A question that nobody answers is temperror unless a pass is certain.
Not    acting on it (arrival.py), reports.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from atoll.edge import dkim, spf
from atoll.edge.message import Author
from atoll.edge.names import Names
from atoll.runtime.egress import Away

POLICIES = ("none", "quarantine", "reject")
MAX_STEPS = 8
"""Questions of one walk up the tree [RFC 9989 §4.10]."""
MAX_RECORD = 8192


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy record. domain: where it was found."""

    domain: str
    tags: dict[str, str] = field(default_factory=dict)

    def wish(self, name: str) -> str:
        """p, sp or np; "" when it is not there or none of the three."""
        value = self.tags.get(name, "").lower()
        return value if value in POLICIES else ""

    def strict(self, name: str) -> bool:
        """adkim, aspf."""
        return self.tags.get(name, "r").lower() == "s"

    @property
    def psd(self) -> str:
        return self.tags.get("psd", "u").lower()

    @property
    def testing(self) -> bool:
        return self.tags.get("t", "n").lower() == "y" or self.tags.get("pct") == "0"

    @property
    def usable(self) -> bool:
        """[RFC 9989 §4.7]: without a valid p= it counts only if it asks for reports, and then asks nothing else."""
        return bool(self.wish("p")) or "mailto:" in self.tags.get("rua", "").lower()


@dataclass(frozen=True, slots=True)
class Outcome:
    """policy: what the author's domain wants done with mail that fails; "" where there is none.

    by: what it passed by, dkim or spf.
    """

    result: str
    reason: str = ""
    author: str = ""
    policy: str = ""
    found_at: str = ""
    by: str = ""


def read(name: str, records: Sequence[bytes]) -> Policy | None:
    """The one policy among the TXT records of _dmarc.NAME [RFC 9989 §4.7]; None: none, or more than one."""
    found = []
    for record in records:
        head, _, rest = record[:MAX_RECORD].decode("utf-8", "replace").partition(";")
        version, equals, value = head.partition("=")
        if version.strip(" \t") == "v" and equals and value.strip(" \t") == "DMARC1":
            pairs = (part.partition("=") for part in rest.split(";")[:64])
            tags: dict[str, str] = {}
            for key, _, text in pairs:
                tags.setdefault(key.strip(" \t").lower(), text.strip(" \t"))
            found.append(Policy(name, tags))
    return found[0] if len(found) == 1 else None


class Tree:
    """Policies as one evaluation finds them: each is asked for once."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._known: dict[str, Policy | None] = {}
        self._organizations: dict[str, str] = {}

    async def at(self, name: str) -> Policy | None:
        """The policy at this very name. Away."""
        if name not in self._known:
            self._known[name] = read(name, await self._names.text(f"_dmarc.{name}"))
        return self._known[name]

    async def _walk(self, name: str) -> list[Policy]:
        """[RFC 9989 §4.10]: the policies from a name upwards; of a long name the middle is skipped."""
        found: list[Policy] = []
        labels = name.split(".")
        for step in (labels, *(labels[at:] for at in range(max(1, len(labels) - MAX_STEPS + 1), len(labels)))):
            policy = await self.at(".".join(step))
            if policy is not None:
                found.append(policy)
                if policy.psd in ("y", "n"):
                    break
        return found

    async def organization(self, name: str) -> str:
        """The organization's domain [RFC 9989 §4.10.2]. Away."""
        if name not in self._organizations:
            self._organizations[name] = _organization(name, await self._walk(name))
        return self._organizations[name]

    async def policy(self, name: str) -> Policy | None:
        """The policy for an author's domain: its own, its organization's, or the suffix's above. Away."""
        own = await self.at(name)
        if own is not None:
            return own
        found = await self._walk(name)
        organization = _organization(name, found)
        by_name = {policy.domain: policy for policy in found}
        return by_name.get(organization) or (found[-1] if found and found[-1].psd == "y" else None)


def _organization(name: str, found: Sequence[Policy]) -> str:
    for policy in found:
        if policy.psd == "n":
            return policy.domain
        if policy.psd == "y" and policy.domain != name:
            below = name.removesuffix("." + policy.domain)
            return f"{below.rpartition('.')[2]}.{policy.domain}"
    return found[-1].domain if found else name


async def evaluate(author: Author, spf_result: spf.Result, signatures: Sequence[dkim.Checked],
                   names: Names) -> Outcome:
    """The outcome for one message."""
    if author.fault:
        return Outcome("permerror", author.fault)
    tree = Tree(names)
    try:
        policy = await tree.policy(author.domain)
        if policy is None or not policy.usable:
            return Outcome("none", f"{author.domain} has no DMARC policy", author.domain)
        wish = await _wish(policy, author.domain, names)
    except Away as away:
        return Outcome("temperror", str(away), author.domain)
    proved = [("dkim", one.domain, one.result) for one in signatures] + [
        ("spf", spf_result.domain, spf_result.result)]
    unknown = ""
    for by, name, result in proved:
        if result not in ("pass", "temperror") or not name:
            continue
        try:
            if not await _aligned(tree, author.domain, name, strict=policy.strict(f"a{by}")):
                continue
        except Away as away:
            unknown = str(away)
            continue
        if result == "pass":
            return Outcome("pass", "", author.domain, wish, policy.domain, by)
        unknown = f"{by} of {name} cannot be checked just now"
    if unknown:
        return Outcome("temperror", unknown, author.domain, wish, policy.domain)
    return Outcome("fail", f"neither DKIM nor SPF proves {author.domain}", author.domain, wish, policy.domain)


async def _aligned(tree: Tree, author: str, proved: str, *, strict: bool) -> bool:
    """[RFC 9989 §4.4]"""
    if author == proved:
        return True
    return not strict and await tree.organization(author) == await tree.organization(proved)


async def _wish(policy: Policy, author: str, names: Names) -> str:
    """What is to be done with what fails [RFC 9989 §4.7, §5.3.5]."""
    wish = policy.wish("p")
    if policy.domain != author and wish:
        np, sp = policy.wish("np"), policy.wish("sp")
        missing = bool(np) and np != (sp or wish) and not await _exists(author, names)
        wish = np if missing else sp or wish
    wish = wish or "none"
    return POLICIES[max(0, POLICIES.index(wish) - 1)] if policy.testing else wish


async def _exists(name: str, names: Names) -> bool:
    """[RFC 9989 §3.2.13]: does it have an address or a mail host?"""
    ask: list[Callable[[], Awaitable[Sequence[str]]]] = [
        lambda: names.addresses(name, "A"), lambda: names.addresses(name, "AAAA"), lambda: names.hosts(name, "MX")]
    for one in ask:
        if await one():
            return True
    return False
