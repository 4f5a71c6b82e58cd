"""What a paged client holds of a mailbox: a short signed tuple (STORE 2).

In/Out FolderToken, MailboxToken <-> text of about 30 to 50 characters (base64url of varints and an 8-byte MAC).
Fails  ValueError for a token that this mailbox did not make; decided without reading the database.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import astuple, dataclass

VERSION = 1
MAC_SIZE = 8
MAX_TEXT = 200
BIAS = 1 << 62
"""Times before 1970 are negative: dates are biased so that a varint holds them."""
NEWEST = (BIAS - 1, 0)
"""Above every (received, uid): holds nothing yet."""
OLDEST = (-BIAS, 0)
"""Below every (received, uid): no window."""


@dataclass(frozen=True, slots=True)
class FolderToken:
    """The client holds exactly the items with uid < next_uid and (received, uid) >= low, as of cn or later, and was
    told of every removal up to cn. base: the number at which it was last complete; asof: the mailbox's number in the
    snapshot that the last page was made from."""

    fno: int
    uidv: int
    cn: int
    next_uid: int
    low_received: int
    low_uid: int
    asof: int
    base: int

    @property
    def low(self) -> tuple[int, int]:
        return self.low_received, self.low_uid


@dataclass(frozen=True, slots=True)
class MailboxToken:
    """Knows exactly the items with id <= born, as of cn or later, and every destruction up to cn."""

    cn: int
    born: int
    asof: int


def encode(token: FolderToken | MailboxToken, key: bytes) -> str:
    """The text form."""
    kind = 0 if isinstance(token, FolderToken) else 1
    numbers = [VERSION, kind, *astuple(token)]
    if isinstance(token, FolderToken):
        numbers[6] += BIAS
    body = b"".join(_varint(number) for number in numbers)
    return base64.urlsafe_b64encode(body + _mac(body, key)).decode().rstrip("=")


def decode_folder(text: str, key: bytes) -> FolderToken:
    """ValueError when forged, of another kind or of another version."""
    kind, numbers = _decode(text, key)
    if kind != 0 or len(numbers) != 8:
        raise ValueError("not a folder's token")
    numbers[4] -= BIAS
    return FolderToken(*numbers)


def decode_mailbox(text: str, key: bytes) -> MailboxToken:
    """The same for a mailbox."""
    kind, numbers = _decode(text, key)
    if kind != 1 or len(numbers) != 3:
        raise ValueError("not a mailbox's token")
    return MailboxToken(*numbers)


def _decode(text: str, key: bytes) -> tuple[int, list[int]]:
    if len(text) > MAX_TEXT or not text.isascii():
        raise ValueError("not a token")
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    body, mac = raw[:-MAC_SIZE], raw[-MAC_SIZE:]
    if len(raw) <= MAC_SIZE or not hmac.compare_digest(mac, _mac(body, key)):
        raise ValueError("forged")
    version, kind, *numbers = _numbers(body)
    if version != VERSION:
        raise ValueError("another version's token")
    return kind, numbers


def _mac(body: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=MAC_SIZE, key=key).digest()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _numbers(body: bytes) -> Iterator[int]:
    number = shift = 0
    for octet in body:
        number |= (octet & 127) << shift
        shift += 7
        if not octet & 128:
            yield number
            number = shift = 0
