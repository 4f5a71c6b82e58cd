"""atoll domain create | list | show | change | remove."""

from __future__ import annotations

import click

from atoll.admin import ops
from atoll.admin.cli.client import DOMAIN, ask, common, done, emit, facts, sure, table, tell
from atoll.runtime.rpc import Empty


@click.group()
def command() -> None:
    """Domains that this organization accepts mail for."""


@command.command()
@click.argument("name")
@common
def create(name: str) -> None:
    """Accept mail for a domain.

    Example: atoll domain create example.org
    """
    tell("domain.create", ops.DomainName(name))
    done(f"{name}: created")


@command.command("list")
@common
def list_() -> None:
    """Show every domain.

    Example: atoll domain list
    """
    found = ask("domain.list", Empty(), ops.Domains)
    emit(found, lambda: table(("DOMAIN", "MAILBOXES", "ALIASES", "CATCH-ALL"),
                              [(row.name, row.mailboxes, row.aliases, row.catch_all) for row in found.domains]))


@command.command()
@click.argument("name", type=DOMAIN)
@common
def show(name: str) -> None:
    """Show one domain.

    Example: atoll domain show example.org
    """
    row = ask("domain.show", ops.DomainName(name), ops.DomainRow)
    emit(row, lambda: facts((("domain", row.name), ("mailboxes", row.mailboxes), ("aliases", row.aliases),
                             ("catch-all", row.catch_all or "none"))))


@command.command()
@click.argument("name", type=DOMAIN)
@click.option("--catch-all", help='The mailbox that gets mail for unknown addresses; "" for none.', required=True)
@common
def change(name: str, catch_all: str) -> None:
    """Change a domain.

    Example: atoll domain change example.org --catch-all postmaster@example.org
    """
    tell("domain.change", ops.DomainChange(name, catch_all))
    done(f"{name}: changed")


@command.command()
@click.argument("name", type=DOMAIN)
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def remove(name: str, yes: bool) -> None:
    """Stop accepting mail for a domain that has no addresses left.

    Example: atoll domain remove example.org --yes
    """
    sure(f"Stop accepting mail for {name}?", yes)
    tell("domain.remove", ops.DomainName(name))
    done(f"{name}: removed")
