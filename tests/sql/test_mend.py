"""A flipped bit is put back from the page's checksum; two are not guessed at."""

from __future__ import annotations

import random
import struct

from atoll.sql.mend import checksum, mended


def page(seed: int, size: int = 4096) -> bytes:
    data = random.Random(seed).randbytes(size - 8)
    return data + struct.pack("<II", *checksum(data + bytes(8)))


def test_one_flipped_bit_is_put_back_or_left() -> None:
    put_back = 0
    for seed in range(300):
        whole = page(seed)
        spot = random.Random(seed + 1).randrange(len(whole) * 8)
        broken = bytearray(whole)
        broken[spot // 8] ^= 1 << spot % 8
        found = mended(bytes(broken))
        assert found in (None, whole)
        put_back += found == whole
    assert put_back > 180


def test_two_are_not_guessed() -> None:
    for seed in range(50):
        whole = page(seed)
        broken = bytearray(whole)
        broken[100] ^= 1
        broken[2000 + seed] ^= 8
        assert mended(bytes(broken)) in (None, whole)


def test_a_whole_page_stays() -> None:
    assert mended(page(7)) == page(7)
