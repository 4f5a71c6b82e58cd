"""The order of SMTP's verbs: the only file that knows it [RFC 5321 §4.1.4, RFC 3030 §2, RFC 3207 §4.2, RFC 4954 §4].

In     the state of a session, a verb.
Out    the state after the verb has succeeded.
Fails  Refuse(503): the verb has no place here.
"""

from __future__ import annotations

from enum import Enum, auto

from atoll.formats.smtp import replies
from atoll.formats.smtp.commands import Refuse


class State(Enum):
    """Where a session is."""

    START = auto()
    """Not introduced, or TLS has just begun: nothing said before counts."""
    READY = auto()
    SENDER = auto()
    """MAIL was accepted."""
    RECIPIENT = auto()
    """At least one RCPT was accepted."""
    CHUNKS = auto()
    """BDAT has begun: more of it, or nothing."""
    BROKEN = auto()
    """A BDAT of this message was refused: nothing more of it is taken."""


_AGAIN = {b"EHLO": State.READY, b"HELO": State.READY, b"RSET": State.READY}
_NEXT: dict[State, dict[bytes, State]] = {
    State.START: {b"EHLO": State.READY, b"HELO": State.READY, b"RSET": State.START},
    State.READY: {**_AGAIN, b"STARTTLS": State.START, b"AUTH": State.READY, b"MAIL": State.SENDER},
    State.SENDER: {**_AGAIN, b"RCPT": State.RECIPIENT},
    State.RECIPIENT: {**_AGAIN, b"RCPT": State.RECIPIENT, b"DATA": State.READY, b"BDAT": State.CHUNKS},
    State.CHUNKS: {**_AGAIN, b"BDAT": State.CHUNKS},
    State.BROKEN: _AGAIN,
}
_ANYWHERE = frozenset({b"NOOP", b"QUIT", b"VRFY", b"EXPN", b"HELP"})


def after(state: State, verb: bytes) -> State:
    """The state once `verb` has succeeded; Refuse when it may not come now."""
    if verb in _ANYWHERE:
        return state
    found = _NEXT[state].get(verb)
    if found is None:
        raise Refuse(replies.NO_RECIPIENTS if state is State.SENDER and verb in (b"DATA", b"BDAT")
                     else replies.SEQUENCE)
    return found
