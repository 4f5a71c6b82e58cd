"""admin.transfer.pop3_client -- the unique ids of an old server's POP3, with the standard library's client.

In     where to connect, how to sign in.
Out    (size, id) of each message in order; headers when they are needed.
Spec   [RFC 1939 §7] UIDL, [RFC 2595 §4] STLS.
Fails  ImapError: the server refuses, or speaks no POP3; OSError.
Not    mail: that comes by IMAP, with folders and flags.
"""

from __future__ import annotations

import contextlib
import poplib
import re
from collections.abc import Iterator

from atoll.admin.transfer.imap_client import TIMEOUT, ImapError, Server
from atoll.admin.transfer.message import checked_uidl

_PAIR = re.compile(rb"(\d{1,10}) (\S{1,100})")


class Pop3Ids:
    """One session. client: signed in."""

    def __init__(self, client: poplib.POP3) -> None:
        self._client = client
        self.numbers: list[int] = []

    def pairs(self) -> list[tuple[int, str]]:
        """(size, id) in the order of the server's numbers; an id that POP3 may not show is ""."""
        try:
            sizes = dict(_numbered(self._client.list()[1]))
            ids = dict(_numbered(self._client.uidl()[1]))
        except poplib.error_proto as error:
            raise ImapError(f"POP3: {_said(error)}") from None
        self.numbers = sorted(number for number in sizes if number in ids)
        return [(int(sizes[number]) if sizes[number].isdigit() else 0,
                 checked_uidl(ids[number].decode("ascii", "replace"))) for number in self.numbers]

    def heads(self) -> Iterator[tuple[bytes, str]]:
        """(header, id) of each message."""
        for number, (_, uidl) in zip(self.numbers, self.pairs(), strict=True):
            try:
                yield b"\n".join(self._client.top(number, 0)[1]), uidl
            except poplib.error_proto:
                continue

    def close(self) -> None:
        """Say goodbye if that works."""
        with contextlib.suppress(poplib.error_proto, OSError):
            self._client.quit()


def sign_in(server: Server, user: str, password: bytes) -> Pop3Ids:
    """A session of one account."""
    try:
        if server.security == "tls":
            client: poplib.POP3 = poplib.POP3_SSL(server.host, server.port, timeout=TIMEOUT, context=server.context())
        else:
            client = poplib.POP3(server.host, server.port, timeout=TIMEOUT)
            if server.security == "starttls":
                client.stls(server.context())
        client.user(user)
        client.pass_(password.decode("utf-8", "surrogateescape"))
    except poplib.error_proto as error:
        raise ImapError(f"POP3: {_said(error)}") from None
    return Pop3Ids(client)


def _numbered(lines: list[bytes]) -> Iterator[tuple[int, bytes]]:
    for line in lines:
        found = _PAIR.match(line)
        if found is not None:
            yield int(found[1]), found[2]


def _said(error: poplib.error_proto) -> str:
    first = error.args[0] if error.args else b""
    return first.decode("utf-8", "replace")[:300] if isinstance(first, bytes) else str(first)[:300]
