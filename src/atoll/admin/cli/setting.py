"""atoll setting get | set."""

from __future__ import annotations

import click

from atoll.admin import ops
from atoll.admin.cli.client import ask, common, done, emit, table, tell


@click.group()
def command() -> None:
    """Organization-wide settings."""


@command.command()
@click.argument("name", default="")
@common
def get(name: str) -> None:
    """Show one setting, or all."""
    found = ask("setting.get", ops.SettingName(name), ops.Settings)
    emit(found, lambda: table(("SETTING", "VALUE", "ABOUT"), [
        (row.name, "(default)" if row.value is None else row.value, row.about) for row in found.settings]))


@command.command("set")
@click.argument("name")
@click.argument("value", required=False)
@click.option("--default", "default", is_flag=True, help="Back to the default.")
@common
def set_(name: str, value: str | None, default: bool) -> None:
    """Change a setting.

    Example: atoll setting set quota-receive 10737418240
    """
    if default == (value is not None):
        raise click.UsageError("a value or --default")
    tell("setting.set", ops.SettingSet(name, value))
    done(f"{name}: changed")
