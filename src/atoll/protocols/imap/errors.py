"""protocols.imap.errors -- how a command ends when it does not end well.

    No     refused: answered NO [CODE] text
    Bad    (wire.errors) not IMAP, or not now: answered BAD
    Bye    the session is over: answered BYE, then closed

In     StoreError, Refused of the directory. Out  No, with the codes of [RFC 5530] and [RFC 9051 §7.1].
Not    what is logged: the texts here are for the peer and hold nothing of ours.
"""

from __future__ import annotations

from atoll.mailbox.errors import StoreCode, StoreError
from atoll.protocols.imap.wire.errors import Bad
from atoll.runtime.rpc import RpcError

IMAP_CODE: dict[StoreCode, str] = {
    StoreCode.NO_FOLDER: "NONEXISTENT",
    StoreCode.EXISTS: "ALREADYEXISTS",
    StoreCode.OVER_QUOTA: "OVERQUOTA",
    StoreCode.NO_RIGHT: "NOPERM",
    StoreCode.UNAVAILABLE: "UNAVAILABLE",
    StoreCode.TOO_BIG: "TOOBIG",
    StoreCode.INVALID: "CANNOT",
    StoreCode.NOT_EMPTY: "HASCHILDREN",
    StoreCode.SYSTEM_FOLDER: "CANNOT",
    StoreCode.GONE: "EXPUNGEISSUED",
}


class No(Exception):
    """The command was refused."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Bye(Exception):
    """The session cannot go on."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def to_no(error: StoreError | RpcError, *, target: bool = False) -> No:
    """The answer to a store's or the directory's refusal. target: the missing folder is where messages should go."""
    if isinstance(error, RpcError):
        return No("UNAVAILABLE", "Not available just now")
    if target and error.code is StoreCode.NO_FOLDER:
        return No("TRYCREATE", error.public)  # [RFC 9051 §6.3.12]
    return No(IMAP_CODE[error.code], error.public)


__all__ = ["IMAP_CODE", "Bad", "Bye", "No", "to_no"]
