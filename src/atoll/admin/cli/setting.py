"""atoll setting get | set."""

from __future__ import annotations

import click

from atoll.admin import ops
from atoll.admin.cli.client import SETTING, ask, common, done, emit, size_text, table, tell


@click.group()
def command() -> None:
    """Organization-wide settings."""


@command.command()
@click.argument("name", default="", type=SETTING)
@common
def get(name: str) -> None:
    """Show one setting, or all.

    Example: atoll setting get quota-receive
    """
    found = ask("setting.get", ops.SettingName(name), ops.Settings)
    emit(found, lambda: table(("SETTING", "VALUE", "ABOUT"), [
        (row.name, _shown(row), row.about) for row in found.settings]))


def _shown(row: ops.SettingRow) -> str:
    if row.value is None:
        return "(default)"
    return size_text(int(row.value)) if row.name.startswith("quota-") and row.value.isdigit() else row.value


@command.command("set")
@click.argument("name", type=SETTING)
@click.argument("value", required=False)
@click.option("--default", "default", is_flag=True, help="Back to the default.")
@common
def set_(name: str, value: str | None, default: bool) -> None:
    """Change a setting. A size is 500M, 10G or none.

    \b
    Examples:
      atoll setting set quota-receive 10G
      atoll setting set quota-receive --default
    """
    if default == (value is not None):
        raise click.UsageError("a value or --default")
    tell("setting.set", ops.SettingSet(name, value))
    done(f"{name}: changed")
