"""atoll export: a mailbox of this island as Maildir, mbox or EML files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from atoll.admin.cli.client import ADDRESS, EXIT, common, data_of, emit, fail, printable


class Exported(msgspec.Struct):
    """What was written."""

    mailbox: str
    path: str
    folders: int
    messages: int
    octets: int
    seconds: float


@click.group()
def command() -> None:
    """Write mail to Maildir, mbox or EML.

    \b
    Examples:
      atoll export maildir alice-mail --from alice@example.org
      atoll export mbox alice-mail --from alice@example.org --folder Archive
    """


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option("--folder", "only", multiple=True, help="Only this folder (may be repeated).")(function)
    function = click.option("--from", "address", required=True, type=ADDRESS, metavar="ADDRESS",
                            help="The mailbox.")(function)
    return click.argument("path", type=click.Path(file_okay=False, path_type=Path))(function)


@command.command()
@_options
@common
def maildir(path: Path, address: str, only: tuple[str, ...]) -> None:
    """As a Maildir++, with flags, keywords and dates.

    Example: atoll export maildir alice-mail --from alice@example.org
    """
    from atoll.admin.transfer.sinks import MaildirSink

    _run(path, address, only, MaildirSink)


@command.command()
@_options
@common
def mbox(path: Path, address: str, only: tuple[str, ...]) -> None:
    """As one mbox (mboxrd) for each folder.

    Example: atoll export mbox alice-mail --from alice@example.org
    """
    from atoll.admin.transfer.sinks import MboxSink

    _run(path, address, only, MboxSink)


@command.command()
@_options
@common
def eml(path: Path, address: str, only: tuple[str, ...]) -> None:
    """As one file for each message, with an index.

    Example: atoll export eml alice-mail --from alice@example.org --folder "Archive/2025"
    """
    from atoll.admin.transfer.sinks import EmlSink

    _run(path, address, only, EmlSink)


def _run(path: Path, address: str, only: tuple[str, ...], kind: Callable[[Path], Any]) -> None:
    from atoll.admin.transfer.imap_client import ImapError
    from atoll.admin.transfer.progress import board
    from atoll.admin.transfer.sinks import NotEmpty
    from atoll.admin.transfer.target import Mailbox, island_client
    from atoll.runtime.rpc import RpcError

    ctx = click.get_current_context()
    data, started = data_of(ctx), time.monotonic()
    result = Exported(address, str(path), 0, 0, 0, 0.0)
    try:
        with board(not ctx.ensure_object(dict).get("json")) as shown:
            mailbox = Mailbox(lambda: island_client(data, address))
            paths = mailbox.paths()
            missing = [name for name in only if name not in paths]
            if missing:
                fail(f"no such folder: {missing[0]}", "not_found")
            sink = kind(path)
            _write(mailbox, list(only) or paths, sink, shown.line(address), result)
            sink.close()
            mailbox.close()
    except RpcError as error:
        fail(error.text or error.code, error.code)
    except (ImapError, NotEmpty) as error:
        fail(str(error), "refused")
    except OSError as error:
        click.echo(printable(f"atoll: {error}"), err=True)
        sys.exit(EXIT["temporary"])
    result.seconds = round(time.monotonic() - started, 3)
    emit(result, lambda: click.echo(
        f"{result.messages} messages of {result.folders} folders, {result.octets >> 20} MiB, in {result.seconds:.1f} s"
    ))  # fmt: skip


def _write(mailbox: Any, paths: list[str], sink: Any, line: Any, result: Exported) -> None:
    line.total(sum(mailbox.count(path) for path in paths))
    for path in paths:
        sink.folder(path)
        result.folders += 1
        for item in mailbox.read(path):
            sink.write(item)
            result.messages += 1
            result.octets += len(item.data)
            line.add(1, len(item.data))
