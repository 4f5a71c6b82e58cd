"""protocols.imap.bodies -- BODY[...], BINARY[...] and RFC822...: the octets of messages for FETCH.

In     rows with their bodies, or their blob in slices when it is large. Out  items on the wire.
Spec   [RFC 9051 §6.4.5.1] sections and partials; [RFC 3516] BINARY; [RFC 9051 §6.4.5] BODY[]<0.n> beyond the end is "".
Fails  No("UNKNOWN-CTE") for a transfer encoding that nobody knows. An absent part is NIL. ConnectionError where the
       client has half of an answer already: a tagged line would be read as octets of the message.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from atoll.content import Scanner, quick
from atoll.formats.mime import Node, Part, decode, find_part, header_end, header_fields, parse_tree
from atoll.mailbox import Row, StoreError
from atoll.protocols.imap.errors import No
from atoll.protocols.imap.items import Plan
from atoll.protocols.imap.selected import Selected
from atoll.protocols.imap.types import BodyItem, Section
from atoll.protocols.imap.wire.fetch import print_section

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session

BATCH = 256 * 1024
"""Octets joined into one write."""
PIECE = 256 * 1024
"""Octets of a large blob read at once."""


class Bodies:
    """Writes the answers of one slice of rows."""

    __slots__ = ("_half", "_out", "_paths", "_plan", "_selected", "_session", "_size")

    def __init__(self, session: Session, selected: Selected, plan: Plan) -> None:
        self._session = session
        self._selected = selected
        self._plan = plan
        self._paths = [item.section.part for item in plan.bodies
                       if item.section.part or item.kind in ("BINARY", "BINARY.SIZE")]
        self._out: list[bytes] = []
        self._size = 0
        self._half = False  # has the client some of an answer that is not yet whole?

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        self._size += len(data)

    def flush(self) -> None:
        """Hand what was joined to the transport."""
        if self._out:
            self._session.write(b"".join(self._out))
            self._out.clear()
            self._size = 0

    async def write(self, position: int, row: Row, seen: Row | None) -> None:
        """One message's answer. seen: the row after \\Seen was set, when it was."""
        shown = row if seen is None else Row((*seen[:9], *row[9:]))
        parts = [self._plan.head(position, shown)]
        content = _Content(self._selected, row)
        if self._paths and not quick(content.data):  # what is costly to read is read by the content role
            await content.look(self._session.server.scanner, self._paths)
        lead = b" " if self._plan.has_items else b""
        if seen is not None and not self._plan.has_flags:
            parts.append(lead + b"FLAGS (" + self._selected.flags_of(shown) + b")")
            lead = b" "
        self._put(b"".join(parts))
        self._half = False
        for item in self._plan.bodies:
            try:
                if content.large and _is_whole(item):
                    await self._stream(item, lead, row)
                else:
                    self._put(lead + _item(item, content))
            except (StoreError, No) as error:
                if self._half:
                    raise ConnectionError(f"an answer ends in the middle: {error}") from error
                raise
            lead = b" "
        self._put(b")\r\n")
        if self._size >= BATCH:
            self.flush()
            await self._session.drain()

    async def _stream(self, item: BodyItem, lead: bytes, row: Row) -> None:
        """A large message, piece by piece, as fast as the client reads."""
        start, stop = 0, row[7]
        if item.partial is not None:
            start = min(item.partial.offset, stop)
            stop = min(start + item.partial.size, stop)
        self._put(lead + _label(item) + b" {%d}\r\n" % (stop - start))
        while start < stop:
            piece = self._selected.access.blob_slice(row[8], start, min(PIECE, stop - start))
            if not piece:
                raise ConnectionError("a blob is shorter than its row says")
            start += len(piece)
            self._put(piece)
            self.flush()
            self._half = True
            await self._session.breathe()


class _Content:
    """A message's octets and its tree, read when first asked for."""

    __slots__ = ("_data", "_found", "_row", "_selected", "_tree", "large")

    def __init__(self, selected: Selected, row: Row) -> None:
        self._selected = selected
        self._row = row
        self._data: bytes | None = row[12]
        self._tree: Node | None = None
        self._found: dict[tuple[int, ...], Part | None] = {}
        self.large = row[12] is None

    @property
    def data(self) -> bytes:
        if self._data is None:
            self._data = self._selected.access.row_blob(self._row)
        return self._data

    async def look(self, scanner: Scanner, paths: list[tuple[int, ...]]) -> None:
        """Find these parts elsewhere."""
        self._found = dict(zip(paths, await scanner.parts(self.data, paths), strict=True))

    def part(self, path: tuple[int, ...]) -> Part | None:
        if path in self._found:
            return self._found[path]
        if self._tree is None:
            self._tree = parse_tree(self.data)
        return find_part(self._tree, path)


def _is_whole(item: BodyItem) -> bool:
    return item.kind in ("BODY", "RFC822") and not item.section.part and not item.section.specifier


def _label(item: BodyItem) -> bytes:
    """The item's name in an answer."""
    if item.kind.startswith("RFC822"):
        return item.kind.encode("ascii")
    label = item.kind.encode("ascii") + b"[" + print_section(item.section) + b"]"
    return label + b"<%d>" % item.partial.offset if item.partial is not None else label


def _item(item: BodyItem, content: _Content) -> bytes:
    label = _label(item)
    if item.kind == "BINARY.SIZE":
        decoded = _binary(item, content)
        return label + b" %d" % len(decoded or b"")
    octets = _binary(item, content) if item.kind == "BINARY" else _section(item, content)
    if octets is None:
        return label + b" NIL"
    if item.partial is not None:
        octets = octets[item.partial.offset : item.partial.offset + item.partial.size]
    mark = b" ~{%d}\r\n" if item.kind == "BINARY" and b"\0" in octets else b" {%d}\r\n"
    return b"".join((label, mark % len(octets), octets))


def _binary(item: BodyItem, content: _Content) -> bytes | None:
    if item.section.specifier:
        return _section(item, content)
    part = content.part(item.section.part)
    if part is None:
        return None
    octets = content.data[part.body[0] : part.body[1]]
    if not item.section.part:
        return octets  # the whole message, as it is
    decoded = decode(octets, part.encoding)
    if decoded is None:
        raise No("UNKNOWN-CTE", "Unknown transfer encoding")
    return decoded


def _section(item: BodyItem, content: _Content) -> bytes | None:
    section = item.section
    if not section.part and not section.specifier:
        return content.data
    name = "HEADER" if section.specifier.startswith("HEADER.") else section.specifier
    if section.part:
        span = _part_span(content.part(section.part), name)
    else:  # the message itself is in two without a look at its parts
        end = header_end(content.data)
        span = (0, end) if name == "HEADER" else (end, len(content.data))
    if span is None:
        return None
    if section.fields:
        return fields_of(content.data[span[0] : span[1]], section)
    return content.data[span[0] : span[1]]


def fields_of(header: bytes, section: Section) -> bytes:
    """HEADER.FIELDS and HEADER.FIELDS.NOT of a whole header."""
    if section.specifier == "HEADER.FIELDS" and header.endswith(b"\n"):
        return b"".join(_wanted(section.fields).findall(header)) + b"\r\n"
    return header_fields(header, section.fields, without=section.specifier == "HEADER.FIELDS.NOT")


@lru_cache(maxsize=256)
def _wanted(fields: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """Finds whole fields of these names, folded lines included, in one pass."""
    names = b"|".join(map(re.escape, fields))
    return re.compile(rb"^(?:" + names + rb")[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.I | re.M)


def _part_span(part: Part | None, name: str) -> tuple[int, int] | None:
    if part is None:
        return None
    return {"": part.body, "MIME": part.mime, "TEXT": part.text, "HEADER": part.header}[name]
