"""atoll health."""

from __future__ import annotations

import sys

import click

from atoll.admin import ops
from atoll.admin.cli.client import ask, common, emit, table
from atoll.runtime.rpc import Empty


@click.command()
@common
def command() -> None:
    """Show the state of every role. Exit code 1 when something fails.

    Example: atoll health --json
    """
    health = ask("health.show", Empty(), ops.Health)

    def text() -> None:
        table(("ROLE", "WHAT", "STATE", "DETAIL"), [(row.role, row.name, row.state, row.detail) for row in health.rows])
        click.echo(f"atoll {health.version}: {health.state}")

    emit(health, text)
    if health.state == "fail":
        sys.exit(1)
