"""admin.transfer.progress -- how far it is: bars on a terminal, nothing elsewhere.

In     totals and steps, from several threads. Out  bars on stderr with rate and time left.
Not    the report: that is printed when all is done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Board(Protocol):
    """Hands out a line for each mailbox."""

    def line(self, title: str) -> Line: ...


class Line:
    """One mailbox's progress; silent unless `rich` shows it."""

    def __init__(self, shown: RichProgress | None = None, task: TaskID | None = None) -> None:
        self._shown = shown
        self._task = task
        self._octets = 0

    def total(self, messages: int) -> None:
        """How many messages are expected; 0: nobody knows."""
        if self._shown is not None and self._task is not None:
            self._shown.update(self._task, total=messages or None)

    def add(self, messages: int, octets: int) -> None:
        """So many more."""
        if self._shown is not None and self._task is not None:
            self._octets += octets
            self._shown.update(self._task, advance=messages, size=f"{self._octets / 1048576:.1f} MiB")


class _Silent:
    def line(self, title: str) -> Line:
        return Line()


class _Rich:
    def __init__(self, shown: RichProgress) -> None:
        self._shown = shown

    def line(self, title: str) -> Line:
        from rich.markup import escape

        return Line(self._shown, self._shown.add_task(escape(title), total=None, size="0 MiB"))


@contextmanager
def board(wanted: bool) -> Iterator[Board]:
    """Bars if they are wanted and stderr is a terminal."""
    if not (wanted and sys.stderr.isatty()):
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Messages a second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:,.0f}/s", justify="right")

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TextColumn("{task.fields[size]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as shown:
        yield _Rich(shown)
