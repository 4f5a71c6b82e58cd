"""atoll config check."""

from __future__ import annotations

import os
from pathlib import Path

import click
import msgspec

from atoll.admin.cli.client import common, data_of, emit, fail


@click.group()
def command() -> None:
    """The configuration file."""


@command.command()
@click.argument("file", type=click.Path(dir_okay=False, readable=False), required=False)
@common
@click.pass_context
def check(ctx: click.Context, file: str | None) -> None:
    """Is a configuration file good? Without FILE, the island's own.

    --json prints every setting in effect. Exit code 1 when the file cannot be used.

    Example: ATOLL_SMTP__RECIPIENTS=500 atoll config check
    """
    from atoll.base.config import ConfigError, load
    from atoll.runtime.paths import DataPaths

    path = Path(file) if file else DataPaths(data_of(ctx)).config
    if file and not os.path.lexists(path) and os.access(path.parent, os.X_OK):
        fail(f"{path} does not exist", "not_found")
    try:
        config = load(path, os.environ)
    except ConfigError as error:
        fail(str(error), "invalid")
    emit(msgspec.structs.replace(config, demo=()), lambda: click.echo(f"{path}: good" if path.exists() else
                                                                     f"{path} does not exist: the defaults are used"))
