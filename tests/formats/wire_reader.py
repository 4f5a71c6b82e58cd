"""A second, independent reader of what the scanner renders: strict about RFC 9051 §9, used by tests only."""

from __future__ import annotations

Value = bytes | int | None | list


def read_value(wire: bytes, pos: int = 0) -> tuple[Value, int]:
    """One value: NIL, number, quoted, literal or list, and the offset after it. ValueError for anything else."""
    byte = wire[pos : pos + 1]
    if byte == b"(":
        return _list(wire, pos + 1)
    if byte == b'"':
        return _quoted(wire, pos + 1)
    if byte == b"{":
        end = wire.index(b"}\r\n", pos)
        size = int(wire[pos + 1 : end])
        value = wire[end + 3 : end + 3 + size]
        if len(value) != size or b"\0" in value:
            raise ValueError(f"literal at {pos}")
        return value, end + 3 + size
    if wire[pos : pos + 3] == b"NIL":
        return None, pos + 3
    end = pos
    while wire[end : end + 1].isdigit():
        end += 1
    return int(wire[pos:end]), end


def _list(wire: bytes, pos: int) -> tuple[list, int]:
    items: list = []
    while wire[pos : pos + 1] != b")":
        if wire[pos : pos + 1] == b" ":
            if not items or wire[pos + 1 : pos + 2] in (b" ", b")"):
                raise ValueError(f"space at {pos}")
            pos += 1
        item, pos = read_value(wire, pos)
        items.append(item)
    return items, pos + 1


def _quoted(wire: bytes, pos: int) -> tuple[bytes, int]:
    out = bytearray()
    while (char := wire[pos]) != 0x22:
        if char == 0x5C:
            pos += 1
            char = wire[pos]
            if char not in b'"\\':
                raise ValueError(f"escape at {pos}")
        if char in b"\r\n\0" or char > 126:
            raise ValueError(f"octet {char} in a quoted string")
        out.append(char)
        pos += 1
    return bytes(out), pos + 1
