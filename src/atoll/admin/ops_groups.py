"""What administrators ask of distribution groups. Part of ops.py's table.

In/Out  msgspec Structs. Members, owners and senders are addresses.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Who = Literal["anyone", "organization", "members", "listed"]
"""The directory's own (directory.client.model): the supervisor, which has this table too, loads nothing of it."""
Role = Literal["member", "owner", "sender"]


class GroupCreate(msgspec.Struct):
    address: str
    display: str = ""
    who: Who = "organization"
    members: list[str] = []
    owners: list[str] = []


class GroupChange(msgspec.Struct):
    """What is None stays."""

    address: str
    display: str | None = None
    who: Who | None = None


class GroupName(msgspec.Struct):
    address: str


class GroupFilter(msgspec.Struct):
    domain: str = ""


class GroupMembers(msgspec.Struct):
    address: str
    others: list[str]
    role: Role = "member"


class GroupRow(msgspec.Struct):
    """who: who may send to it."""

    address: str
    display: str
    who: Who
    members: list[str]
    owners: list[str]
    senders: list[str]


class GroupRows(msgspec.Struct):
    groups: list[GroupRow]
