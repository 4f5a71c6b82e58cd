"""What administrators ask of DKIM keys. Part of ops.py's table.

In/Out  msgspec Structs; times in ms since 1970 UTC. Never a private key.
"""

from __future__ import annotations

import msgspec


class DkimCreate(msgspec.Struct):
    """kinds: rsa, ed25519; none: both."""

    domain: str
    kinds: list[str] = []


class DkimFilter(msgspec.Struct):
    """domain "": all of them."""

    domain: str = ""


class DkimName(msgspec.Struct):
    domain: str
    selector: str


class DkimRow(msgspec.Struct):
    """name, record: the TXT record that the DNS is to have."""

    domain: str
    selector: str
    kind: str
    name: str
    record: str
    created: int


class DkimState(msgspec.Struct):
    """state: signs, replaced (a newer key of its kind signs), hidden (not in the DNS), unknown (no answer)."""

    selector: str
    kind: str
    state: str


class DkimStates(msgspec.Struct):
    keys: list[DkimState]


class DkimRows(msgspec.Struct):
    keys: list[DkimRow]
