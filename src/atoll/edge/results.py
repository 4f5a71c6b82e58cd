"""edge.results -- Authentication-Results: ours is written, what bears our name and is not ours goes.

In     results of the other agents; fields of messages.
Out    the field; which fields of a message pretend to be ours; what others' results say.
Spec   [RFC 8601 §2, §5]. No value of a stranger can end a result or begin another: what is no plain word is quoted.
Fails  never: a field that cannot be read pretends to be ours if our name is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atoll.edge import arc, dkim, dmarc, spf
from atoll.edge.message import Field, Message
from atoll.formats.mime.addresses import without_comments

_PLAIN = re.compile(r"[A-Za-z0-9!#$&'*+\-.^_`{|}~@/]+")
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")
_ID = re.compile(rb'[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))')
_ESCAPED = re.compile(rb"\\(.)", re.S)
_RESULT = re.compile(r"([A-Za-z][A-Za-z0-9-]*)(?:[ \t]*/[ \t]*[0-9]+)?[ \t]*=[ \t]*([A-Za-z]+)")
_PROPERTY = re.compile(r'(?<![\w-])([A-Za-z][\w-]*)[ \t]*\.[ \t]*([A-Za-z][\w-]*)[ \t]*=[ \t]*'
                       r'("(?:[^"\\]|\\.)*"|[^\s";]+)')
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|;|[^";]+')
MAX_READ = 4096
"""Octets of somebody else's results that are read."""
MAX_LISTED = 10


@dataclass(frozen=True, slots=True)
class Said:
    """One result of others: method, result, properties as "header.from"."""

    method: str
    result: str
    properties: dict[str, str]

    @property
    def author(self) -> str:
        """The domain of header.from."""
        return self.properties.get("header.from", "").rpartition("@")[2]


def field(host: str, spf_result: spf.Result, signatures: Sequence[dkim.Checked], outcome: dmarc.Outcome,
          chain: arc.Chain) -> bytes:
    """Our own field, CRLF at its end."""
    parts = [_one("spf", spf_result.result, spf_result.reason, (f"smtp.{spf_result.identity}", spf_result.domain))]
    parts += [_one("dkim", one.result, one.reason, ("header.d", one.domain), ("header.s", one.selector),
                   ("header.a", one.algorithm), ("header.b", one.mark)) for one in signatures[:MAX_LISTED]]
    if not signatures:
        parts.append(_one("dkim", "none", ""))
    parts.append(_one("dmarc", outcome.result, outcome.reason, ("header.from", outcome.author),
                      ("polrec.p", outcome.policy), ("polrec.domain", outcome.found_at)))
    if chain.result != "none":
        parts.append(_one("arc", chain.result, chain.reason))
    return f"Authentication-Results: {host};\r\n\t{(';' + chr(13) + chr(10) + chr(9)).join(parts)}\r\n".encode("ascii")


def _one(method: str, result: str, reason: str, *properties: tuple[str, str]) -> str:
    text = f"{method}={result}"
    if reason and result != "pass":
        text += f" reason={_value(reason, quoted=True)}"
    return text + "".join(f"\r\n\t  {name}={_value(value)}" for name, value in properties if value)


def _value(text: str, *, quoted: bool = False) -> str:
    if not quoted and len(text) <= 253 and _PLAIN.fullmatch(text):
        return text
    return '"' + _UNSAFE.sub("?", text[:200]) + '"'


def pretends(one: Field, host: str) -> bool:
    """Does this Authentication-Results bear our name? [RFC 8601 §5]"""
    value = without_comments(one.value)
    if one.name == arc.RESULTS:
        value = value.partition(b";")[2]
    found = _ID.match(value)
    if found is None:
        return host.encode("ascii", "replace").lower() in one.raw.lower()
    name = _ESCAPED.sub(rb"\1", found[1]) if found[1] is not None else found[2]
    return name.strip(b" \t.").lower() == host.encode("ascii", "replace").lower()


def ours_alone(message: Message, host: str, names: Iterable[bytes]) -> bytes:
    """The message without fields that only we write: results in our name, and those of these names."""
    gone = frozenset(names)
    kept = [one.raw for one in message.fields
            if one.name not in gone and not (one.name in _RESULTS and pretends(one, host))]
    if len(kept) == len(message.fields):
        return message.content
    end = sum(len(one.raw) for one in message.fields)
    return b"".join([*kept, message.content[end:]])


_RESULTS = frozenset({b"authentication-results", arc.RESULTS})


def said(value: bytes) -> list[Said]:
    """What a field says, without the name of who says it; what cannot be read is left out."""
    text = without_comments(value[:MAX_READ]).decode("utf-8", "replace")
    found = []
    for part in _parts(text)[1:]:
        head = _RESULT.match(part.strip())
        if head is not None:
            properties = {f"{kind}.{name}".lower(): content.strip('"')
                          for kind, name, content in _PROPERTY.findall(part)}
            found.append(Said(head[1].lower(), head[2].lower(), properties))
    return found


def _parts(text: str) -> list[str]:
    """What semicolons outside quotes divide."""
    parts = [""]
    for piece in _TOKEN.findall(text):
        if piece == ";":
            parts.append("")
        else:
            parts[-1] += piece
    return parts
