"""atoll message trace."""

from __future__ import annotations

import time

import click

from atoll.admin import ops
from atoll.admin.cli.client import ask, common, emit, table, time_text


@click.group()
def command() -> None:
    """Follow a message through the island."""


@command.command()
@click.argument("id_", metavar="[ID]", default="")
@click.option("--sender", default="", help="Envelope sender.")
@click.option("--recipient", default="", help="Envelope recipient.")
@click.option("--hours", default=24.0, show_default=True, help="How far back to look.")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 100_000))
@common
def trace(id_: str, sender: str, recipient: str, hours: float, limit: int) -> None:
    """Show what became of messages.

    Received, delivered, deferred, failed.

    Example: atoll message trace --recipient alice@example.org --hours 2
    """
    since = int((time.time() - hours * 3600) * 1000)
    found = ask("message.trace", ops.TraceFilter(id_, sender, recipient, since, limit), ops.Trace)
    emit(found, lambda: table(("TIME", "EVENT", "ID", "FROM", "TO", "DETAIL"), [
        (time_text(row.time), row.event, row.id, row.sender, row.recipient, row.detail) for row in found.events]))
