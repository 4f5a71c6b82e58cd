"""atoll app-password create | list | remove."""

from __future__ import annotations

import click

from atoll.admin import ops
from atoll.admin.cli.client import ADDRESS, ask, common, done, emit, facts, table, tell, time_text


@click.group()
def command() -> None:
    """Passwords for one program each, made by the server."""


@command.command()
@click.argument("address", type=ADDRESS)
@click.option("--name", required=True, help="What it is for, for people.")
@click.option("--protocol", "protocols", multiple=True, type=click.Choice(["imap", "pop3", "submit"]),
              help="Where it is good (repeat); else IMAP and submission.")
@common
def create(address: str, name: str, protocols: tuple[str, ...]) -> None:
    """Make an app password and print it, once.

    Example: atoll app-password create alice@example.org --name "Scanner" --protocol submit
    """
    made = ask("app-password.create", ops.AppPasswordCreate(address, name, list(protocols) or ["imap", "submit"]),
               ops.AppPasswordCreated)
    emit(made, lambda: facts((("id", made.id), ("password", made.password))))


@command.command("list")
@click.argument("address", type=ADDRESS)
@common
def list_(address: str) -> None:
    """Show which app passwords a mailbox has.

    Example: atoll app-password list alice@example.org
    """
    found = ask("app-password.list", ops.MailboxAddress(address), ops.AppPasswords)
    emit(found, lambda: table(("ID", "NAME", "PROTOCOLS", "CREATED"), [
        (row.id, row.name, " ".join(row.protocols), time_text(row.created)) for row in found.app_passwords]))


@command.command()
@click.argument("address", type=ADDRESS)
@click.argument("id_", metavar="ID")
@common
def remove(address: str, id_: str) -> None:
    """Revoke an app password. The mailbox's open sessions end.

    Example: atoll app-password remove alice@example.org 7jor7ugstib7mckxe27qu3rem4
    """
    tell("app-password.remove", ops.AppPasswordRemove(address, id_))
    done("removed")
