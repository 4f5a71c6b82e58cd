"""protocols.imap.wire.fetch -- the arguments of FETCH and STORE, read and printed.

In     wire.cursor.Cursor after the command's name and its space. Out  types.Fetch, types.Store, and their bytes.
Spec   [RFC 9051 §6.4.5, §6.4.6], [RFC 3501 §6.4.5] (RFC822...), [RFC 3516] BINARY, [RFC 7162 §3.1] CONDSTORE,
       [RFC 8474 §5] EMAILID, THREADID.
Fails  Bad.
"""

from __future__ import annotations

import re

from atoll.protocols.imap.types import BodyItem, Fetch, FetchItem, Partial, Section, Store
from atoll.protocols.imap.wire.cursor import MAX_MOD_SEQUENCE, MAX_NUMBER, Cursor
from atoll.protocols.imap.wire.errors import Bad
from atoll.protocols.imap.wire.response import astring, sequence_set

SIMPLE = frozenset({"ENVELOPE", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "BODYSTRUCTURE", "UID", "MODSEQ", "EMAILID",
                    "THREADID"})
MACROS: dict[str, tuple[FetchItem, ...]] = {
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}
_RFC822 = {"RFC822": BodyItem("RFC822"), "RFC822.HEADER": BodyItem("RFC822.HEADER", Section((), "HEADER"), peek=True),
           "RFC822.TEXT": BodyItem("RFC822.TEXT", Section((), "TEXT"))}
_NAME = re.compile(rb"[A-Za-z0-9.]+")
_DIGITS = re.compile(rb"\d{1,10}")
MAX_PART_DEPTH = 50
MAX_FIELDS = 1000


def parse_fetch(cur: Cursor, max_items: int = 200) -> Fetch:
    """sequence-set SP items [SP (CHANGEDSINCE n [VANISHED])]"""
    messages = cur.sequence_set()
    cur.space()
    items: list[FetchItem] = []
    if cur.skip(b"("):
        while True:
            items.append(_item(cur))
            if len(items) > max_items:
                raise Bad("Too many items")
            if cur.skip(b")"):
                break
            cur.space()
    else:
        start = cur.at
        name = cur.match(_NAME, "an item").group().decode("ascii").upper()
        if name in MACROS:
            items.extend(MACROS[name])
        else:
            cur.at = start
            items.append(_item(cur))
    changed_since, vanished = _modifiers(cur)
    cur.end()
    return Fetch(messages, tuple(items), changed_since, vanished)


def _modifiers(cur: Cursor) -> tuple[int | None, bool]:
    changed_since, vanished = None, False
    if cur.skip(b" ("):
        while True:
            name = cur.word()
            if name == "CHANGEDSINCE":
                cur.space()
                changed_since = cur.number(MAX_MOD_SEQUENCE)
            elif name == "VANISHED":
                vanished = True
            else:
                raise Bad("Unknown FETCH modifier")
            if cur.skip(b")"):
                break
            cur.space()
    return changed_since, vanished


def _item(cur: Cursor) -> FetchItem:
    name = cur.match(_NAME, "an item").group().decode("ascii").upper()
    if cur.peek() == b"[":
        return _body_item(cur, name)
    if name in SIMPLE or name == "BODY":
        return name
    if name in _RFC822:
        return _RFC822[name]
    raise Bad("Unknown FETCH item")


def _body_item(cur: Cursor, name: str) -> BodyItem:
    peek = name.endswith(".PEEK")
    kind = name.removesuffix(".PEEK")
    if kind not in ("BODY", "BINARY", "BINARY.SIZE") or (peek and kind == "BINARY.SIZE"):
        raise Bad("Unknown FETCH item")
    cur.expect(b"[")
    section = _section(cur)
    partial = None
    if kind != "BINARY.SIZE" and cur.skip(b"<"):
        offset = cur.number()
        # "<15>" is in no RFC: clients and test suites that know other servers mean all from there on.
        partial = Partial(offset, cur.nonzero() if cur.skip(b".") else MAX_NUMBER)
        cur.expect(b">")
    return BodyItem(kind, section, peek or kind == "BINARY.SIZE", partial)


def _section(cur: Cursor) -> Section:
    """What is between the brackets. BINARY may name a header or a text as well, which RFC 3516 does not know but other
    servers do: they are what BODY gives."""
    part: list[int] = []
    while cur.peek().isdigit():
        number = int(cur.match(_DIGITS, "a part number").group())
        if not 0 < number <= MAX_NUMBER:
            raise Bad("Bad part number")
        part.append(number)
        if len(part) > MAX_PART_DEPTH:
            raise Bad("Section too deep")
        if not cur.skip(b"."):
            cur.expect(b"]")
            return Section(tuple(part))
    if cur.skip(b"]") and not part:
        return Section()
    name = cur.match(_NAME, "a section").group().decode("ascii").upper()
    fields: tuple[bytes, ...] = ()
    if name in ("HEADER.FIELDS", "HEADER.FIELDS.NOT"):
        cur.space()
        fields = _fields(cur)
    elif name not in ("HEADER", "TEXT") and not (name == "MIME" and part):
        raise Bad("Bad section")
    cur.expect(b"]")
    return Section(tuple(part), name, fields)


def _fields(cur: Cursor) -> tuple[bytes, ...]:
    cur.expect(b"(")
    fields = []
    while True:
        field = cur.astring()
        if not field or b":" in field or any(octet < 33 or octet > 126 for octet in field):
            raise Bad("Bad header field name")
        fields.append(field)
        if len(fields) > MAX_FIELDS:
            raise Bad("Too many header fields")
        if cur.skip(b")"):
            return tuple(fields)
        cur.space()


def parse_store(cur: Cursor) -> Store:
    """sequence-set SP [(UNCHANGEDSINCE n) SP] [+|-]FLAGS[.SILENT] SP flags"""
    messages = cur.sequence_set()
    cur.space()
    unchanged_since = None
    if cur.skip(b"(UNCHANGEDSINCE "):
        unchanged_since = cur.number(MAX_MOD_SEQUENCE)
        cur.expect(b") ")
    op = "+" if cur.skip(b"+") else "-" if cur.skip(b"-") else "="
    cur.expect(b"FLAGS")
    silent = cur.skip(b".SILENT")
    cur.space()
    if cur.peek() == b"(":
        flags = cur.flag_list()
    else:
        found = [cur.flag()]
        while cur.skip(b" "):
            found.append(cur.flag())
        flags = tuple(found)
    cur.end()
    return Store(messages, op, silent, flags, unchanged_since)


# printing


def print_section(section: Section) -> bytes:
    """What stands between the brackets; in answers too."""
    words = [b".".join(b"%d" % number for number in section.part)] if section.part else []
    if section.specifier:
        word = section.specifier.encode("ascii")
        if section.fields:
            word += b" (" + b" ".join(astring(field) for field in section.fields) + b")"
        words.append(word)
    return b".".join(words)


def print_item(item: FetchItem) -> bytes:
    """A FETCH item as a client writes it."""
    if isinstance(item, str):
        return item.encode("ascii")
    if item.kind.startswith("RFC822"):
        return item.kind.encode("ascii")
    name = item.kind + (".PEEK" if item.peek and item.kind != "BINARY.SIZE" else "")
    partial = b"<%d.%d>" % (item.partial.offset, item.partial.size) if item.partial else b""
    return name.encode("ascii") + b"[" + print_section(item.section) + b"]" + partial


def print_fetch(fetch: Fetch) -> bytes:
    text = sequence_set(fetch.messages) + b" (" + b" ".join(map(print_item, fetch.items)) + b")"
    words = ([b"CHANGEDSINCE %d" % fetch.changed_since] if fetch.changed_since is not None else [])
    words += [b"VANISHED"] if fetch.vanished else []
    return text + (b" (" + b" ".join(words) + b")" if words else b"")


def print_store(store: Store) -> bytes:
    condition = b"(UNCHANGEDSINCE %d) " % store.unchanged_since if store.unchanged_since is not None else b""
    name = store.op.replace("=", "") + "FLAGS" + (".SILENT" if store.silent else "")
    flags = " ".join(store.flags)
    return sequence_set(store.messages) + b" " + condition + f"{name} ({flags})".encode("ascii")
