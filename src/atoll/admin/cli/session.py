"""atoll session list | end."""

from __future__ import annotations

import click

from atoll.admin import ops
from atoll.admin.cli.client import ADDRESS, ask, common, done, emit, table, time_text


@click.group()
def command() -> None:
    """Who is signed in; sign them out."""


@command.command("list")
@click.argument("address", default="", type=ADDRESS)
@common
def list_(address: str) -> None:
    """Show open sessions: a person's, or everybody's.

    Example: atoll session list alice@example.org
    """
    found = ask("session.list", ops.SessionFilter(address), ops.Sessions)
    emit(found, lambda: table(("SESSION", "ADDRESS", "PROTOCOL", "FROM", "SINCE", "IDLE", "FOLDER"), [
        (row.sid, row.address, row.protocol, row.ip, time_text(row.since), f"{row.idle:.0f}s", row.folder)
        for row in found.sessions]))


@command.command()
@click.argument("sid", default="")
@click.option("--address", default="", type=ADDRESS, help="End all sessions of this person.")
@common
def end(sid: str, address: str) -> None:
    """End one session by its id, or all of a person.

    \b
    Examples:
      atoll session end 4nrw2k5cnc6kz2m4r3aq
      atoll session end --address alice@example.org
    """
    if bool(sid) == bool(address):
        raise click.UsageError("a session id or --address")
    count = ask("session.end", ops.SessionEnd(sid, address), ops.Count)
    done(f"{count.count} ended", count)
