"""atoll role list | restart."""

from __future__ import annotations

import time

import click

from atoll.admin import ops
from atoll.admin.cli.client import ask, common, done, emit, fail, reach, table
from atoll.runtime.rpc import Empty, RpcError

ORDER = ("directory", "content", "mailbox", "transport", "frontend")
"""Whoever answers others is new before they are."""
WAIT_SECONDS = 120.0
LOOK_SECONDS = 0.1


@click.group()
def command() -> None:
    """The island's processes: see them, replace them."""


@command.command("list")
@common
def list_() -> None:
    """Show the process of every role.

    OLD is how many processes of before still let their sessions end.

    Example: atoll role list
    """
    found = ask("role.list", Empty(), ops.Roles)
    emit(found, lambda: table(("ROLE", "STATE", "PID", "UP", "OLD", "DETAIL"), [
        (row.name, row.state, row.pid or "", f"{row.seconds:.0f}s", row.old or "", row.detail) for row in found.roles]))


@command.command()
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "every", is_flag=True, help="Every role, one after the other.")
@click.option("--drain", type=click.FloatRange(0), default=None,
              help="Seconds that a frontend's open sessions may go on; else processes.restart_drain_seconds.")
@common
def restart(names: tuple[str, ...], every: bool, drain: float | None) -> None:
    """Replace the process of a role by a new one.

    Without harm to what is under way.

    A frontend gets a second process on the same ports; the old one accepts no more and lets its sessions end. The
    others finish what they have begun, and who connects meanwhile waits for the new process. Sessions of a mailbox
    process are told to connect again. The command ends when the new process is ready.

    \b
    Examples:
      atoll role restart frontend-1
      atoll role restart --all
    """
    if bool(names) == every:
        raise click.UsageError("a role's name, or --all")
    rows = ask("role.list", Empty(), ops.Roles).roles
    if every:
        names = tuple(row.name for kind in ORDER for row in rows if row.name.rpartition("-")[0] in (kind, "")
                      and row.name.startswith(kind))
    ready = []
    for name in names:
        before = next((row.starts for row in rows if row.name == name), 0)
        ask("role.restart", ops.RoleRestart(name, drain), ops.RoleRow)
        ready.append(_ready(name, before))
    done("\n".join(f"{row.name} is ready, pid {row.pid}" for row in ready), ops.Roles(ready))


def _ready(name: str, before: int) -> ops.RoleRow:
    """Its row when a process that was started later is ready; ends the command when that does not come about."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        if time.monotonic() > deadline:
            fail(f"{name} is not ready after {WAIT_SECONDS:.0f} s", "temporary")
        time.sleep(LOOK_SECONDS)
        try:
            rows = reach("role.list", Empty(), ops.Roles).roles
        except RpcError:
            continue  # it goes through the directory, which may be the one
        row = next(row for row in rows if row.name == name)
        if row.trouble:
            fail(f"{name}: {row.trouble}", "refused")
        if row.starts > before and row.state == "ok" and not row.restarting:
            return row
