"""Proof that a mailbox process can still write: an empty commit in each of its databases, again and again.

In     the store; every 30 s a unit of work that changes nothing, through the writer and its commit thread.
Out    a health line for a database whose writer does not answer; when three such units in a row are not answered, the
       end of the process, with the stacks of its threads in the log.
Spec   PROCESSES 11 (health). The control channel's ping proves the event loop only.
Fails  a database that is not mounted, or refuses to write, has answered: mounting and its health line are the store's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable

from atoll.mailbox.errors import StoreError
from atoll.mailbox.store import Store
from atoll.mailbox.tx import Tx

SECONDS = 30.0
MISSES = 3

log = logging.getLogger(__name__)


async def prove(store: Store, health: Callable[[str, str, str], None], end: Callable[[], None] | None = None,
                seconds: float = SECONDS) -> None:
    """For as long as the process lives. health(name, state, detail); end: instead of a SIGABRT (tests)."""
    asked: dict[str, asyncio.Task[None]] = {}
    missed: dict[str, int] = {}
    while True:
        for name in store.mounted():
            task = asked.get(name)
            if task is None or task.done():
                if missed.pop(name, 0):
                    health(f"writer {name}", "ok", "")
                asked[name] = asyncio.create_task(_empty_commit(store, name))
                continue
            missed[name] = missed.get(name, 0) + 1
            health(f"writer {name}", "fail", f"no commit for {missed[name] * seconds:.0f} s")
            if missed[name] >= MISSES:
                log.error("the writer does not answer", extra={"f": {"database": name}})
                (end or _dump_and_die)()
        await asyncio.sleep(seconds)


async def _empty_commit(store: Store, name: str) -> None:
    try:
        await store.database(name).submit(_nothing)
    except StoreError:
        pass  # that is an answer


def _nothing(tx: Tx) -> None:
    """A group with the fence's check and a COMMIT."""


def _dump_and_die() -> None:
    os.kill(os.getpid(), signal.SIGABRT)  # faulthandler writes the stacks; the supervisor starts another
