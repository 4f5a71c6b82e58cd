"""protocols.imap.command -- what a command is: a row of the table in commands/.

In     nothing. Out  Command, State, Ok.
Spec   [RFC 9051 §3]: which commands are valid in which state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from atoll.protocols.imap.wire.cursor import Cursor


class State(Enum):
    """When a command may be given."""

    ANY = auto()
    NOT_AUTHENTICATED = auto()
    AUTHENTICATED = auto()
    SELECTED = auto()


@dataclass(frozen=True, slots=True)
class Ok:
    """A command ended well. code: a response code without brackets."""

    text: str = "Done"
    code: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """parse: the words behind the name, to their end. run(session, what parse gave, tag).

    expunges: may sequence numbers change at its end [RFC 9051 §7.5.1]?
    """

    parse: Callable[[Cursor], Any]
    run: Callable[[Any, Any, bytes], Awaitable[Ok]]
    state: State
    expunges: bool = True


def nothing(cur: Cursor) -> None:
    """A command without arguments."""
    cur.end()
