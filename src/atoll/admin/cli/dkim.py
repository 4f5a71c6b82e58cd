"""atoll dkim create | list | show | check | remove."""

from __future__ import annotations

import click

from atoll.admin import ops
from atoll.admin.cli.client import DOMAIN, ask, common, done, emit, sure, table, tell, time_text

STRING = 255
"""Octets of one string of a TXT record."""
STATES = {"signs": "signs", "replaced": "in the DNS; a newer key signs", "hidden": "not in the DNS: does not sign",
          "unknown": "the DNS does not answer"}


@click.group()
def command() -> None:
    """Keys that sign the mail of our domains (DKIM)."""


@command.command()
@click.argument("domain", type=DOMAIN)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(["rsa", "ed25519"]), help="One kind only; else both.")
@common
def create(domain: str, kinds: tuple[str, ...]) -> None:
    """Make keys for a domain; print the DNS records to publish.

    A key is used as soon as the DNS shows it, and takes over from older ones of its kind. To change keys, make new
    ones, publish them, and remove the old ones a week later.

    Example: atoll dkim create example.org
    """
    tell("dkim.create", ops.DkimCreate(domain, list(kinds)))
    _show(domain, newest=len(kinds) or 2)


@command.command("list")
@click.argument("domain", type=DOMAIN, default="")
@common
def list_(domain: str) -> None:
    """Show the keys of one domain, or of all.

    Example: atoll dkim list
    """
    found = ask("dkim.list", ops.DkimFilter(domain), ops.DkimRows)
    emit(found, lambda: table(("DOMAIN", "SELECTOR", "KIND", "CREATED"),
                              [(row.domain, row.selector, row.kind, time_text(row.created)) for row in found.keys]))


@command.command()
@click.argument("domain", type=DOMAIN)
@common
def show(domain: str) -> None:
    """Print the DNS records of a domain's keys, for its zone.

    Example: atoll dkim show example.org
    """
    _show(domain)


@command.command()
@click.argument("domain", type=DOMAIN)
@common
def check(domain: str) -> None:
    """Ask the DNS which keys it shows, and say which of them sign.

    Example: atoll dkim check example.org
    """
    found = ask("dkim.check", ops.DkimFilter(domain), ops.DkimStates)
    emit(found, lambda: table(("SELECTOR", "KIND", "STATE"),
                              [(row.selector, row.kind, STATES.get(row.state, row.state)) for row in found.keys]))


@command.command()
@click.argument("domain", type=DOMAIN)
@click.argument("selector")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def remove(domain: str, selector: str, yes: bool) -> None:
    """Sign with a key no longer. Its DNS record stays until mail that is under way has arrived: a week.

    Example: atoll dkim remove example.org r20260101 --yes
    """
    sure(f"Remove the key {selector} of {domain}?", yes)
    tell("dkim.remove", ops.DkimName(domain, selector))
    done(f"{selector}._domainkey.{domain}: removed")


def _show(domain: str, newest: int = 0) -> None:
    found = ask("dkim.list", ops.DkimFilter(domain), ops.DkimRows)
    if newest:
        found.keys = found.keys[:newest]

    def lines() -> None:
        for row in found.keys:
            parts = [row.record[at : at + STRING] for at in range(0, len(row.record), STRING)]
            quoted = " ".join(f'"{part}"' for part in parts)
            click.echo(f"{row.name}. IN TXT ( {quoted} )")

    emit(found, lines)
