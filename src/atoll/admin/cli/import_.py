"""atoll import: mail of another server, of Maildirs, mboxes and single files, into mailboxes of this island."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from atoll.admin.cli.client import ADDRESS, EXIT, common, data_of, emit, printable, read_secret
from atoll.runtime.paths import RunPaths

SHOWN = 20
_URLS = ("imap://", "imaps://")


class Failure(msgspec.Struct):
    """One message, folder or file that did not come."""

    where: str
    reason: str


class Result(msgspec.Struct):
    """One mailbox's import. error: why it ended early, "" when it did not."""

    source: str
    target: str
    folders: int
    messages: int
    octets: int
    already: int
    reflagged: int
    mended: int
    seconds: float
    failed: list[Failure]
    skipped: list[Failure]
    error: str = ""


class Results(msgspec.Struct):
    """All of them, and where the whole list of failures is."""

    imports: list[Result]
    report: str = ""


class Sources(click.Group):
    """`atoll import imap://…` is `atoll import imap imap://…`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0].lower().startswith(_URLS):
            return "imap", self.commands["imap"], args
        return super().resolve_command(ctx, args)


@click.group(cls=Sources)
def command() -> None:
    """Bring mail from another server or from files.

    \b
    Examples:
      atoll import imaps://alice@old.example.org --to alice@example.org --password-stdin
      atoll import imap://old.example.org --csv people.csv --jobs 8
      atoll import maildir /var/mail/alice --to alice@example.org
      atoll import mbox ~/Mail/inbox ~/Mail/sent --to alice@example.org

    Run it again at any time: what is there already is not brought twice.
    """


def _into(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option("--into", default="", help="Put everything under this folder.")(function)
    return click.option("--to", "to", required=True, type=ADDRESS, metavar="ADDRESS",
                        help="The mailbox it goes into.")(function)


@command.command()
@click.argument("url")
@click.option("--to", "to", default="", type=ADDRESS, metavar="ADDRESS", help="The mailbox it goes into.")
@click.option("--csv", "table", type=click.File(encoding="utf-8-sig"), help="Many mailboxes: user,password,mailbox.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--master", default="", help="Sign in as this administrator of the old server, for each user.")
@click.option("--ca", type=click.Path(exists=True, dir_okay=False), default=None, help="Trust this authority only.")
@click.option("--no-verify", is_flag=True, help="Believe any certificate: only on a network that you trust.")
@click.option("--insecure", is_flag=True, help="imap:// without TLS: passwords and mail go in the clear.")
@click.option("--folder", "only", multiple=True, help="Only this folder (may be repeated).")
@click.option("--exclude", multiple=True, help="Not this folder (may be repeated).")
@click.option("--all-mail", is_flag=True, help="Also a folder that shows all mail again (Gmail's).")
@click.option("--pop3", "pop3_url", default="", metavar="URL",
              help="The same server's POP3 (pop3s://host): programs that leave mail there fetch nothing twice.")
@click.option("--into", default="", help="Put everything under this folder.")
@click.option("--jobs", default=4, show_default=True, type=click.IntRange(1, 64), help="Mailboxes at the same time.")
@common
def imap(url: str, to: str, table: Any, password_stdin: bool, master: str, ca: str | None, no_verify: bool,
         insecure: bool, only: tuple[str, ...], exclude: tuple[str, ...], all_mail: bool, pop3_url: str,
         into: str, jobs: int) -> None:  # fmt: skip
    """Pull mailboxes from an IMAP server: all folders, flags, dates. Resumable and incremental.

    Run again, it brings what is new, and flags that changed there change here too.

    \b
    Examples:
      atoll import imaps://alice@old.example.org --to alice@example.org --password-stdin < secret
      atoll import imaps://old.example.org --csv people.csv --jobs 8 --pop3 pop3s://old.example.org
    """
    from atoll.admin.transfer.accounts import Account, pop3_of, read_accounts, server_of
    from atoll.admin.transfer.imap_client import Client
    from atoll.admin.transfer.pop3_client import sign_in
    from atoll.admin.transfer.sources.imap import ImapSource

    secret = read_secret(password_stdin)
    try:
        server, user = server_of(url, insecure=insecure, verify=not no_verify, ca_file=ca or "")
        pop3 = pop3_of(pop3_url, server) if pop3_url else None
        accounts = read_accounts(table) if table else [Account(user, to, secret)]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if pop3 is not None and master:
        raise click.UsageError("--pop3 needs each user's own password, not --master")
    if not table and not (user and to):
        raise click.UsageError("give the user in the URL and --to, or --csv")
    if not table and not password_stdin:
        raise click.UsageError("give the password by --password-stdin")

    def source(account: Account) -> Any:
        def connect() -> Client:
            client = Client.connect(server)
            try:
                client.sign_in(account.user, account.password or secret, master)
            except BaseException:
                client.close()
                raise
            return client

        name = f"imap:{account.user}@{server.host}:{server.port}"
        ids = None if pop3 is None else partial(sign_in, pop3, account.user, account.password or secret)
        return ImapSource(name, connect, only=list(only), exclude=list(exclude), all_mail=all_mail, pop3=ids)

    _run([(f"{one.user} to {one.to}", one.to, partial(source, one)) for one in accounts], into, jobs)


@command.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_into
@common
def maildir(path: Path, to: str, into: str) -> None:
    """Bring a Maildir, a Maildir++ or a tree of Maildirs.

    Example: atoll import maildir /var/vmail/alice/Maildir --to alice@example.org
    """
    from atoll.admin.transfer.sources.maildir import MaildirSource

    _run([(str(path), to, lambda: MaildirSource(path))], into, 1)


@command.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--folder", default="", help="The folder for single files; otherwise their names.")
@_into
@common
def mbox(paths: tuple[Path, ...], folder: str, to: str, into: str) -> None:
    """Bring mbox files and trees of them, Thunderbird's too.

    Example: atoll import mbox archive.mbox --folder Archive --to alice@example.org
    """
    from atoll.admin.transfer.importer import checked_into
    from atoll.admin.transfer.sources.mbox import MboxSource

    _run([(str(paths[0]), to, lambda: MboxSource(list(paths), checked_into(folder)))], into, 1)


@command.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--folder", default="INBOX", show_default=True, help="The folder for files at the top.")
@_into
@common
def eml(paths: tuple[Path, ...], folder: str, to: str, into: str) -> None:
    """Bring single messages (.eml), or directories of them.

    Example: atoll import eml saved/ --folder Archive --to alice@example.org
    """
    from atoll.admin.transfer.importer import checked_into
    from atoll.admin.transfer.sources.eml import EmlSource

    _run([(str(paths[0]), to, lambda: EmlSource(list(paths), checked_into(folder)))], into, 1)


def _run(works: list[tuple[str, str, Callable[[], Any]]], into: str, jobs: int) -> None:
    """(title, mailbox, opens the source) of each import; ends the command."""
    from atoll.admin.transfer.importer import checked_into
    from atoll.admin.transfer.progress import board

    ctx = click.get_current_context()
    data, as_json = data_of(ctx), bool(ctx.ensure_object(dict).get("json"))
    pool = ThreadPoolExecutor(min(jobs, len(works) or 1))
    try:
        with board(not as_json) as shown:
            path = checked_into(into)
            running = [pool.submit(_one, data, title, to, opens, path, shown.line(title)) for title, to, opens in works]
            finished = [one.result() for one in running]
    except KeyboardInterrupt:
        click.echo("atoll: interrupted: run it again to go on", err=True)
        os._exit(1)  # nobody waits for the threads: after a death at any moment the journal knows where to go on
    pool.shutdown()
    results = Results([result for result, _ in finished])
    results.report = _written(data, results)
    emit(results, lambda: _tell(results))
    codes = [code for _, code in finished if code]
    if codes:
        sys.exit(EXIT.get(codes[0], 1) if len(works) == 1 else 1)


def _one(data: Path, title: str, to: str, opens: Callable[[], Any], into: str, line: Any) -> tuple[Result, str]:
    """One import in a thread: what came of it, and the code of its error ("refused" when only messages failed)."""
    from atoll.admin.transfer.imap_client import ImapError
    from atoll.admin.transfer.importer import Importer, Report
    from atoll.admin.transfer.responses import BadServer
    from atoll.admin.transfer.state import Busy, State
    from atoll.admin.transfer.target import Mailbox, island_client
    from atoll.runtime.rpc import RpcError

    report = Report(title, to)
    error, code = "", ""
    try:
        mailbox = Mailbox(lambda: island_client(data, to))
        source = opens()
        state = State(data / "import", source.name, f"{to}\0{into}")
        Importer(source, mailbox, state, report, line).run(into)
        for one in (source, mailbox, state):
            one.close()
    except RpcError as failed:
        error, code = failed.text or failed.code, failed.code
    except (ImapError, BadServer) as failed:
        error, code = str(failed), "refused"
    except Busy:
        error, code = "another import of the same mail into this mailbox is running", "temporary"
    except OSError as failed:
        error, code = str(failed) or type(failed).__name__, "temporary"
    if not code and report.failed:
        code = "refused"
    return Result(title, to, report.folders, report.messages, report.octets, report.already, report.reflagged,
                  report.mended, round(report.seconds, 3), [Failure(*one) for one in report.failed],
                  [Failure(*one) for one in report.skipped], error), code  # fmt: skip


def _written(data: Path, results: Results) -> str:
    """The whole list of what did not come, as a file of the island; its path, "" when there is nothing to say."""
    from atoll.admin.transfer.files import Folder
    from atoll.admin.transfer.sinks import csv_text

    rows = [(one.target, kind, failure.where, failure.reason)
            for one in results.imports
            for kind, failures in (("failed", one.failed), ("skipped", one.skipped))
            for failure in failures]  # fmt: skip
    rows += [(one.target, "ended", one.source, one.error) for one in results.imports if one.error]
    folder = data / "import"
    if not rows or not RunPaths(data).run.is_dir():
        return ""
    name = time.strftime("report-%Y%m%d-%H%M%S") + f"-{time.monotonic_ns() % 1_000_000:06d}.csv"
    folder.mkdir(mode=0o700, exist_ok=True)
    with Folder.named(folder) as place:
        place.write(name, csv_text([("mailbox", "kind", "where", "reason"), *rows]).encode("utf-8", "replace"))
    return str(folder / name)


def _tell(results: Results) -> None:
    for one in results.imports:
        rate = one.messages / one.seconds if one.seconds else 0
        click.echo(printable(f"{one.source}: {one.messages} messages in {one.folders} folders, {one.octets >> 20} MiB, "
                             f"{one.seconds:.1f} s ({rate:,.0f}/s); {one.already} were there already"))  # fmt: skip
        if one.reflagged:
            click.echo(f"  flags followed in {one.reflagged} messages")
        if one.mended:
            click.echo(f"  line ends mended in {one.mended} messages")
        for failure in one.failed[:SHOWN]:
            click.echo(printable(f"  not read: {failure.where}: {failure.reason}"), err=True)
        if len(one.failed) > SHOWN:
            click.echo(f"  and {len(one.failed) - SHOWN} more", err=True)
        for failure in one.skipped[:SHOWN]:
            click.echo(printable(f"  left out: {failure.where}: {failure.reason}"))
        if one.error:
            click.echo(printable(f"atoll: {one.target}: {one.error}"), err=True)
    if results.report:
        click.echo(f"report: {results.report}")

