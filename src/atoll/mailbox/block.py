"""One block of a ready listing: ENVELOPE and BODYSTRUCTURE of a stretch of uids, as FETCH answers them.

In     rows (uid, envelope, structure) of a whole stretch; or what was kept of them.
Out    Kept: three columns; Block: the rows again, or all answers in one text.
Spec   [RFC 9051 §7.5.2] the answer's form; [RFC 9051 §2.3.1.1] what is in it never changes, but for its number.
Fails  ValueError for what is no block.
Not    where blocks lie and whether one still holds what the folder holds (listing.py).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, overload

import msgspec
import zstandard

from atoll.mailbox.uidmap import UidMap
from atoll.sql.engine import Record

LEVEL = 6
"""Written once and read often: a fifth smaller and a fifth sooner unpacked than by level 3, in three times its time."""
NUMBER, ENVELOPE, STRUCTURE, END = b"* %d FETCH (", b"ENVELOPE ", b" BODYSTRUCTURE ", b")\r\n"
"""What is between the values. A per cent sign of theirs is doubled: none of these occurs in them."""
_Runs = list[tuple[int, int]]


class Kept(NamedTuple):
    """A block as it lies in the file."""

    runs: bytes
    """(first uid, count) ascending."""
    sizes: bytes
    """Octets of each envelope and each structure in the text, in turn."""
    data: bytes


class Block(Sequence[Record]):
    """Rows (uid, envelope, structure); they are taken apart only for whom asks for one."""

    __slots__ = ("_codec", "_rows", "_sizes", "_text", "runs")

    def __init__(self, codec: Codec, runs: _Runs, sizes: bytes, text: bytes) -> None:
        self._codec = codec
        self.runs = runs
        self._sizes = sizes
        self._text = text
        self._rows: list[Record] | None = None

    @property
    def first(self) -> int:
        """The lowest uid."""
        return self.runs[0][0]

    @property
    def last(self) -> int:
        """The highest uid."""
        return self.runs[-1][0] + self.runs[-1][1] - 1

    def answers(self, number: int, *, uids: bool) -> bytes:
        """FETCH answers with both values, the first message being `number`; uids: with UID as well."""
        numbers = range(number, number + len(self))
        if not uids:
            return self._text % tuple(numbers)
        both = [0] * (2 * len(numbers))
        both[::2] = numbers
        both[1::2] = self._uids()
        return self._text.replace(NUMBER, NUMBER + b"UID %d ") % tuple(both)

    def _uids(self) -> list[int]:
        return [uid for first, count in self.runs for uid in range(first, first + count)]

    @property
    def rows(self) -> list[Record]:
        """All of them."""
        if self._rows is None:
            self._rows = self._codec.rows(self._uids(), self._sizes, self._text)
        return self._rows

    def __len__(self) -> int:
        return sum(count for _, count in self.runs)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.rows)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> list[Record]: ...
    def __getitem__(self, at: int | slice) -> Record | list[Record]:
        return self.rows[at]


class Codec:
    """One for every thread, as zstandard's objects want it."""

    def __init__(self) -> None:
        self._runs = msgspec.msgpack.Decoder(_Runs)
        self._compress = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress
        self._decompress = zstandard.ZstdDecompressor().decompress

    def pack(self, rows: Sequence[Record]) -> Kept:
        """Rows in the order of their uids."""
        values = [value.replace(b"%", b"%%") for row in rows for value in row[1:]]
        text = b"".join([NUMBER + ENVELOPE + envelope + STRUCTURE + structure + END
                         for envelope, structure in zip(values[::2], values[1::2], strict=True)])
        runs = list(UidMap.of(row[0] for row in rows).runs())
        sizes = array("I", map(len, values)).tobytes()
        return Kept(msgspec.msgpack.encode(runs), self._compress(sizes), self._compress(text))

    def unpack(self, kept: Kept) -> Block:
        """ValueError."""
        try:
            return Block(self, self._runs.decode(kept.runs), kept.sizes, self._decompress(kept.data))
        except (zstandard.ZstdError, msgspec.DecodeError) as error:
            raise ValueError(str(error)) from error

    def rows(self, uids: list[int], kept: bytes, text: bytes) -> list[Record]:
        """The values of a text; ValueError."""
        try:
            sizes = array("I", self._decompress(kept))
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        first = [len(NUMBER + ENVELOPE), len(STRUCTURE)]
        gaps = first + [len(END) + first[0], first[1]] * (len(uids) - 1)
        ends = accumulate(gap + size for gap, size in zip(gaps, sizes, strict=True))
        values = [text[end - size : end].replace(b"%%", b"%") for end, size in zip(ends, sizes, strict=True)]
        return list(zip(uids, values[::2], values[1::2], strict=True))
