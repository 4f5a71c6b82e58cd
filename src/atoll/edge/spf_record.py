"""edge.spf_record -- SPF records, parsed: terms, networks, macros.

In     the text of a record that begins with v=spf1.
Out    Record: mechanisms in their order, the redirect.
Spec   [RFC 7208 §4.6, §5, §6, §7.1, §12]. The whole record is parsed before anything is asked.
Fails  ValueError: not SPF's grammar (permerror).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

MAX_RECORD = 4096
MAX_NAME = 253
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LITERAL = r"[\x21-\x24\x26-\x7e]"
_EXPAND = r"%(?:\{[slodiphvSLODIPHV](?:[0-9]+)?[rR]?[.\-+,/_=]*\}|[%_\-])"
_MACRO_STRING = re.compile(rf"(?:{_LITERAL}|{_EXPAND})*")
_TOP = re.compile(r"\.(?:[a-z0-9]*[a-z][a-z0-9]*|[a-z0-9]+-[a-z0-9-]*[a-z0-9])\.?", re.I)
_MACRO = re.compile(r"%(?:\{([a-zA-Z])([0-9]*)([rR]?)([.\-+,/_=]*)\}|([%_\-]))")
_TERM = re.compile(r"([+\-?~]?)([A-Za-z][A-Za-z0-9\-_.]*)(?:([:/])(.*))?", re.S)
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9\-_.]*)=(.*)", re.S)
_LENGTHS = re.compile(r"(.*?)(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?", re.S)
_WITH_DOMAIN = frozenset({"include", "exists"})
_MECHANISMS = frozenset({"all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"})
_SPECIAL = {"%": "%", "_": " ", "-": "%20"}


@dataclass(frozen=True, slots=True)
class Mechanism:
    """qualifier: one of + - ? ~; target: a macro string, "" for the domain itself; prefix: lengths for A and AAAA."""

    qualifier: str
    name: str
    target: str = ""
    prefix4: int = 32
    prefix6: int = 128
    network: Network | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A record. redirect: a macro string, None when there is none."""

    mechanisms: tuple[Mechanism, ...]
    redirect: str | None = None


def is_spf(text: bytes) -> bool:
    """Does this TXT record speak of SPF? [RFC 7208 §4.5]"""
    head = text[:7].lower()
    return head == b"v=spf1 " or (head == b"v=spf1" and len(text) == 6)


def record(text: bytes) -> Record:
    """A whole record. ValueError."""
    if len(text) > MAX_RECORD:
        raise ValueError("the record is too long")
    mechanisms: list[Mechanism] = []
    modifiers: dict[str, str] = {}
    for term in text[6:].decode("ascii").split(" "):
        if not term:
            continue
        found = _MODIFIER.fullmatch(term)
        if found is None:
            mechanisms.append(_mechanism(term))
            continue
        name, value = found[1].lower(), found[2]
        if name in ("redirect", "exp"):
            if name in modifiers or not is_domain_spec(value):
                raise ValueError(f"the modifier {name} is malformed or there twice")
            modifiers[name] = value
        elif not _MACRO_STRING.fullmatch(value):
            raise ValueError("a modifier is malformed")
    return Record(tuple(mechanisms), modifiers.get("redirect"))


def _mechanism(term: str) -> Mechanism:
    found = _TERM.fullmatch(term)
    name = found[2].lower() if found else ""
    if found is None or name not in _MECHANISMS:
        raise ValueError("an unknown mechanism")
    qualifier = found[1] or "+"
    rest = (found[3] + found[4]) if found[3] else ""
    if name == "all":
        if rest:
            raise ValueError("all has no argument")
        return Mechanism(qualifier, name)
    if name in ("ip4", "ip6"):
        return Mechanism(qualifier, name, network=_network(name, rest))
    return _targeted(qualifier, name, rest)


def _targeted(qualifier: str, name: str, rest: str) -> Mechanism:
    prefix4, prefix6 = 32, 128
    if name in ("a", "mx"):
        found = _LENGTHS.fullmatch(rest)
        assert found is not None
        # "/" may be a part of a macro: `a:%{d/}`; what is left must be a domain all the same.
        rest = found[1]
        prefix4 = int(found[2]) if found[2] else 32
        prefix6 = int(found[3]) if found[3] else 128
        if prefix4 > 32 or prefix6 > 128:
            raise ValueError("a prefix is too long")
    if not rest:
        if name in _WITH_DOMAIN:
            raise ValueError(f"{name} without a domain")
        return Mechanism(qualifier, name, "", prefix4, prefix6)
    if not rest.startswith(":") or not is_domain_spec(rest[1:]):
        raise ValueError(f"the domain of {name} is malformed")
    return Mechanism(qualifier, name, rest[1:], prefix4, prefix6)


def _network(name: str, rest: str) -> Network:
    if not rest.startswith(":"):
        raise ValueError(f"{name} without a network")
    address, slash, length = rest[1:].partition("/")
    if slash and not re.fullmatch(r"0|[1-9][0-9]{0,2}", length):
        raise ValueError("a prefix is malformed")
    if name == "ip4":
        if not re.fullmatch(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", address):
            raise ValueError("not an IPv4 address")
        return ipaddress.IPv4Network((address, int(length) if slash else 32), strict=False)
    if "%" in address:
        raise ValueError("not an IPv6 address")
    return ipaddress.IPv6Network((address, int(length) if slash else 128), strict=False)


def is_domain_spec(text: str) -> bool:
    """macro-string domain-end: it ends with a macro, or with a label that no address has [RFC 7208 §7.1]."""
    if not _MACRO_STRING.fullmatch(text):
        return False
    last = None
    for last in _MACRO.finditer(text):  # noqa: B007 -- the last one
        pass
    if last is not None and last.end() == len(text):
        return last[1] is not None
    start = last.end() if last is not None else 0
    dot = text.removesuffix(".").rfind(".", start)
    return dot >= start and _TOP.fullmatch(text, dot) is not None


def uses(text: str, letter: str) -> bool:
    """Is this macro in it?"""
    return any((found[1] or "").lower() == letter for found in _MACRO.finditer(text))


def expand(text: str, values: Mapping[str, str]) -> str:
    """A macro string with its values [RFC 7208 §7.3]; a name that is too long loses labels from the left."""

    def one(found: re.Match[str]) -> str:
        if found[5]:
            return _SPECIAL[found[5]]
        value = values.get(found[1].lower(), "unknown")
        parts = re.split("[" + re.escape(found[4] or ".") + "]", value)
        if found[3]:
            parts.reverse()
        if found[2]:
            count = int(found[2][:4])
            if not count:
                raise ValueError("a macro keeps no label")
            parts = parts[-count:]
        done = ".".join(parts)
        return quote(done, safe="-._~") if found[1].isupper() else done

    return shortened(_MACRO.sub(one, text))


def shortened(name: str) -> str:
    """At most 253 octets [RFC 7208 §7.3]."""
    while len(name) > MAX_NAME and "." in name:
        name = name.partition(".")[2]
    return name
