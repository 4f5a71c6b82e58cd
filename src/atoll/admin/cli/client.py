"""What every command shares: asking the island, exit codes, tables and JSON.

In     the name of an operation of ops.OPS, with its parameters.
Out    its result; or a line on stderr and the exit code of its error.
Not    a place for what one noun needs.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import msgspec
from click.shell_completion import CompletionItem

from atoll.admin import ops
from atoll.runtime.paths import RunPaths
from atoll.runtime.rpc import Empty, RpcClient, RpcError

T = TypeVar("T", bound=msgspec.Struct)
F = TypeVar("F", bound=Callable[..., Any])
EXIT = {"refused": 1, "exists": 1, "invalid": 1, "denied": 1, "not_found": 3, "temporary": 4, "gone": 4}
DATA = click.Path(file_okay=False, readable=False)
"""A data directory: whose it is, reach() says."""
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def common(function: F) -> F:
    """The options of every command: --json and --data."""
    function = click.option("--json", "as_json", is_flag=True, expose_value=False, callback=_remember("json"),
                            help="Print the result as JSON.")(function)
    # ATOLL_DATA is looked up once, by the group: here it would win over a --data that stands before the noun.
    return click.option("--data", "data", expose_value=False, callback=_remember("data"), type=DATA,
                        help="The island's data directory.")(function)


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value:
            ctx.ensure_object(dict)[name] = value

    return callback


def data_of(ctx: click.Context) -> Path:
    """The data directory that was named."""
    # A shell that completes runs no group: there the group's parameter stands alone.
    named = ctx.ensure_object(dict).get("data") or ctx.find_root().params.get("data")
    return Path(named or "atoll-data").absolute()


def fail(text: str, code: str) -> NoReturn:
    """One line on stderr, and the exit code of this kind of error."""
    click.echo(f"atoll: {printable(text)}", err=True)
    sys.exit(EXIT.get(code, 1))


def tell(op: str, params: msgspec.Struct) -> None:
    """Call the island for something that has no result."""
    ask(op, params, Empty)


def ask(op: str, params: msgspec.Struct, result: type[T]) -> T:
    """Call the island that the current command names; ends the command when that fails. result: as in ops.OPS."""
    try:
        return reach(op, params, result)
    except RpcError as error:
        fail(error.text or error.code, error.code)


def reach(op: str, params: msgspec.Struct, result: type[T]) -> T:
    """As ask(), for those who know what to do about an RpcError."""
    ctx = click.get_current_context()
    path = RunPaths(data_of(ctx)).admin
    try:
        if not path.exists():
            fail(f"no island is running at {data_of(ctx)} (--data or ATOLL_DATA names another)", "temporary")
        return asyncio.run(_ask(path, op, params, result))
    except PermissionError:
        fail(f"{path} is not yours: administer as the user that runs the island", "denied")
    except KeyboardInterrupt:
        fail("interrupted", "refused")


async def _ask(path: Path, op: str, params: msgspec.Struct, result: type[T]) -> T:
    if not os.access(path, os.W_OK):
        raise PermissionError
    client = RpcClient(path, timeout=5)
    try:
        await client.ready()
        return await client.call(op, params, result, within=7 * 3600.0)
    finally:
        await client.close()


def printable(text: str) -> str:
    """Text from elsewhere (subjects, names) without control characters: a terminal obeys those."""
    return "".join(char if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else "\ufffd"
                   for char in text)


def emit(result: msgspec.Struct, text: Callable[[], None] | None = None) -> None:
    """Print a result: JSON when asked for, else whatever `text` prints."""
    if click.get_current_context().ensure_object(dict).get("json"):
        click.echo(json.dumps(msgspec.to_builtins(result), indent=2, ensure_ascii=False))
    elif text is not None:
        text()


def done(text: str, result: msgspec.Struct | None = None) -> None:
    """Something was done."""
    emit(result or Empty(), lambda: click.echo(printable(text)))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns: framed on a terminal, separated by tabs elsewhere."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in (list(head), *cells):
            click.echo("\t".join(row))
        return
    if not cells:
        click.echo("none")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        shown.add_column(name, overflow="fold")
    for row in cells:
        shown.add_row(*(Text(cell) for cell in row))
    Console().print(shown)


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line."""
    shown = [(name, printable(str(value))) for name, value in pairs]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        click.echo(f"{name + ':':{width + 1}} {value}")


class Size(click.ParamType[int]):
    """A size: 500M, 10G, a number of bytes, or "none"."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().upper().removesuffix("IB").removesuffix("B")
        if text == "NONE":
            return 0
        unit = text[-1:] if text[-1:] in UNITS and text[-1:] else ""
        try:
            number = float(text.removesuffix(unit))
        except ValueError:
            self.fail(f"{value!r} is not a size: 500M, 10G, none", param, ctx)
        if not 0 <= number < 1 << 53:
            self.fail("out of range", param, ctx)
        return int(number * UNITS[unit])


SIZE = Size()


class Named(click.ParamType[str]):
    """A name that the island knows: the shell completes it."""

    def __init__(self, name: str, op: str, params: Callable[[str], msgspec.Struct], result: type[msgspec.Struct],
                 rows: str, column: str) -> None:
        self.name = name
        self._asks = op, params, result
        self._shows = rows, column

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What begins so; nothing when the island is away: completion never complains."""
        op, params, result = self._asks
        rows, column = self._shows
        path = RunPaths(data_of(ctx)).admin
        try:
            if not path.exists():
                return []
            found = asyncio.run(_ask(path, op, params(incomplete), result))
        except (RpcError, OSError):
            return []
        names = [str(getattr(row, column)) for row in getattr(found, rows)]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


ADDRESS = Named("address", "mailbox.list", lambda begun: ops.MailboxFilter(text=begun, limit=100), ops.Mailboxes,
                "mailboxes", "address")
REMOVED = Named("address", "mailbox.removed", lambda begun: ops.MailboxFilter(text=begun, limit=100), ops.RemovedRows,
                "mailboxes", "address")
DOMAIN = Named("domain", "domain.list", lambda begun: Empty(), ops.Domains, "domains", "name")
DATABASE = Named("database", "database.list", lambda begun: Empty(), ops.Databases, "databases", "database")
ALIAS = Named("alias", "alias.list", lambda begun: ops.AliasFilter(), ops.Aliases, "aliases", "alias")
SETTING = Named("setting", "setting.get", lambda begun: ops.SettingName(), ops.Settings, "settings", "name")


def size_text(number: int) -> str:
    """A size for people; "none" for 0, "?" for an unknown one."""
    if number < 0:
        return "?"
    for unit in ("T", "G", "M", "K"):
        if number >= UNITS[unit]:
            return f"{number / UNITS[unit]:.4g}{unit}"
    return f"{number}B" if number else "none"


def time_text(ms: int) -> str:
    """A time for people, in the local zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000)) if ms else ""


def read_secret(from_stdin: bool, what: str = "Password") -> bytes:
    """A secret from standard input (one line), or asked for twice on a terminal, or b"" when neither."""
    if from_stdin:
        line = sys.stdin.buffer.readline(4096).rstrip(b"\r\n")
        if not line:
            raise click.UsageError(f"{what.lower()} on standard input is empty")
        return line
    return b""


def sure(question: str, yes: bool) -> None:
    """Ask before something is lost; --yes says yes; without a terminal it is an error not to."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this needs --yes when it is not run from a terminal")
    click.confirm(question, abort=True)
