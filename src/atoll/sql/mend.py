"""Put right a page in which one bit has flipped, from its checksum.

In     a page as it is in the file; its last eight octets are the checksum.
Out    the page as it was written, or None: more than one bit is wrong, or the checksum cannot tell which one it is. Of
       the upper bits of a word only what is modulo 2^32 counts: several words would explain one, and two flipped bits
       are taken for one more easily (measured: above bit 20 in 14 of 10,000 pages, up to it in 3).
Spec   SQLite's cksumvfs: over 32-bit words, little-endian, in pairs (a, b): s1 += a + s2; s2 += b + s1, modulo 2^32.
       Both sums are linear in every word, so what one flipped bit adds to them tells the word and the bit.
"""

from __future__ import annotations

import struct
from functools import cache

CHECKSUM_BYTES = 8
HIGHEST_BIT = 20
_MASK = 0xFFFFFFFF


def checksum(page: bytes) -> tuple[int, int]:
    """(s1, s2) of a page without its last eight octets."""
    s1 = s2 = 0
    words = struct.unpack(f"<{(len(page) - CHECKSUM_BYTES) // 4}I", page[:-CHECKSUM_BYTES])
    for at in range(0, len(words), 2):
        s1 = s1 + words[at] + s2 & _MASK
        s2 = s2 + words[at + 1] + s1 & _MASK
    return s1, s2


@cache
def _effects(size: int) -> dict[tuple[int, int], tuple[int, int] | None]:
    """(what is added to s1, to s2) -> (word, bit) for each bit of a page, set or cleared; None: it may be several."""
    effects: dict[tuple[int, int], tuple[int, int] | None] = {}
    pairs = (size - CHECKSUM_BYTES) // 8

    def note(word: int, one: int, two: int) -> None:
        for bit in range(32):
            for effect in {(one << bit & _MASK, two << bit & _MASK), (-(one << bit) & _MASK, -(two << bit) & _MASK)}:
                effects[effect] = None if effect in effects or bit > HIGHEST_BIT else (word, bit)

    note(2 * pairs, 1, 0)  # the checksum's own two words
    note(2 * pairs + 1, 0, 1)
    first, second = (1, 1), (0, 1)
    for pair in range(pairs - 1, -1, -1):
        note(2 * pair, *first)
        note(2 * pair + 1, *second)
        first = (first[0] + first[1] & _MASK, first[0] + 2 * first[1] & _MASK)
        second = (second[0] + second[1] & _MASK, second[0] + 2 * second[1] & _MASK)
    return effects


def mended(page: bytes) -> bytes | None:
    """The page with its one flipped bit put back; None when that does not explain its checksum."""
    s1, s2 = checksum(page)
    stored1, stored2 = struct.unpack("<II", page[-CHECKSUM_BYTES:])
    if (s1, s2) == (stored1, stored2):
        return page
    place = _effects(len(page)).get((s1 - stored1 & _MASK, s2 - stored2 & _MASK))
    if place is None:
        return None
    word, bit = place
    right = bytearray(page)
    right[word * 4 + bit // 8] ^= 1 << bit % 8
    whole = bytes(right)
    return whole if checksum(whole) == struct.unpack("<II", whole[-CHECKSUM_BYTES:]) else None
