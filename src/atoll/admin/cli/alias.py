"""atoll alias create | list | remove."""

from __future__ import annotations

import click

from atoll.admin import ops
from atoll.admin.cli.client import ADDRESS, ALIAS, ask, common, done, emit, table, tell


@click.group()
def command() -> None:
    """More addresses for a mailbox."""


@command.command()
@click.argument("alias")
@click.argument("mailbox", type=ADDRESS)
@common
def create(alias: str, mailbox: str) -> None:
    """Deliver mail for ALIAS to MAILBOX.

    Example: atoll alias create info@example.org alice@example.org
    """
    tell("alias.create", ops.AliasCreate(alias, mailbox))
    done(f"{alias}: created")


@command.command("list")
@click.argument("mailbox", default="", type=ADDRESS)
@click.option("--domain", default="", help="Only in this domain.")
@common
def list_(mailbox: str, domain: str) -> None:
    """Show aliases: of one mailbox, of a domain, or all.

    Example: atoll alias list --domain example.org
    """
    found = ask("alias.list", ops.AliasFilter(mailbox, domain), ops.Aliases)
    emit(found, lambda: table(("ALIAS", "MAILBOX"), [(row.alias, row.mailbox) for row in found.aliases]))


@command.command()
@click.argument("alias", type=ALIAS)
@common
def remove(alias: str) -> None:
    """Take an alias away.

    Example: atoll alias remove info@example.org
    """
    tell("alias.remove", ops.AliasName(alias))
    done(f"{alias}: removed")
