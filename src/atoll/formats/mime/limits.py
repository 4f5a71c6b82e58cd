"""How much of a message is looked at (MIME rows of the attack catalogue; SECURITY 5).

In/Out nothing: values only.
Spec   RFC 5322, RFC 2045 leave these open; RFC 9051 needs a finite structure.
Fails  never.
Not    a limit on what is stored: messages are kept byte for byte, only what is *shown* of them is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """Bounds of one scan. What lies beyond a bound is opaque: kept in the message, absent from the structure."""

    depth: int = 100
    """Levels of multipart and message/rfc822; what is deeper is one application/octet-stream part."""
    parts: int = 10_000
    """Parts of all levels together; the last one reaches to the end of the message."""
    addresses: int = 10_000
    """Addresses of one message, nested messages included."""
    header_value: int = 65_536
    """Octets of one header field that are parsed."""
    header_block: int = 1_048_576
    """Octets of one header block that are looked at for fields."""
    parameters: int = 100
    """Parameters of one Content-Type or Content-Disposition."""
    candidates: int = 1_000_000
    """Lines that begin with "--" which are compared with the boundaries."""


DEFAULT = ScanLimits()
