"""The mark of a content that was not looked into (table opaque).

In     a blob, what of it is missing.
Out    the mark, which goes when the content is swept or was looked into (rescan).
"""

from __future__ import annotations

from collections.abc import Callable

from atoll.base.version import __version__
from atoll.mailbox.tx import Tx

LISTING, TEXT = 1, 2
MARK = ("INSERT INTO opaque (blob, what, version) VALUES (?, ?, ?)"
        " ON CONFLICT (blob) DO UPDATE SET what = excluded.what, version = excluded.version")
_ALSO = ("INSERT INTO opaque (blob, what, version) VALUES (?, ?, ?)"
         " ON CONFLICT (blob) DO UPDATE SET what = opaque.what | excluded.what, version = excluded.version")


def mark(tx: Tx, blob: int, what: int) -> None:
    """This is missing, too."""
    tx.run(_ALSO, (blob, what, __version__))


def marked(blob: int, what: int) -> Callable[[Tx], None]:
    """The same as a unit of work."""
    def work(tx: Tx) -> None:
        mark(tx, blob, what)
    return work
