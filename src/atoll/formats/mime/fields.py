"""Header blocks: where they end, which fields they have, which lines a client asked for.

In     raw bytes; line ends may be CRLF or a bare LF.
Out    fields by lower-case name with unfolded values, or raw lines.
Spec   RFC 5322 §2.2, §4.5 (obsolete spaces before the colon); RFC 9051 §6.4.5.1 (HEADER.FIELDS).
Fails  never: a line without a colon is no field and hurts no other.
Not    the meaning of any field.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from .limits import DEFAULT, ScanLimits

_FOLD = (b" ", b"\t")
JOINED = frozenset({b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc"})
"""Fields of addresses: when one occurs twice, its addresses add up. Of all others the first one counts."""


def header_end(data: bytes, start: int = 0, end: int | None = None) -> int:
    """Offset after the blank line that ends the header at `start`; `end` (default: all) when there is none."""
    stop = len(data) if end is None else end
    if data.startswith(b"\r\n", start, stop):
        return start + 2
    if data.startswith(b"\n", start, stop):
        return start + 1
    crlf = data.find(b"\n\r\n", start, stop)
    bare = data.find(b"\n\n", start, crlf + 1 if crlf >= 0 else stop)
    if bare >= 0:
        return bare + 2
    return crlf + 3 if crlf >= 0 else stop


def parse_fields(
    data: bytes, start: int, end: int, wanted: Collection[bytes], limits: ScanLimits = DEFAULT
) -> dict[bytes, bytes]:
    """The wanted fields of the header data[start:end], lower-case name to unfolded value without outer spaces."""
    found: dict[bytes, bytes] = {}
    folded: dict[bytes, list[bytes]] = {}
    current = b""
    for line in data[start : min(end, start + limits.header_block)].split(b"\n"):
        if line.startswith(_FOLD):
            if current:
                folded.setdefault(current, []).append(line)
            continue
        name, colon, value = line.partition(b":")
        key = name.lower()
        if key not in wanted:
            key = key.rstrip(b" \t")
            if key not in wanted:
                current = b""
                continue
        if not colon:
            current = b""
        elif key not in found:
            found[key] = value
            current = key
        elif key in JOINED:
            folded.setdefault(key, []).append(b"," + value)
            current = key
        else:
            current = b""
    for key, more in folded.items():
        # [RFC 5322 §2.2.3] unfolding removes the line end only: the white space that follows it stays.
        found[key] = found[key].removesuffix(b"\r") + b"".join([piece.removesuffix(b"\r") for piece in more])
    for key, value in found.items():
        found[key] = value[: limits.header_value].strip(b" \t\r")
    return found


def header_lines(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, bytes]]:
    """(name as written, raw lines with their line ends) of each field; the name is empty where there is no colon.

    Joined, the raw parts are the header without its blank line.
    """
    stop = header_end(data, start, end)
    pos = start
    while pos < stop:
        after = data.find(b"\n", pos, stop) + 1 or stop
        if data[pos:after] in (b"\r\n", b"\n"):
            return
        while after < stop and data[after] in (32, 9):
            after = data.find(b"\n", after, stop) + 1 or stop
        raw = data[pos:after]
        name, colon, _ = raw.partition(b":")
        yield (name.rstrip(b" \t") if colon else b""), raw
        pos = after


def header_fields(
    data: bytes, names: Collection[bytes], *, without: bool = False, start: int = 0, end: int | None = None
) -> bytes:
    """HEADER.FIELDS (or, `without`, HEADER.FIELDS.NOT) of the header at `start`, with the blank line at its end."""
    asked = {name.lower() for name in names}
    kept = [raw for name, raw in header_lines(data, start, end) if (name.lower() in asked) is not without]
    if kept and not kept[-1].endswith(b"\n"):
        kept.append(b"\r\n")
    return b"".join(kept) + b"\r\n"
