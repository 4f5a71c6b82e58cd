"""Where mail comes from: each module gives folders, and their messages one after another.

Every source keeps to the same shape (`Source`); none of them writes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from atoll.admin.transfer.message import Item, Unread


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """One folder to bring in. name and generation: for the state file; path: ours, before the special-use map."""

    name: str
    path: str
    generation: str = ""
    use: str = ""
    """Special use, lower case ("\\\\sent"), "" for none."""
    subscribed: bool = True
    count: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """A folder or file that is not taken, and why. wanted: its mail was asked for, so that this is an error."""

    where: str
    reason: str
    wanted: bool = False


Known = Callable[[str, tuple[str, ...] | None], bool]
"""known(key, flags): did this message come already? flags: those that it has now, None where they cannot change."""


class Source(Protocol):
    """What the importer needs of a place that has mail."""

    name: str
    """Names the place in the state file."""

    def folders(self) -> list[SourceFolder | Skipped]:
        """All of them."""

    def items(self, folder: SourceFolder, known: Known) -> Iterator[Item | Unread]:
        """Its messages, but for those whose key is known."""

    def close(self) -> None:
        """Done with it."""
