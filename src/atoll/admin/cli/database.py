"""atoll database list | mount | dismount | check | rescan | backup | backups | restore."""

from __future__ import annotations

import sys

import click

from atoll.admin import ops
from atoll.admin.cli.client import (
    ADDRESS,
    DATABASE,
    ask,
    common,
    done,
    emit,
    facts,
    size_text,
    sure,
    table,
    tell,
    time_text,
)
from atoll.runtime.rpc import Empty


@click.group()
def command() -> None:
    """Mailbox databases: mount, check, back up, restore."""


@command.command("list")
@common
def list_() -> None:
    """Show every database.

    Example: atoll database list
    """
    found = ask("database.list", Empty(), ops.Databases)
    emit(found, lambda: table(("DATABASE", "ROLE", "STATE", "MAILBOXES", "SIZE"), [
        (row.database, row.backend, row.state, row.mailboxes, size_text(row.size or -1)) for row in found.databases]))


@command.command()
@click.argument("database", type=DATABASE)
@common
def mount(database: str) -> None:
    """Open a database for use.

    Example: atoll database mount db1
    """
    tell("database.mount", ops.DatabaseName(database))
    done(f"{database}: mounted")


@command.command()
@click.argument("database", type=DATABASE)
@common
def dismount(database: str) -> None:
    """Close a database: its sessions end, mail for it waits.

    Example: atoll database dismount db1
    """
    tell("database.dismount", ops.DatabaseName(database))
    done(f"{database}: dismounted")


@command.command()
@click.argument("database", type=DATABASE)
@click.option("--repair", is_flag=True, help="Derive anew what can be derived.")
@common
def check(database: str, repair: bool) -> None:
    """Check blobs, counters and the change log. Exit code 1 when something does not hold.

    Example: atoll database check db1 --repair
    """
    report = ask("database.check", ops.DatabaseCheck(database, repair), ops.CheckReport)

    def text() -> None:
        if report.problems:
            table(("KIND", "WHERE", "PROBLEM", "REPAIRED"), [
                (row.kind, row.where, row.text, "yes" if row.repaired else "no") for row in report.problems])
        counts = ", ".join(f"{count} {name}" for name, count in report.checked.items())
        click.echo(f"{database}: checked {counts} in {report.seconds:.1f} s: {len(report.problems)} problems")

    emit(report, text)
    if any(not row.repaired for row in report.problems):
        sys.exit(1)


@command.command()
@click.argument("database", type=DATABASE)
@common
def rescan(database: str) -> None:
    """Look again at messages that could not be looked into. Exit code 4 when some are left: the content role is away.

    After an upgrade this happens by itself, a few messages a minute. A message that can be read now is a new one to
    clients (new UID), with its flags and dates.

    Example: atoll database rescan db1
    """
    found = ask("database.rescan", ops.DatabaseName(database), ops.Rescanned)
    emit(found, lambda: facts((("looked at", found.looked), ("read now", found.mended),
                               ("refused again", found.refused), ("left", found.left))))
    if found.left:
        sys.exit(4)


@command.command()
@click.argument("database", type=DATABASE)
@common
def backup(database: str) -> None:
    """Back up a database while it runs. The file's name is printed.

    Example: atoll database backup db1
    """
    made = ask("database.backup", ops.DatabaseName(database), ops.BackupMade)
    emit(made, lambda: facts((("backup", made.backup), ("size", size_text(made.size)),
                              ("seconds", f"{made.seconds:.1f}"))))


@command.command()
@click.argument("database", type=DATABASE)
@common
def backups(database: str) -> None:
    """Show a database's backups.

    Example: atoll database backups db1
    """
    found = ask("database.backups", ops.DatabaseName(database), ops.Backups)
    emit(found, lambda: table(("BACKUP", "MADE", "SIZE"), [
        (row.backup, time_text(row.made), size_text(row.size)) for row in found.backups]))


@command.command()
@click.argument("database", type=DATABASE)
@click.argument("backup_", metavar="BACKUP")
@click.option("--mailbox", default="", type=ADDRESS, help="Only this mailbox (address).")
@click.option("--folder", default="", help="Only this folder of the mailbox.")
@click.option("--item", default="", help="Only this item (id) of the mailbox.")
@click.option("--yes", is_flag=True, help="Do not ask (whole database).")
@common
def restore(database: str, backup_: str, mailbox: str, folder: str, item: str, yes: bool) -> None:
    """Restore from a backup.

    The whole database; or a mailbox, a folder or an item, beside the live content.

    \b
    Examples:
      atoll database backups db1
      atoll database restore db1 db1-20261124T101500 --mailbox alice@example.org --folder Archive
    """
    if (folder or item) and not mailbox:
        raise click.UsageError("--folder and --item need --mailbox")
    if not mailbox:
        sure(f"Replace the live database {database} by the backup?", yes)
    result = ask("database.restore", ops.DatabaseRestore(database, backup_, mailbox, folder, item), ops.Restored)
    done(f"{result.items} items restored into {result.into}" if mailbox else
         f"{database} is as it was in {backup_}; what was there before: {result.kept}", result)
