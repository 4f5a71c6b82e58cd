"""Content-Type and Content-Disposition.

In     an unfolded header value.
Out    type, subtype, parameters as they came (RFC 2231 and RFC 2047 forms are not decoded: clients expect them raw).
Spec   RFC 2045 §5; RFC 2183; RFC 2231 (only `plain` decodes it, `joined` puts its pieces together).
Fails  never: an unreadable type is None, parameters beyond the limit are dropped.
Not    defaults: what a missing type means depends on the parent.
"""

from __future__ import annotations

import itertools
import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

from .addresses import without_comments
from .words import decoded, to_text

Params = list[tuple[bytes, bytes]]

_TYPE = re.compile(rb"[ \t]*([!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+)[ \t]*/[ \t]*([!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+)").match
_TOKEN = re.compile(rb"[ \t]*([!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+)").match
_PARAM = re.compile(
    rb""";[; \t\r\n]*(?:([^\s=;"]+)[ \t]*=[ \t\r\n]*(?:"([^"\\]*(?:\\.[^"\\]*)*)(?:"|\\?$)|([^;"]*)))?[^;]*""",
    re.DOTALL,
).match
_PIECE = re.compile(rb"([^*]+)\*(0|[1-9][0-9]{0,3})(\*?)\Z").match
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def parse_params(value: bytes, pos: int, limit: int) -> Params:
    """name=value pairs after `pos`, names as written, quotes taken away, at most `limit`."""
    params: Params = []
    pos = value.find(b";", pos)
    while pos >= 0 and len(params) < limit:
        match = _PARAM(value, pos)
        if match is None:
            break
        name, quoted, plain = match.groups()
        if name:
            if quoted is not None:
                params.append((name, _ESCAPED.sub(rb"\1", quoted) if b"\\" in quoted else quoted))
            else:
                params.append((name, plain.strip(b" \t\r\n")))
        pos = value.find(b";", match.end())
    return params


def parse_type(value: bytes, limit: int = 100) -> tuple[bytes, bytes, Params] | None:
    """(type, subtype, parameters) of a Content-Type; None when there is no type/subtype."""
    value = without_comments(value)
    match = _TYPE(value)
    if match is None:
        return None
    return match.group(1), match.group(2), parse_params(value, match.end(), limit) if b";" in value else []


def parse_disposition(value: bytes, limit: int = 100) -> tuple[bytes, Params] | None:
    """(disposition, parameters) of a Content-Disposition; None when it is empty."""
    value = without_comments(value)
    match = _TOKEN(value)
    if match is None:
        return None
    return match.group(1), parse_params(value, match.end(), limit) if b";" in value else []


def param(params: Params, name: bytes) -> bytes | None:
    """The first parameter of this name (lower case), raw; None when there is none."""
    for key, value in params:
        if key.lower() == name:
            return value
    return None


def joined(params: Params) -> Params:
    """Parameters with their continuations made one, where the first piece stood [RFC 2231 §6].

    name*0="a"; name*1="b" is name="ab"; if a piece is encoded, all of it is: name*="utf-8''...". A piece behind a gap
    stays as it is.
    """
    pieces: dict[bytes, dict[int, tuple[bytes, bool]]] = {}
    for key, value in params:
        if match := _PIECE(key):
            pieces.setdefault(match.group(1).lower(), {}).setdefault(int(match.group(2)), (value, bool(match.group(3))))
    if not pieces:
        return params
    out: Params = []
    done: set[bytes] = set()
    for key, value in params:
        match = _PIECE(key)
        mine = pieces[match.group(1).lower()] if match else {}
        run = [mine[at] for at in itertools.takewhile(mine.__contains__, itertools.count())]
        if match is None or int(match.group(2)) >= len(run):
            out.append((key, value))
        elif match.group(1).lower() not in done:
            done.add(match.group(1).lower())
            out.append(_whole(match.group(1), run))
    return out


def _whole(name: bytes, pieces: list[tuple[bytes, bool]]) -> tuple[bytes, bytes]:
    """Name and value of a parameter in pieces; (value, is it encoded?)."""
    if not any(encoded for _, encoded in pieces):
        return name, b"".join(value for value, _ in pieces)
    head = b"" if pieces[0][1] else b"''"
    return name + b"*", head + b"".join(
        value if encoded else quote_from_bytes(value, safe="!#$&+^`{|}").encode("ascii") for value, encoded in pieces)


def plain(params: Params, name: bytes) -> str | None:
    """A parameter for people: RFC 2231 pieces joined and decoded, else RFC 2047 words, which many senders use."""
    pieces: dict[int, tuple[bytes, bool]] = {}
    for key, value in params:
        base, star, rest = key.lower().partition(b"*")
        if base != name or not star:
            continue
        number, _, _ = rest.partition(b"*")
        if number and not (number.isdigit() and len(number) < 5):
            continue
        pieces.setdefault(int(number or b"0"), (value, not number or rest.endswith(b"*")))
    if not pieces:
        raw = param(params, name)
        return None if raw is None else decoded(raw)
    charset, out = b"", []
    for at in sorted(pieces):
        value, encoded = pieces[at]
        if at == 0 and encoded and value.count(b"'") >= 2:
            charset, _, value = value.split(b"'", 2)
        out.append(unquote_to_bytes(value) if encoded else value)
    return to_text(b"".join(out), charset)
