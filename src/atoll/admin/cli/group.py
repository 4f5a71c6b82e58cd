"""atoll group create | list | show | change | add | drop | remove."""

from __future__ import annotations

import click

from atoll.admin import ops
from atoll.admin.cli.client import ADDRESS, ask, common, done, emit, facts, sure, table, tell

WHO = click.Choice(["anyone", "organization", "members", "listed"])
_WHO = ("Who may send to it: anyone; people of the organization; of those its members and owners; or those that were "
        "added with --role sender.")
ROLE = click.option("--role", type=click.Choice(["member", "owner", "sender"]), default="member", show_default=True,
                    help="As what.")


@click.group()
def command() -> None:
    """Distribution groups: one address for many people.

    Members may be mailboxes, other groups, or addresses elsewhere.
    """


@command.command()
@click.argument("address", type=ADDRESS)
@click.option("--display", default="", help="Its name.")
@click.option("--who", type=WHO, default="organization", show_default=True, help=_WHO)
@click.option("--member", "members", multiple=True, type=ADDRESS, help="A member (may be repeated).")
@click.option("--owner", "owners", multiple=True, type=ADDRESS, help="An owner (may be repeated).")
@common
def create(address: str, display: str, who: ops.Who, members: tuple[str, ...], owners: tuple[str, ...]) -> None:
    """Make a group.

    Example: atoll group create team@example.org --member alice@example.org --member bob@example.org
    """
    tell("group.create", ops.GroupCreate(address, display, who, list(members), list(owners)))
    done(f"{address}: created")


@command.command("list")
@click.option("--domain", default="", help="Only in this domain.")
@common
def list_(domain: str) -> None:
    """Show groups.

    Example: atoll group list --domain example.org
    """
    found = ask("group.list", ops.GroupFilter(domain), ops.GroupRows)
    emit(found, lambda: table(("GROUP", "NAME", "WHO MAY SEND", "MEMBERS", "OWNERS"), [
        (row.address, row.display, row.who, len(row.members), ", ".join(row.owners)) for row in found.groups]))


@command.command()
@click.argument("address", type=ADDRESS)
@common
def show(address: str) -> None:
    """Show a group and its members.

    Example: atoll group show team@example.org
    """
    row = ask("group.show", ops.GroupName(address), ops.GroupRow)
    emit(row, lambda: facts((("group", row.address), ("name", row.display), ("who may send", row.who),
                             ("owners", ", ".join(row.owners)), ("senders", ", ".join(row.senders)),
                             *(("member", one) for one in row.members))))


@command.command()
@click.argument("address", type=ADDRESS)
@click.option("--display", default=None, help="Its name.")
@click.option("--who", type=WHO, default=None, help=_WHO)
@common
def change(address: str, display: str | None, who: ops.Who | None) -> None:
    """Change a group.

    Example: atoll group change team@example.org --who members
    """
    tell("group.change", ops.GroupChange(address, display, who))
    done(f"{address}: changed")


@command.command()
@click.argument("address", type=ADDRESS)
@click.argument("others", nargs=-1, required=True)
@ROLE
@common
def add(address: str, others: tuple[str, ...], role: ops.Role) -> None:
    """Put addresses into a group.

    Example: atoll group add team@example.org carol@example.org friend@elsewhere.example
    """
    count = ask("group.add", ops.GroupMembers(address, list(others), role), ops.Count)
    done(f"{count.count} added", count)


@command.command()
@click.argument("address", type=ADDRESS)
@click.argument("others", nargs=-1, required=True)
@ROLE
@common
def drop(address: str, others: tuple[str, ...], role: ops.Role) -> None:
    """Take addresses out of a group.

    Example: atoll group drop team@example.org carol@example.org
    """
    count = ask("group.drop", ops.GroupMembers(address, list(others), role), ops.Count)
    done(f"{count.count} taken out", count)


@command.command()
@click.argument("address", type=ADDRESS)
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def remove(address: str, yes: bool) -> None:
    """Remove a group. Its members stay who they are.

    Example: atoll group remove team@example.org
    """
    sure(f"Remove {address}?", yes)
    tell("group.remove", ops.GroupName(address))
    done(f"{address}: removed")
