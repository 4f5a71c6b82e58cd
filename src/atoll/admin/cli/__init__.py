"""The `atoll` command: `atoll NOUN VERB`, a thin client of the administration API.

In     arguments; `--data DIR` or ATOLL_DATA says which island.
Out    a table for people, `--json` for programs. Exit code 0 done, 1 refused, 2 usage, 3 not found, 4 try again later.
Spec   docs/seams.md 7. Each noun is a module that is imported when it is used: the command starts in well under 0.3 s.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from contextlib import suppress
from typing import Any

import click

from atoll.base.version import __version__

NOUNS: dict[str, tuple[str, str]] = {
    "serve": ("serve", "Run an island: every role, under one supervisor."),
    "domain": ("domain", "Domains that this organization accepts mail for."),
    "mailbox": ("mailbox", "Mailboxes: people's and shared ones."),
    "alias": ("alias", "More addresses for a mailbox."),
    "group": ("group", "Distribution groups: one address for many people."),
    "dkim": ("dkim", "Keys that sign the mail of our domains (DKIM)."),
    "app-password": ("app_password", "Passwords for one program each, made by the server."),
    "quota": ("quota", "How much a mailbox may hold."),
    "session": ("session", "Who is signed in; sign them out."),
    "setting": ("setting", "Organization-wide settings."),
    "database": ("database", "Mailbox databases: mount, check, back up, restore."),
    "queue": ("queue", "Mail that waits in transport."),
    "message": ("message", "Follow a message through the island."),
    "import": ("import_", "Bring mail from another server or from files."),
    "export": ("export", "Write mail to Maildir, mbox or EML."),
    "audit": ("audit", "The audit log: who did what."),
    "health": ("health", "Is everything well?"),
    "role": ("role", "The island's processes: see them, replace them."),
    "config": ("config", "The configuration file."),
    "completion": ("completion", "Completion for your shell."),
}
"""Command -> (module of this package, its line in --help). The module's `command` is the click command."""


class Nouns(click.Group):
    """Finds a noun's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in NOUNS:
            return None
        module = importlib.import_module(f"atoll.admin.cli.{NOUNS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(self, ctx: click.Context,
                        args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """A noun that is mistyped, or in the plural, is answered with the one that was meant."""
        if args and args[0] not in NOUNS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], NOUNS, 1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {close[0]!r}?" if close else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in NOUNS.items()])


@click.group(cls=Nouns, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", envvar="ATOLL_DATA", type=click.Path(file_okay=False, readable=False), default="atoll-data",
              show_default=True, help="The island's data directory.")
@click.version_option(__version__, prog_name="atoll")
@click.pass_context
def cli(ctx: click.Context, data: str) -> None:
    """Atoll, a mail server: every server is an island.

    \b
    Examples:
      atoll serve --demo
      atoll domain create example.org
      atoll mailbox create alice@example.org --display "Alice Doe"
      atoll mailbox list --json
      atoll import imap://old.example.org --csv people.csv

    Every command knows --help, --json and --data. Exit codes: 0 done, 1 refused, 2 usage, 3 not found, 4 try again
    later.
    """
    ctx.obj = {"data": data}


def main(args: list[str] | None = None) -> Any:
    """The console script."""
    try:
        return cli(args, prog_name="atoll")
    except OSError as error:  # a full disk behind the output, a file that went: one line, as every other error
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what it still holds is not tried again
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"atoll: {where}{error.strerror or error}", err=True)
        sys.exit(4)
