"""atoll audit list | verify."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping

import click

from atoll.admin import ops
from atoll.admin.cli.client import ask, common, emit, facts, table, time_text
from atoll.runtime.rpc import Empty

_HEAD = ("seq", "time", "kind", "user", "hash")


@click.group()
def command() -> None:
    """The audit log: who did what."""


@command.command("list")
@click.option("--kind", default="", help="auth, auth.failed, admin, admin.mailbox.create, ...")
@click.option("--user", default="", help="An address or user id.")
@click.option("--hours", default=24.0, show_default=True, help="How far back to look.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@common
def list_(kind: str, user: str, hours: float, limit: int) -> None:
    """Show the newest events.

    Example: atoll audit list --kind auth.failed --user alice@example.org
    """
    since = int((time.time() - hours * 3600) * 1000)
    found = ask("audit.list", ops.AuditFilter(kind, user, since, limit), ops.AuditEvents)
    emit(found, lambda: table(("TIME", "EVENT", "USER", "DETAIL"), [
        (time_text(int(event.get("time") or 0)),  # type: ignore[arg-type]
         event.get("kind", ""), event.get("user", ""), _detail(event)) for event in found.events]))


def _detail(event: Mapping[str, object]) -> str:
    """What else an event says: parameters by their names, without those that say nothing. --json has all of it."""
    pairs: list[tuple[str, object]] = []
    for key, value in event.items():
        if key == "params" and isinstance(value, Mapping):
            pairs += [(name, one) for name, one in value.items() if one not in ("false", "")]
        elif key not in _HEAD:
            pairs.append((key, value))
    return " ".join(f"{key}={value if isinstance(value, str) and ' ' not in value else json.dumps(value)}"
                    for key, value in pairs)


@command.command()
@common
def verify() -> None:
    """Follow the chain of hashes from the first event. Exit code 1 when it is broken.

    Example: atoll audit verify
    """
    found = ask("audit.verify", Empty(), ops.AuditVerified)
    emit(found, lambda: facts((("chain", "whole" if found.ok else f"BROKEN: {found.broken}"), ("events", found.lines),
                               ("last number", found.seq), ("last hash", found.hash))))
    if not found.ok:
        sys.exit(1)
