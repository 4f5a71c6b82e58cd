"""Contents: kept once per delivery, compressed where it pays, in pieces when large.

In     Content (bytes or a spooled file).
Out    Prepared: what the writer inserts. Readers get bytes back, whole or by slices.
Spec   STORE 4 (blob, blob_chunk, blob_sweep), 0.7 and 0.8: no reference count, a short memory of recent digests.
Fails  StoreError(UNAVAILABLE) for a content that is missing or does not decompress.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

import zstandard

from atoll.mailbox.errors import StoreCode, StoreError, unavailable
from atoll.mailbox.model import Content
from atoll.mailbox.tx import INSERT_BLOB, SWEEP, Tx
from atoll.sql import Connection

CHUNK = 1 << 20
"""Larger contents are kept in pieces of this size (before compression)."""
SMALLEST_TO_COMPRESS = 256
WORTH = 0.9
"""Compressed form is kept when it is at most this part of the plain one."""
REMEMBERED = 4096
KEPT, KEPT_OCTETS = 256 << 10, 8 << 20
"""Contents up to so many octets stay in memory until they are indexed, together at most so many."""
MAX_CONTENT = 1 << 30
RAW, ZSTD = 0, 1


class _Codecs(threading.local):
    """One of each for every thread: zstandard's objects are not to be used by two at a time, and they let go of the
    interpreter lock."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=1, write_content_size=True).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_codecs = _Codecs()


def digest_of(data: bytes) -> bytes:
    """16 octets of BLAKE2b: for integrity and for finding a recent twin."""
    return hashlib.blake2b(data, digest_size=16).digest()


def encode(data: bytes) -> tuple[int, bytes]:
    """(codec, octets to keep)."""
    if len(data) >= SMALLEST_TO_COMPRESS:
        packed = _codecs.compress(data)
        if len(packed) <= len(data) * WORTH:
            return ZSTD, packed
    return RAW, data


def decode(codec: int, data: bytes, limit: int) -> bytes:
    """The plain octets; ValueError when they are damaged or would be more than `limit`."""
    if codec == RAW:
        return data
    try:
        return _codecs.decompress(data, max_output_size=limit)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


@dataclass(slots=True)
class Prepared:
    """A content ready to be written. blob: its number once it is stored (large ones before the linking unit).
    hashes: of its Message-ID and references, once somebody made them (place.thread_hashes)."""

    content: Content
    digest: bytes
    size: int
    codec: int
    data: bytes | None
    blob: int = 0
    hashes: list[int] | None = None


class RecentDigests:
    """Which blob holds a content that came a short while ago; the newest contents themselves, for the search index:
    reading one back costs a third of indexing it."""

    def __init__(self, size: int = REMEMBERED, octets: int = KEPT_OCTETS) -> None:
        self._size = size
        self._blobs: OrderedDict[bytes, int] = OrderedDict()
        self._room = octets
        self._contents: dict[int, bytes] = {}

    def get(self, digest: bytes) -> int | None:
        return self._blobs.get(digest)

    def put(self, digest: bytes, blob: int) -> None:
        self._blobs[digest] = blob
        if len(self._blobs) > self._size:
            self._blobs.popitem(last=False)

    def keep(self, blob: int, data: bytes) -> None:
        """Until it is taken, or newer ones need its room."""
        self._contents[blob] = data
        self._room -= len(data)
        while self._room < 0:
            self.take(next(iter(self._contents)))

    def take(self, blob: int) -> bytes | None:
        """A content that is still here; once."""
        data = self._contents.pop(blob, None)
        if data is not None:
            self._room += len(data)
        return data

    def forget(self, blobs: set[int]) -> None:
        """These are being swept."""
        for digest in [digest for digest, blob in self._blobs.items() if blob in blobs]:
            del self._blobs[digest]

    def clear(self) -> None:
        self._blobs.clear()
        for blob in list(self._contents):
            self.take(blob)


def prepare(content: Content) -> Prepared:
    """Digest and compress. Large ones cost milliseconds: call from a helper thread."""
    if isinstance(content.data, bytes):
        data = content.data
        size = len(data)
        if size > MAX_CONTENT:
            raise StoreError(StoreCode.TOO_BIG, "Message too large")
        if size > CHUNK:
            return Prepared(content, digest_of(data), size, RAW, None)
        codec, kept = encode(data)
        return Prepared(content, digest_of(data), size, codec, kept)
    size = content.data.stat().st_size
    if size > MAX_CONTENT:
        raise StoreError(StoreCode.TOO_BIG, "Message too large")
    if size <= CHUNK:
        data = content.data.read_bytes()
        codec, kept = encode(data)
        return Prepared(content, digest_of(data), size, codec, kept)
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces(content):
        digest.update(piece)
    return Prepared(content, digest.digest(), size, RAW, None)


def pieces(content: Content) -> Iterator[bytes]:
    """A large content, CHUNK by CHUNK."""
    if isinstance(content.data, bytes):
        view = memoryview(content.data)
        for at in range(0, len(view), CHUNK):
            yield bytes(view[at:at + CHUNK])
        return
    with content.data.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def put(tx: Tx, prepared: Prepared, recent: RecentDigests) -> int:
    """The blob's number: written, or a recent twin, or (large) written before."""
    if prepared.blob:
        return prepared.blob
    known = recent.get(prepared.digest)
    if known is not None:
        return known
    blob = tx.local("blob")
    tx.add(INSERT_BLOB, (blob, prepared.digest, prepared.size, prepared.codec, 0, prepared.data))
    recent.put(prepared.digest, blob)
    if isinstance(prepared.content.data, bytes) and prepared.size <= KEPT:
        recent.keep(blob, prepared.content.data)
    return blob


def begin_large(tx: Tx, prepared: Prepared, now: int) -> int:
    """A row without pieces, swept after the grace unless an item names it by then."""
    blob = tx.local("blob")
    count = -(-prepared.size // CHUNK)
    tx.add(INSERT_BLOB, (blob, prepared.digest, prepared.size, RAW, count, None))
    tx.add(SWEEP, (blob, now))
    return blob


def put_piece(tx: Tx, blob: int, seq: int, codec: int, data: bytes) -> None:
    tx.run("INSERT INTO blob_chunk (blob, seq, codec, data) VALUES (?, ?, ?, ?)", (blob, seq, codec, data))


def read(connection: Connection, blob: int) -> bytes:
    """A whole content."""
    row = connection.one("SELECT size, codec, chunks, data FROM blob WHERE blob = ?", (blob,))
    if row is None:
        raise unavailable(f"blob {blob} is missing")
    size, codec, chunks, data = row
    try:
        if not chunks:
            plain = decode(codec, data, size)
        else:
            plain = b"".join(decode(piece_codec, piece, CHUNK) for piece_codec, piece in connection.all(
                "SELECT codec, data FROM blob_chunk WHERE blob = ? ORDER BY seq", (blob,)))
    except ValueError as error:
        raise unavailable(f"blob {blob}: {error}") from None
    if len(plain) != size:
        raise unavailable(f"blob {blob}: {len(plain)} octets instead of {size}")
    return plain


@dataclass(slots=True)
class Slices:
    """Reads pieces of contents; keeps the last piece, because the next slice is mostly of the same."""

    connection: Connection
    _last: tuple[int, int, bytes] | None = field(default=None)

    def read(self, blob: int, offset: int, size: int) -> bytes:
        """Octets offset..offset+size (cut at the end), at most CHUNK of them."""
        size = min(size, CHUNK)
        out = bytearray()
        while size > 0:
            seq, start = divmod(offset, CHUNK)
            piece = self._piece(blob, seq)
            taken = piece[start:start + size]
            if not taken:
                break
            out += taken
            offset += len(taken)
            size -= len(taken)
        return bytes(out)

    def _piece(self, blob: int, seq: int) -> bytes:
        if self._last is not None and self._last[:2] == (blob, seq):
            return self._last[2]
        row = self.connection.one("SELECT chunks, size FROM blob WHERE blob = ?", (blob,))
        if row is None:
            raise unavailable(f"blob {blob} is missing")
        if not row[0]:
            plain = read(self.connection, blob) if seq == 0 else b""
        elif seq >= row[0]:
            plain = b""
        else:
            found = self.connection.one("SELECT codec, data FROM blob_chunk WHERE blob = ? AND seq = ?", (blob, seq))
            if found is None:
                raise unavailable(f"blob {blob}: piece {seq} is missing")
            try:
                plain = decode(found[0], found[1], CHUNK)
            except ValueError as error:
                raise unavailable(f"blob {blob}: {error}") from None
        self._last = (blob, seq, plain)
        return plain
