"""Passing an administration call on to the role that does it (docs/seams.md 7).

In     an operation of OPS with its parameters; which backends there are.
Out    the role's answer; of several roles, their answers joined.
Fails  RpcError("temporary") when a role that must answer does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from atoll.runtime.rpc import RpcClient, RpcError

T = TypeVar("T")
QUICK_SECONDS = 4.0
LONG_SECONDS = 6 * 3600.0
LONG = frozenset({"database.check", "database.backup", "database.restore", "database.mount", "database.dismount",
                  "database.rescan", "mailbox.recover", "queue.remove", "message.trace"})


class Relay:
    """One lasting connection per role, made when first needed. socket_of: role name -> path of its op socket."""

    def __init__(self, socket_of: Callable[[str], Path]) -> None:
        self._socket_of = socket_of
        self._clients: dict[str, RpcClient] = {}

    async def ask(self, role: str, op: str, params: msgspec.Struct, result: type[T]) -> T:
        """One role's answer."""
        client = self._clients.get(role)
        if client is None:
            client = self._clients[role] = RpcClient(self._socket_of(role), timeout=QUICK_SECONDS)
        try:
            if op in LONG:
                await client.ready()  # the work may be long, the way to the role is not
                return await client.call(op, params, result, within=LONG_SECONDS)
            return await client.call(op, params, result)
        except RpcError as error:
            if error.code == "temporary":
                raise RpcError("temporary", f"{role}: {error.text}") from None
            raise

    async def ask_all(self, roles: list[str], op: str, params: msgspec.Struct,
                      result: type[T]) -> dict[str, T | RpcError]:
        """Each role's answer or error."""
        answers = await asyncio.gather(*(self.ask(role, op, params, result) for role in roles), return_exceptions=True)
        joined: dict[str, T | RpcError] = {}
        for role, answer in zip(roles, answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, RpcError):
                raise answer
            joined[role] = answer
        return joined

    async def close(self) -> None:
        """End the connections."""
        for client in self._clients.values():
            await client.close()
