"""Bugs that are planted on purpose, to see that the fuzzer finds what it is there for: (target, how to plant it).

Each is one that somebody could make in earnest.
"""

from __future__ import annotations

from collections.abc import Callable


def _end_across_pieces() -> None:
    """The end of DATA is not seen when it comes in two pieces: two servers, two opinions on where a message ends."""
    from atoll.formats.smtp import reader

    reader._HELD = 0


def _rest_of_a_literal() -> None:
    """The rest of a refused literal is forgotten at the end of a piece: its text becomes commands."""
    from atoll.protocols.imap.wire.reader import Reader

    def careless(self: Reader) -> bool:
        del self._buf[:self._drain]
        self._drain = 0
        return True

    Reader._drained = careless  # type: ignore[method-assign]


def _two_spellings() -> None:
    """Modified UTF-7 that is not canonical is read: two spellings of one mailbox."""
    from atoll.protocols.imap.wire import utf7

    def careless(wire: bytes) -> str:
        return utf7._SHIFT.sub(lambda match: utf7._unshift(match.group(1)).encode("utf-8", "replace"), wire).decode(
            "utf-8", "replace")

    utf7.decode = careless


def _unquoted() -> None:
    """A quotation mark in a file name is given to clients as it is: what follows it is read as IMAP."""
    from atoll.formats.mime import wire

    wire._PLAIN = wire._QUOTABLE


PLANTED: dict[str, tuple[str, Callable[[], None]]] = {
    "end-across-pieces": ("smtp_reader", _end_across_pieces),
    "rest-of-a-literal": ("imap_reader", _rest_of_a_literal),
    "two-spellings": ("imap_names", _two_spellings), "unquoted": ("mime", _unquoted)}
