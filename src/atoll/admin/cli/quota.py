"""atoll quota list | show | set."""

from __future__ import annotations

import click

from atoll.admin import ops
from atoll.admin.cli.client import ADDRESS, SIZE, ask, common, done, emit, facts, size_text, table, tell
from atoll.runtime.rpc import Empty

STATES = {"": "within its limits", "warned": "owner warned", "no-sending": "may not send",
          "full": "may not send or receive"}


@click.group()
def command() -> None:
    """How much a mailbox may hold."""


@command.command()
@click.argument("address", type=ADDRESS)
@common
def show(address: str) -> None:
    """Show a mailbox's limits and what it holds.

    Example: atoll quota show alice@example.org
    """
    shown = ask("quota.show", ops.MailboxAddress(address), ops.QuotaShow)
    now = STATES[shown.reached] if shown.used >= 0 else "unknown: its database is not mounted"
    emit(shown, lambda: facts((
        ("address", shown.address), ("used", size_text(shown.used) if shown.used else "0B"),
        ("items", shown.items if shown.items >= 0 else "?"), ("warn at", size_text(shown.quota.warn)),
        ("no sending at", size_text(shown.quota.send)), ("no receiving at", size_text(shown.quota.receive)),
        ("set", "for this mailbox" if shown.own else "by default"), ("now", now))))


@command.command("list")
@common
def list_() -> None:
    """Show who is over a limit, the fullest first.

    \b
    Examples:
      atoll quota list
      atoll quota list --json | jq -r '.mailboxes[] | select(.reached == "full").address'
    """
    found = ask("quota.list", Empty(), ops.QuotaRows)
    emit(found, lambda: table(("ADDRESS", "NOW", "WARN", "SEND", "RECEIVE"), [
        (row.address, STATES[row.reached], size_text(row.quota.warn), size_text(row.quota.send),
         size_text(row.quota.receive)) for row in found.mailboxes]))


@command.command("set")
@click.argument("address", type=ADDRESS)
@click.option("--warn", type=SIZE, help="The owner is warned.")
@click.option("--send", type=SIZE, help="Sending stops.")
@click.option("--receive", type=SIZE, help="Receiving stops as well.")
@click.option("--default", "default", is_flag=True, help="Back to the organization's default.")
@common
def set_(address: str, warn: int | None, send: int | None, receive: int | None, default: bool) -> None:
    """Set a mailbox's quota. A size is 500M, 10G or none.

    Example: atoll quota set alice@example.org --warn 9G --send 9.5G --receive 10G
    """
    steps = (warn, send, receive)
    if default == any(step is not None for step in steps):
        raise click.UsageError("--default, or at least one of --warn, --send, --receive")
    quota = None
    if not default:
        now = ask("quota.show", ops.MailboxAddress(address), ops.QuotaShow).quota
        quota = ops.Quota(*(old if new is None else new
                            for old, new in zip((now.warn, now.send, now.receive), steps, strict=True)))
    tell("quota.set", ops.QuotaSet(address, quota))
    done(f"{address}: changed")
