"""A role that starts on a disk which takes no writes: it waits for room, alive, and says so.

In     what opens the role's files, the folder they are in.
Out    the open files, when there is room.
Spec   R04: a clear error in the log and in health, no crash loop, it heals by itself. Meanwhile the role is as good as
       ready, so that an island whose other roles can serve is let in.
Fails  as opening does, when the disk is not why.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from atoll.runtime.role import RoleContext
from atoll.runtime.rpc import RpcError
from atoll.sql import Full, ReadOnly, SqlError

AGAIN_SECONDS = 2.0
PROBE = 64 << 10
"""Octets: more than a small change of a database needs."""
T = TypeVar("T")
log = logging.getLogger(__name__)


def takes_no_writes(folder: Path) -> str:
    """Why nothing can be written in a folder; "" when it can."""
    probe = folder / "room.probe"
    try:
        try:
            with probe.open("wb", 0) as file:
                file.write(bytes(PROBE))
        finally:
            with contextlib.suppress(FileNotFoundError):
                probe.unlink()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
            return error.strerror or str(error)
    return ""


async def opened(ctx: RoleContext, what: str, folder: Path, open_: Callable[[], Awaitable[T]], *,
                 away: bool = False) -> T | None:
    """None: the role was told to stop meanwhile. away: whoever has to be asked for it (RpcError) may have no room."""
    shown = ""
    while not ctx.stopping.is_set():
        try:
            found = await open_()
        except (SqlError, OSError, RpcError) as error:
            why = takes_no_writes(folder)
            if not why and not isinstance(error, (Full, ReadOnly)) and not (away and isinstance(error, RpcError)):
                raise
            detail = f"waits for room: {why or error}"
            if detail != shown:
                if not shown:
                    await ctx.ready()
                shown = detail
                ctx.health(what, "fail", detail)
                log.error("cannot be opened yet", extra={"f": {"what": what, "why": why, "error": str(error)}})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SECONDS):
                    await ctx.stopping.wait()
        else:
            if shown:
                ctx.health(what, "ok")
                log.info("opened at last", extra={"f": {"what": what}})
            return found
    return None
