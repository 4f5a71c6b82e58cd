"""The directory's parts, joined (the role and the tests start from it).

In     the database engine, paths, a clock, who is which role.
Out    Parts: open, ready to serve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atoll.base.audit import AuditLog
from atoll.base.clock import Clock
from atoll.directory.server.auth.lane import HashLane
from atoll.directory.server.auth.signin import FLOOR_SECONDS, PasswordSignIn
from atoll.directory.server.database import Database, open_database
from atoll.directory.server.dkim import Dkim
from atoll.directory.server.recipients import Recipients
from atoll.directory.server.register import Register
from atoll.directory.server.service import Service
from atoll.directory.server.sessions import Sessions
from atoll.sql import Engine, SqlError


@dataclass(frozen=True, slots=True)
class Parts:
    """What the directory role holds."""

    database: Database
    recipients: Recipients
    register: Register
    sessions: Sessions
    lane: HashLane
    audit: AuditLog
    sign_in: PasswordSignIn
    service: Service
    dkim: Dkim

    async def close(self) -> None:
        """Finish what waits and close the files."""
        self.lane.close()
        await self.database.close()
        await self.audit.close()


async def open_parts(engine: Engine, folder: Path, clock: Clock, *, instance: str, island: str,
                     is_role: Callable[[int, str], bool], on_doubt: Callable[[SqlError], None],
                     on_audit_state: Callable[[str, str], None] | None = None, floor: float = FLOOR_SECONDS,
                     born: Callable[[int], int] = lambda pid: 0) -> Parts:
    """Open DATA/dir, before the role is ready. born: start ticks of roles' processes (runtime.role)."""
    database = await open_database(engine, folder / "directory.sqlite", clock, instance, on_doubt)
    audit = AuditLog(folder / "audit.log", clock, on_state=on_audit_state)
    try:
        audit.open()
    except BaseException:
        await database.close()
        raise
    recipients, register, sessions, lane = Recipients(database), Register(database), Sessions(clock, born), HashLane()
    sign_in = PasswordSignIn(recipients, register, sessions, audit, clock, lane, floor=floor)
    dkim = Dkim(database)
    service = Service(database, recipients, register, sessions, sign_in, audit, clock, island=island, is_role=is_role,
                      signing_keys=dkim.keys)
    return Parts(database, recipients, register, sessions, lane, audit, sign_in, service, dkim)
