"""atoll serve: the supervisor and its roles."""

from __future__ import annotations

import os
import sys

import click

from atoll.admin.cli.client import DATA, data_of


@click.command()
@click.option("--data", "data", type=DATA, help="The data directory.")
@click.option("--port-offset", type=click.IntRange(0, 60_000), help="Added to every port (143 -> 10143); demo: 10000.")
@click.option("--demo", is_flag=True, help="Make a demo organization with three mailboxes, if there is none yet.")
@click.option("--single-process", is_flag=True, help="Every role in this process: for debugging.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="What is logged.")
@click.pass_context
def command(ctx: click.Context, data: str | None, port_offset: int | None, demo: bool, single_process: bool,
            log_level: str | None) -> None:
    """Run an island in the foreground until it is told to stop.

    \b
    Examples:
      atoll serve --demo
      atoll --data /var/lib/atoll serve
    """
    if data:
        ctx.ensure_object(dict)["data"] = data
    options = ["--data", str(data_of(ctx))]
    if log_level:
        options += ["--log-level", log_level]
    if port_offset is not None:
        options += ["--port-offset", str(port_offset)]
    options += ["--demo"] if demo else []
    options += ["--single-process"] if single_process else []
    # The supervisor takes this process over: it carries nothing of the command line's libraries.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "atoll.roles.supervisor", *options])  # noqa: S606
