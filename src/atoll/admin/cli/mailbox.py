"""atoll mailbox create | list | show | change | disable | enable | remove | removed | restore | purge | password |
recoverable."""

from __future__ import annotations

import click

from atoll.admin import ops
from atoll.admin.cli.client import (
    ADDRESS,
    DATABASE,
    DOMAIN,
    REMOVED,
    SIZE,
    ask,
    common,
    done,
    emit,
    facts,
    read_secret,
    size_text,
    sure,
    table,
    tell,
    time_text,
)

PROTOCOLS = click.Choice(["imap", "pop3", "submit"])


@click.group()
def command() -> None:
    """Mailboxes: people's and shared ones."""


def _secret(password_stdin: bool, hash_stdin: bool) -> tuple[bytes, str]:
    if password_stdin and hash_stdin:
        raise click.UsageError("--password-stdin or --hash-stdin, not both")
    if hash_stdin:
        return b"", read_secret(True, "Hash").decode("ascii", "replace")
    return read_secret(password_stdin), ""


@command.command()
@click.argument("address")
@click.option("--display", default="", help="Name that people see.")
@click.option("--shared", is_flag=True, help="A shared mailbox: nobody signs in with it, others open it by rights.")
@click.option("--database", default="", type=DATABASE,
              help="Where it lives; else the database with the fewest mailboxes.")
@click.option("--quota", type=SIZE, help="What it may hold (10G): warned at 90 %, sending stops at 95 %.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--hash-stdin", is_flag=True,
              help="Read a password hash: {SHA512-CRYPT}, {SSHA}, {BLF-CRYPT}, {ARGON2ID}.")
@common
def create(address: str, display: str, shared: bool, database: str, quota: int | None, password_stdin: bool,
           hash_stdin: bool) -> None:
    """Make a mailbox. Without a password one is made and printed, once.

    \b
    Examples:
      atoll mailbox create alice@example.org --display "Alice Doe"
      echo secret-words | atoll mailbox create bob@example.org --password-stdin --quota 10G
      atoll mailbox create sales@example.org --shared
    """
    if shared and (password_stdin or hash_stdin):
        raise click.UsageError("nobody signs in to a shared mailbox: it has no password")
    password, hash_ = _secret(password_stdin, hash_stdin)
    steps = ops.Quota(quota * 90 // 100, quota * 95 // 100, quota) if quota is not None else None
    made = ask("mailbox.create", ops.MailboxCreate(address, display, shared, database, steps, password, hash_),
               ops.MailboxCreated)
    pairs: list[tuple[str, object]] = [("created", made.address), ("database", made.database)]
    if made.password:
        pairs.append(("password", made.password))
    emit(made, lambda: facts(pairs))


@command.command("list")
@click.option("--domain", default="", type=DOMAIN, help="Only of this domain.")
@click.option("--text", default="", help="Part of the address or display name.")
@common
def list_(domain: str, text: str) -> None:
    """Show mailboxes.

    \b
    Examples:
      atoll mailbox list
      atoll mailbox list --domain example.org --text doe
      atoll mailbox list --json | jq -r '.mailboxes[] | select(.enabled | not).address'
    """
    found = ops.Mailboxes([])
    after = ""
    while True:
        page = ask("mailbox.list", ops.MailboxFilter(domain, text, after), ops.Mailboxes).mailboxes
        found.mailboxes += page
        if len(page) < 1000:
            break
        after = page[-1].address
    emit(found, lambda: table(
        ("ADDRESS", "NAME", "KIND", "STATE", "DATABASE", "QUOTA"),
        [(row.address, row.display, row.kind, row.state if row.enabled else "disabled", row.database,
          size_text(row.quota.receive)) for row in found.mailboxes]))


@command.command()
@click.argument("address", type=ADDRESS)
@common
def show(address: str) -> None:
    """Show one mailbox.

    Example: atoll mailbox show alice@example.org
    """
    shown = ask("mailbox.show", ops.MailboxAddress(address), ops.MailboxShow)
    row = shown.mailbox
    emit(shown, lambda: facts((
        ("address", row.address), ("name", row.display), ("kind", row.kind), ("state", row.state),
        ("enabled", "yes" if row.enabled else "no"), ("database", f"{row.database} ({shown.backend})"),
        ("aliases", ", ".join(shown.aliases) or "none"), ("protocols", ", ".join(shown.protocols)),
        ("app passwords", f"{shown.app_passwords}{' (only these)' if shown.app_passwords_only else ''}"),
        ("quota", f"{size_text(row.quota.receive)}{'' if shown.own_quota else ' (default)'}"),
        ("created", time_text(shown.created)), ("mailbox id", row.mailbox), ("user id", row.user))))


@command.command()
@click.argument("address", type=ADDRESS)
@click.option("--display", help="Name that people see.")
@click.option("--protocol", "protocols", multiple=True, type=PROTOCOLS, help="A protocol that may be used (repeat).")
@click.option("--app-passwords-only/--any-password", default=None, help="Refuse the main password on mail protocols.")
@common
def change(address: str, display: str | None, protocols: tuple[str, ...], app_passwords_only: bool | None) -> None:
    """Change a mailbox; what is not given stays.

    Example: atoll mailbox change alice@example.org --protocol imap --protocol submit
    """
    if display is None and not protocols and app_passwords_only is None:
        raise click.UsageError("nothing to change")
    tell("mailbox.change", ops.MailboxChange(address, display, list(protocols) or None, app_passwords_only))
    done(f"{address}: changed")


@command.command()
@click.argument("address", type=ADDRESS)
@common
def disable(address: str) -> None:
    """Forbid sign-in and end open sessions. Mail still arrives.

    Example: atoll mailbox disable alice@example.org
    """
    tell("mailbox.disable", ops.MailboxAddress(address))
    done(f"{address}: disabled")


@command.command()
@click.argument("address", type=ADDRESS)
@common
def enable(address: str) -> None:
    """Allow sign-in again.

    Example: atoll mailbox enable alice@example.org
    """
    tell("mailbox.enable", ops.MailboxAddress(address))
    done(f"{address}: enabled")


@command.command()
@click.argument("address", type=ADDRESS)
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def remove(address: str, yes: bool) -> None:
    """Remove a mailbox with its aliases and app passwords.

    Sessions end, mail is refused at once. What it holds is kept for store.removed_days (30) and can be restored.

    Example: atoll mailbox remove alice@example.org --yes
    """
    sure(f"Remove the mailbox {address}?", yes)
    tell("mailbox.remove", ops.MailboxAddress(address))
    done(f"{address}: removed (atoll mailbox restore {address} brings it back)")


@command.command()
@click.option("--domain", default="", type=DOMAIN, help="Only of this domain.")
@click.option("--text", default="", help="Part of the address or display name.")
@common
def removed(domain: str, text: str) -> None:
    """Show removed mailboxes that can be restored, the newest first.

    Example: atoll mailbox removed --domain example.org
    """
    found = ask("mailbox.removed", ops.MailboxFilter(domain, text), ops.RemovedRows)
    emit(found, lambda: table(("ADDRESS", "NAME", "DATABASE", "REMOVED", "KEPT UNTIL", "MAILBOX ID"), [
        (row.address, row.display, row.database, time_text(row.removed), time_text(row.purged_after), row.mailbox)
        for row in found.mailboxes]))


@command.command()
@click.argument("address", default="", type=REMOVED)
@click.option("--id", "mailbox", default="", help="The one with this id; else the newest that had the address.")
@click.option("--as", "new", default="", metavar="ADDRESS", help="Give it this address; the old one may be taken.")
@common
def restore(address: str, mailbox: str, new: str) -> None:
    """Bring a removed mailbox back.

    With its mail, folders, rights, password, and those of its addresses that are free. App passwords stay revoked.

    \b
    Examples:
      atoll mailbox restore alice@example.org
      atoll mailbox restore --id 6xk2… --as alice.old@example.org
    """
    if bool(address) == bool(mailbox):
        raise click.UsageError("an address, or --id")
    restored = ask("mailbox.restore", ops.MailboxRestore(address, mailbox, new), ops.MailboxRestored)
    done(f"{restored.address}: restored", restored)


@command.command()
@click.argument("address", default="", type=REMOVED)
@click.option("--id", "mailbox", default="", help="The one with this id; else the newest that had the address.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def purge(address: str, mailbox: str, yes: bool) -> None:
    """Destroy a removed mailbox now. Nothing brings it back but a backup.

    Example: atoll mailbox purge alice@example.org --yes
    """
    if bool(address) == bool(mailbox):
        raise click.UsageError("an address, or --id")
    sure(f"Destroy the mail of the removed mailbox {address or mailbox}?", yes)
    tell("mailbox.purge", ops.RemovedMailbox(address, mailbox))
    done(f"{address or mailbox}: purged")


@command.command()
@click.argument("address", type=ADDRESS)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--hash-stdin", is_flag=True, help="Read a password hash from standard input.")
@common
def password(address: str, password_stdin: bool, hash_stdin: bool) -> None:
    """Set a new password and end open sessions. Without --password-stdin one is made and printed, once.

    Example: pwgen | atoll mailbox password alice@example.org --password-stdin
    """
    secret, hash_ = _secret(password_stdin, hash_stdin)
    made = ask("mailbox.password", ops.MailboxPassword(address, secret, hash_), ops.Password)
    emit(made, lambda: facts((("password", made.password),)) if made.password else click.echo(f"{address}: changed"))


@command.group()
def recoverable() -> None:
    """Deleted items that can still be got back."""


@recoverable.command("list")
@click.argument("address", type=ADDRESS)
@click.option("--text", default="", help="Part of the subject or sender.")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 100_000))
@common
def recoverable_list(address: str, text: str, limit: int) -> None:
    """Show deleted items, newest first.

    Example: atoll mailbox recoverable list alice@example.org --text invoice
    """
    found = ask("mailbox.recoverable", ops.RecoverableFilter(address, text, limit), ops.Recoverables)
    emit(found, lambda: table(("ID", "DELETED", "FOLDER", "FROM", "SUBJECT", "SIZE"), [
        (row.id, time_text(row.deleted), row.folder, row.sender, row.subject, size_text(row.size))
        for row in found.items]))


@recoverable.command("recover")
@click.argument("address", type=ADDRESS)
@click.argument("ids", nargs=-1)
@click.option("--text", default="", help="Everything with this in its subject or sender.")
@click.option("--all", "all_", is_flag=True, help="Everything.")
@click.option("--into", default="", help="A folder to put them in; else where each was.")
@common
def recoverable_recover(address: str, ids: tuple[str, ...], text: str, all_: bool, into: str) -> None:
    """Put deleted items back.

    \b
    Examples:
      atoll mailbox recoverable recover alice@example.org 1204 1207
      atoll mailbox recoverable recover alice@example.org --text invoice --into Recovered
    """
    if not ids and not text and not all_:
        raise click.UsageError("ids, --text or --all")
    count = ask("mailbox.recover", ops.Recover(address, list(ids), text, into), ops.Count)
    done(f"{count.count} recovered", count)
