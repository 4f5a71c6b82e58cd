"""protocols.imap.wire.errors -- what is wrong with a command.

Bad    the command is not IMAP: answered BAD. The text is for the peer and says nothing of ours.
"""

from __future__ import annotations


class Bad(Exception):
    """A command out of syntax [RFC 9051 §7.1.3]. code: a response code or ""."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class BadCharset(Bad):
    """Strings in a charset that we do not know: well formed, so answered NO [RFC 9051 §6.4.4].

    saves: the result was to become "$", which is empty after a NO [RFC 9051 §6.4.4.1].
    """

    def __init__(self, *, saves: bool = False) -> None:
        super().__init__("Charset is not supported", "BADCHARSET (US-ASCII UTF-8)")
        self.saves = saves
