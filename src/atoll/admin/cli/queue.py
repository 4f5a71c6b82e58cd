"""atoll queue list | show | retry | suspend | resume | export | remove."""

from __future__ import annotations

import os
from pathlib import Path

import click

from atoll.admin import ops
from atoll.admin.cli.client import ask, common, done, emit, fail, size_text, sure, table, time_text
from atoll.runtime.rpc import Empty


@click.group()
def command() -> None:
    """Mail that waits in transport."""


@command.command("list")
@common
def list_() -> None:
    """Show every queue.

    Example: atoll queue list
    """
    found = ask("queue.list", Empty(), ops.Queues)
    emit(found, lambda: table(("QUEUE", "MESSAGES", "SIZE", "STATE", "NEXT TRY", "LAST ERROR"), [
        (row.queue, row.messages, size_text(row.size), row.state, time_text(row.next_try), row.last_error)
        for row in found.queues]))


@command.command()
@click.argument("queue", default="")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 100_000))
@common
def show(queue: str, limit: int) -> None:
    """Show the messages of a queue, or of all.

    Example: atoll queue show mailbox-1
    """
    found = ask("queue.show", ops.QueueName(queue, limit), ops.QueuedMessages)
    emit(found, lambda: table(("ID", "ARRIVED", "FROM", "TO", "SIZE", "TRIES", "LAST ERROR"), [
        (row.id, time_text(row.arrived), row.sender, ", ".join(row.recipients), size_text(row.size), row.tries,
         row.last_error) for row in found.messages]))


@command.command()
@click.argument("id_", metavar="[ID]", default="")
@click.option("--queue", default="", help="Every message of this queue.")
@common
def retry(id_: str, queue: str) -> None:
    """Try now: one message, a queue, or everything.

    Example: atoll queue retry --queue mailbox-1
    """
    count = ask("queue.retry", ops.QueueAct(id_, queue), ops.Count)
    done(f"{count.count} being tried", count)


@command.command()
@click.argument("queue")
@common
def suspend(queue: str) -> None:
    """Try nothing of a queue until it is resumed.

    New mail for it is still taken in. What is under way is finished.

    Example: atoll queue suspend outside.example
    """
    done(f"{queue} is suspended", ask("queue.suspend", ops.QueueStop(queue), Empty))


@command.command()
@click.argument("queue")
@common
def resume(queue: str) -> None:
    """Go on with a queue that was suspended.

    Example: atoll queue resume outside.example
    """
    done(f"{queue} goes on", ask("queue.suspend", ops.QueueStop(queue, stop=False), Empty))


@command.command()
@click.argument("id_", metavar="ID")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@common
def export(id_: str, file: Path) -> None:
    """Write a message that waits to a file, as it is.

    Example: atoll queue export 5f2c… message.eml
    """
    content = bytearray()
    while True:
        piece = ask("queue.export", ops.PieceOf(id_, len(content)), ops.Piece)
        content += piece.data
        if len(content) >= piece.total or not piece.data:
            break
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
            out.write(content)
    except OSError as error:
        fail(f"{file}: {error.strerror}", "refused")
    done(f"{len(content)} octets in {file}", ops.Count(len(content)))


@command.command()
@click.argument("id_", metavar="[ID]", default="")
@click.option("--queue", default="", help="Every message of this queue.")
@click.option("--notify", is_flag=True, help="Tell the senders.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def remove(id_: str, queue: str, notify: bool, yes: bool) -> None:
    """Remove one message or a whole queue, undelivered.

    Example: atoll queue remove 5f2c… --notify
    """
    if bool(id_) == bool(queue):
        raise click.UsageError("an id or --queue")
    sure("Remove this mail undelivered?", yes)
    count = ask("queue.remove", ops.QueueAct(id_, queue, notify), ops.Count)
    done(f"{count.count} removed", count)
