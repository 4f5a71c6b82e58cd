"""make_docs(1): the reference pages that are made from the code, so that they cannot be wrong.

In     base.config (every setting with its description), the `atoll` command (every noun and verb with its help).
Out    docs/reference/settings.md and commands.md; with --check nothing is written, exit 1 if they differ.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import click
import msgspec

from atoll.admin.cli import NOUNS, cli
from atoll.base import config

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
WIDTH = 100
HEAD = "<!-- Made by `make docs` from the code. -->\n\n"


def settings_page() -> str:
    """Every key of atoll.toml."""
    out = [HEAD, "# Settings\n\n`DATA/atoll.toml`. Each key can be given as `ATOLL_SECTION__KEY` in the environment "
           "instead; an unknown key stops the start. `atoll config check` reads the file and says what is wrong.\n"]
    for section in msgspec.structs.fields(config.Config):
        many = get_origin(section.type) is tuple
        shape = get_args(section.type)[0] if many else section.type
        if section.name == "demo":  # never in the file
            continue
        title = f"[[{section.name}]]" if many else f"[{section.name}]"
        out.append(f"\n## `{title}`\n\n{(shape.__doc__ or '').strip()}\n\n")
        out.append("| key | type | default | |\n|---|---|---|---|\n")
        hints = get_type_hints(shape, include_extras=True)
        for field in msgspec.structs.fields(shape):
            kind, text, bounds = explained(hints[field.name])
            default = "" if field.default is msgspec.NODEFAULT else msgspec.json.encode(field.default).decode()
            out.append(f"| `{field.name}` | {kind}{bounds} | `{default}` | {text} |\n" if default else
                       f"| `{field.name}` | {kind}{bounds} | | {text} |\n")
    return "".join(out)


def explained(hint: Any) -> tuple[str, str, str]:
    """(type, description, bounds) of an annotated type."""
    text, bounds, metas = "", [], []
    while hasattr(hint, "__metadata__"):
        metas += [meta for meta in hint.__metadata__ if isinstance(meta, msgspec.Meta)]
        hint = hint.__origin__
    for meta in metas:
        text = text or meta.description or ""
        bounds += [f"≥ {meta.ge}"] if meta.ge is not None else []
        bounds += [f"> {meta.gt}"] if meta.gt is not None else []
        bounds += [f"≤ {meta.le}"] if meta.le is not None else []
        bounds += [f"`{meta.pattern}`".replace("|", "\\|")] if meta.pattern is not None else []
    names = {str: "text", int: "number", float: "number", bool: "true or false"}
    kind = names.get(hint, "list of text" if get_origin(hint) is tuple else str(hint))
    return kind, text, f", {', '.join(bounds)}" if bounds else ""


def commands_page() -> str:
    """Every noun and verb of `atoll`."""
    out = [HEAD, "# Commands\n\n`atoll [--data DIR] NOUN VERB`; the same text as `--help`. Exit codes: 0 done, "
           "1 refused, 2 usage, 3 not found, 4 try again later.\n"]
    with click.Context(cli, info_name="atoll", terminal_width=WIDTH) as top:
        for noun in NOUNS:
            command = cli.get_command(top, noun)
            assert command is not None
            for path, verb, ctx in walk(command, noun, top):
                out.append(f"\n## `atoll {path}`\n\n```text\n{verb.get_help(ctx).strip()}\n```\n")
    return "".join(out)


def walk(command: click.Command, path: str, parent: click.Context
         ) -> Iterator[tuple[str, click.Command, click.Context]]:
    """The command and, if it is a group, its verbs."""
    ctx = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent, terminal_width=WIDTH)
    command._help_option = None  # click keeps the one of whoever asked first
    yield path, command, ctx
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            verb = command.get_command(ctx, name)
            if verb is not None and not verb.hidden:
                yield from walk(verb, f"{path} {name}", ctx)


def pages() -> dict[Path, str]:
    """Path -> what it should hold."""
    return {PAGES / "settings.md": settings_page(), PAGES / "commands.md": commands_page()}


def main() -> None:
    different = [path for path, text in pages().items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv:
        for path in different:
            print(f"{path.relative_to(ROOT)} is not what the code says: make docs", file=sys.stderr)
        sys.exit(bool(different))
    PAGES.mkdir(parents=True, exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
