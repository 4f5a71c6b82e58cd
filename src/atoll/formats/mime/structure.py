"""BODYSTRUCTURE, ready for the wire, and BODY made from it.

In     the tree of a message; or a rendered BODYSTRUCTURE.
Out    bytes.
Spec   RFC 9051 §7.5.2, §9 (body-type-1part, body-type-mpart, body-ext-*); RFC 2231 §6 (continuations are joined).
Fails  never on trees; `body_of` takes only what `render_structure` made.
Not    the order of anything: the tree decides.
"""

from __future__ import annotations

import re

from .envelope import Budget, envelope_addresses, render_envelope
from .params import Params, joined
from .tree import MESSAGE, MULTIPART, Node
from .wire import nstring, string

_EMPTY = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'


def render_structure(node: Node, data: bytes, budget: Budget) -> bytes:
    """BODYSTRUCTURE of a part. Recursion is bounded by the depth of the tree."""
    if node.kind == MULTIPART:
        return b"(%b %b %b%b)" % (
            b"".join([render_structure(child, data, budget) for child in node.children]) or _EMPTY,
            string(node.subtype),
            _params(node.params),
            _extension(node),
        )
    fields = node.fields
    basic = b"%b %b %b %b %b %b %d" % (
        string(node.maintype),
        string(node.subtype),
        _params(node.params),
        nstring(fields.get(b"content-id")),
        nstring(fields.get(b"content-description")),
        string(node.encoding),
        node.end - node.body,
    )
    if node.kind == MESSAGE:
        inner = node.children[0]
        envelope = render_envelope(inner.fields, envelope_addresses(inner.fields, budget))
        basic = b"%b %b %b %d" % (basic, envelope, render_structure(inner, data, budget), _lines(data, node))
    elif node.maintype.lower() == b"text":
        basic = b"%b %d" % (basic, _lines(data, node))
    return b"(%b %b%b)" % (basic, nstring(fields.get(b"content-md5")), _extension(node))


def _lines(data: bytes, node: Node) -> int:
    return data.count(b"\n", node.body, node.end)


def _params(params: Params) -> bytes:
    if not params:
        return b"NIL"
    return b"(%b)" % b" ".join([b"%b %b" % (string(name), string(value)) for name, value in joined(params)])


def _extension(node: Node) -> bytes:
    """ " disposition language location", the tail that all parts share."""
    fields = node.fields
    disposition = node.disposition
    languages = [tag for tag in fields.get(b"content-language", b"")[:1000].replace(b",", b" ").split() if tag]
    location = fields.get(b"content-location")
    if disposition is None and not languages and location is None:
        return b" NIL NIL NIL"
    shown = b"NIL" if disposition is None else b"(%b %b)" % (string(disposition[0]), _params(disposition[1]))
    if not languages:
        language = b"NIL"
    elif len(languages) == 1:
        language = string(languages[0])
    else:
        language = b"(%b)" % b" ".join([string(tag) for tag in languages])
    return b" %b %b %b" % (shown, language, nstring(location))


_ATOM = re.compile(rb'\(|\)| |"(?:[^"\\]|\\.)*"|\{(\d+)\}\r\n|[^ ()"{]+').match


def body_of(structure: bytes) -> bytes:
    """BODY (without extension data) from a BODYSTRUCTURE that `render_structure` made."""
    return _Body(structure).take()


class _Body:
    """A cursor over a rendered BODYSTRUCTURE; recursion is bounded by the depth of the tree it came from."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._pos = 0

    def _token(self) -> bytes:
        match = _ATOM(self._text, self._pos)
        if match is None:
            raise ValueError("not a BODYSTRUCTURE of ours")
        end = match.end()
        if match.group(1) is not None:
            end += int(match.group(1))
        token = self._text[self._pos : end]
        self._pos = end
        return token

    def _value(self) -> bytes:
        """One string, number, NIL or list, as it stands."""
        start, depth = self._pos, 0
        while True:
            token = self._token()
            depth += (token == b"(") - (token == b")")
            if depth == 0 and token != b" ":
                return self._text[start : self._pos]

    def _space(self) -> None:
        if self._token() != b" ":
            raise ValueError("not a BODYSTRUCTURE of ours")

    def take(self) -> bytes:
        """The body at the cursor, which is then after it."""
        self._token()
        if self._text.startswith(b"(", self._pos):
            children = []
            while self._text.startswith(b"(", self._pos):
                children.append(self.take())
            self._space()
            short = b"(%b %b)" % (b"".join(children), self._value())
        else:
            values = []
            for at in range(7):
                if at:
                    self._space()
                values.append(self._value())
            main, sub = values[0].lower(), values[1].lower()
            if main == b'"text"':
                self._space()
                values.append(self._value())
            elif main == b'"message"' and sub in (b'"rfc822"', b'"global"'):
                self._space()
                values.append(self._value())
                self._space()
                values.append(self.take())
                self._space()
                values.append(self._value())
            short = b"(%b)" % b" ".join(values)
        while self._text[self._pos : self._pos + 1] == b" ":
            self._pos += 1
            self._value()
        self._token()
        return short
