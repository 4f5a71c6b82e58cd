"""admin.transfer.target -- a mailbox of this island, as an ordinary IMAP client of it (docs/adr/0002).

In     items to store; or a folder to read.
Out    committed messages; items.
Spec   RFC 3502 (MULTIAPPEND: all or none), RFC 4315 (APPENDUID), RFC 7888 (LITERAL+), RFC 3516 (literal8 for NUL).
Fails  ImapError: the mailbox refused (OVERQUOTA, LIMIT ...). OSError: the mailbox process went; `reconnect` and ask
       `arrived` before sending anything again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from atoll.admin import ops
from atoll.admin.transfer import names
from atoll.admin.transfer.imap_client import Client, ImapError, fetched, numbers_of, pairs_of, uid_set
from atoll.admin.transfer.message import Item, flags_of
from atoll.admin.transfer.responses import Value
from atoll.admin.transfer.state import Intent
from atoll.runtime.paths import RunPaths
from atoll.runtime.rpc import RpcClient

READ_GROUP = 200
FLAG_GROUP = 5000


def island_client(data: Path, address: str) -> Client:
    """A connection to a mailbox of the island at `data`, opened with a token asked for it. RpcError, OSError."""

    async def ask() -> ops.Token:
        rpc = RpcClient(RunPaths(data).admin, timeout=5)
        try:
            await rpc.ready()
            return await rpc.call("token.create", ops.TokenAsk(address), ops.Token)
        finally:
            await rpc.close()

    token = asyncio.run(ask())
    client = Client.unix(token.socket)
    client.token(token.token)
    return client


class Mailbox:
    """connect: a fresh, signed-in connection to it."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._client = connect()
        self._paths: set[str] = set()
        self.uses: dict[str, str] = {}
        """Special use, lower case -> path."""
        self._list()

    def close(self) -> None:
        """Done with it."""
        self._client.close()

    def reconnect(self) -> None:
        """After OSError."""
        with contextlib.suppress(OSError):
            self._client.close()
        self._client = self._connect()

    def _list(self) -> None:
        for response in self._client.run(b'LIST "" "*" RETURN (SPECIAL-USE)'):
            if response.name != "LIST" or len(response.values) < 3:
                continue
            attributes, name = response.values[0], response.values[2]
            flags = [_text(flag).lower() for flag in attributes] if isinstance(attributes, list) else []
            if "\\noselect" in flags or "\\nonexistent" in flags:
                continue
            path = names.from_wire(name) if isinstance(name, bytes) else str(name)
            self._paths.add(path)
            self.uses.update({flag: path for flag in flags if flag in names.SPECIAL})

    def paths(self) -> list[str]:
        """Its folders that hold messages, INBOX first."""
        return sorted(self._paths, key=lambda path: (path != "INBOX", path))

    def ensure(self, path: str, *, subscribe: bool) -> None:
        """The folder is there afterwards."""
        if path in self._paths:
            return
        try:
            self._client.run(b"CREATE " + names.to_wire(path))
        except ImapError as error:
            if error.code != "ALREADYEXISTS":
                raise
        if subscribe:
            self._client.run(b"SUBSCRIBE " + names.to_wire(path))
        self._paths.add(path)

    def status(self, path: str) -> tuple[int, int]:
        """(uidvalidity, uidnext)"""
        numbers: dict[bytes, Value] = {}
        for response in self._client.run(b"STATUS %b (UIDVALIDITY UIDNEXT)" % names.to_wire(path)):
            if response.name == "STATUS" and len(response.values) > 1:
                numbers = dict(pairs_of(response.values[-1]))
        validity, following = numbers.get(b"UIDVALIDITY"), numbers.get(b"UIDNEXT")
        return (validity if isinstance(validity, int) else 0), (following if isinstance(following, int) else 1)

    def append(self, path: str, items: list[Item]) -> list[int]:
        """Store them, all or none; they are durable when this returns. Their uids."""

        def pieces() -> Iterator[bytes]:
            for item in items:
                flags = " ".join(item.flags).encode("ascii")
                date = b'"%b" ' % item.date if item.date else b""
                binary = b"~" if b"\0" in item.data else b""
                uidl = b'ATOLL.UIDL "%b" ' % _quoted(item.uidl) if item.uidl and path == "INBOX" else b""
                yield b" (%b) %b%b%b{%d+}\r\n" % (flags, date, uidl, binary, len(item.data))
                yield item.data

        words = self._client.append(names.to_wire(path), pieces).code_words
        return numbers_of(words[2]) if len(words) == 3 and words[0].upper() == b"APPENDUID" else []

    def flags(self, path: str, uids: list[int], add: list[str], remove: list[str]) -> None:
        """Change flags of messages; those that are gone are passed over."""
        self._client.run(b"SELECT " + names.to_wire(path))
        for at in range(0, len(uids), FLAG_GROUP):
            for sign, flags in ((b"+", add), (b"-", remove)):
                if flags:
                    self._client.run(b"UID STORE %b %bFLAGS.SILENT (%b)" % (
                        uid_set(uids[at:at + FLAG_GROUP]), sign, " ".join(flags).encode("ascii")))
        self._client.run(b"UNSELECT")

    def arrived(self, intent: Intent) -> list[int] | None:
        """Did a batch arrive whose answer was lost? All or none of it: its sizes stand in a row, or nowhere (None)."""
        validity, following = self.status(intent.target)
        if validity != intent.uidvalidity or following <= intent.uidnext:
            return None
        self._client.run(b"EXAMINE " + names.to_wire(intent.target))
        sizes: list[int] = []
        uids: list[int] = []
        for response in self._client.run(b"UID FETCH %d:* (UID RFC822.SIZE)" % intent.uidnext):
            pairs = fetched(response) or {}
            uid, size = pairs.get(b"UID"), pairs.get(b"RFC822.SIZE")
            if isinstance(uid, int) and isinstance(size, int) and uid >= intent.uidnext:
                sizes.append(size)
                uids.append(uid)
        count = len(intent.sizes)
        return next((uids[at : at + count] for at in range(len(sizes) - count + 1)
                     if sizes[at : at + count] == intent.sizes), None)

    def read(self, path: str) -> Iterator[Item]:
        """All messages of a folder, in order, the next group being fetched while one is handed out."""
        self._client.run(b"EXAMINE " + names.to_wire(path))
        uids: list[int] = []
        for response in self._client.run(b"UID FETCH 1:* (UID)"):
            uid = (fetched(response) or {}).get(b"UID")
            if isinstance(uid, int):
                uids.append(uid)
        groups = [uids[at : at + READ_GROUP] for at in range(0, len(uids), READ_GROUP)]
        under_way = [self._client.start(_ask(group)) for group in groups[:1]]
        for at in range(len(groups)):
            if at + 1 < len(groups):
                under_way.append(self._client.start(_ask(groups[at + 1])))
            for response in self._client.stream(under_way[at]):
                item = _item(path, fetched(response) or {})
                if item is not None:
                    yield item

    def count(self, path: str) -> int:
        """Messages in a folder."""
        for response in self._client.run(b"STATUS %b (MESSAGES)" % names.to_wire(path)):
            if response.name == "STATUS" and len(response.values) > 1:
                number = dict(pairs_of(response.values[-1])).get(b"MESSAGES")
                return number if isinstance(number, int) else 0
        return 0


def _quoted(text: str) -> bytes:
    return text.encode("ascii").replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def _ask(uids: list[int]) -> bytes:
    return b"UID FETCH " + uid_set(uids) + b" (UID FLAGS INTERNALDATE BODY.PEEK[])"


def _item(path: str, pairs: dict[bytes, Value]) -> Item | None:
    uid, data, flags, date = (pairs.get(key) for key in (b"UID", b"BODY[]", b"FLAGS", b"INTERNALDATE"))
    if not isinstance(uid, int) or not isinstance(data, bytes):
        return None
    named = [_text(flag) for flag in flags] if isinstance(flags, list) else []
    return Item(
        str(uid), f"{path}/{uid}", bytes(data), flags_of(named), bytes(date) if isinstance(date, bytes) else b""
    )


def _text(value: Value) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
