"""admin.transfer.sources.imap -- mail of another server, by IMAP.

In     a server, an account; read only (EXAMINE, BODY.PEEK).
Out    folders with their special use; messages with flags, keywords and internal dates. Key: the uid.
Spec   RFC 9051, RFC 2342 (namespaces), RFC 6154. Works with any IMAP4rev1 server.
Fails  ImapError, BadServer at the sign-in; later a lost connection is opened again (5 times), a message that the
       server cannot give is Unread.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from atoll.admin.transfer import names
from atoll.admin.transfer.files import MAX_MESSAGE
from atoll.admin.transfer.imap_client import Client, ImapError, fetched, pairs_of, uid_set
from atoll.admin.transfer.message import Item, Unread, checked_date, flags_of
from atoll.admin.transfer.pop3_client import Pop3Ids
from atoll.admin.transfer.responses import Value
from atoll.admin.transfer.sources import Known, Skipped, SourceFolder
from atoll.admin.transfer.uidls import ByHead, by_place
from atoll.formats.mime import header_end

GROUP = 200
GROUP_OCTETS = 8 * 1024 * 1024
TRIES = 5
_VIRTUAL = {"\\all": "all mail again", "\\flagged": "a view of other folders", "\\important": "a view of other folders"}


@dataclass(slots=True)
class _Group:
    """Messages that were asked for with one command."""

    tag: bytes
    missing: set[int]
    alone: bool
    """One message only: what it lacks now is not asked for again."""


class ImapSource:
    """connect: a fresh, signed-in connection. all_mail: take \\All too (its messages are in other folders as well).

    pop3: opens the same mailbox by POP3, whose unique ids are kept.
    """

    def __init__(
        self, name: str, connect: Callable[[], Client], *, only: list[str], exclude: list[str], all_mail: bool = False,
        pop3: Callable[[], Pop3Ids] | None = None,
    ) -> None:
        self.name = name
        self._connect = connect
        self._client = connect()
        self._only = {path.casefold() for path in only}
        self._exclude = {path.casefold() for path in exclude}
        self._all_mail = all_mail
        self._pop3 = pop3

    def close(self) -> None:
        self._client.close()

    # folders

    def folders(self) -> list[SourceFolder | Skipped]:
        personal, foreign = self._namespaces()
        subscribed = self._subscribed()
        found: list[SourceFolder | Skipped] = []
        for response in self._client.run(b'LIST "" "*"'):
            if response.name != "LIST" or len(response.values) < 3:
                continue
            attributes, delimiter, raw = response.values[:3]
            wire = _bytes(raw)
            flags = (
                [_bytes(flag).decode("ascii", "replace") for flag in attributes] if isinstance(attributes, list) else []
            )
            lowered = {flag.lower() for flag in flags}
            if lowered & {"\\noselect", "\\nonexistent"} or any(wire.startswith(prefix) for prefix in foreign):
                continue
            found.append(self._folder(wire, _bytes(delimiter), flags, personal, wire in subscribed))
        return found

    def _folder(
        self, wire: bytes, delimiter: bytes, flags: list[str], personal: list[bytes], subscribed: bool
    ) -> SourceFolder | Skipped:
        own = wire
        for prefix in personal:
            if wire.startswith(prefix) and wire.upper() != b"INBOX":
                own = wire[len(prefix) :] or wire
        path = names.path_of(names.from_wire(own), names.from_wire(delimiter))
        use = names.special_use(flags, path)
        if self._only and path.casefold() not in self._only:
            return Skipped(path, "not asked for")
        if path.casefold() in self._exclude:
            return Skipped(path, "excluded")
        if use in _VIRTUAL and not (use == "\\all" and self._all_mail):
            return Skipped(path, _VIRTUAL[use])
        try:
            count, validity = self._status(wire)
        except ImapError as error:
            return Skipped(path, f"the server refuses it: {error}")
        return SourceFolder(wire.decode("latin-1"), path, str(validity), use, subscribed, count)

    def _status(self, wire: bytes) -> tuple[int, int]:
        numbers: dict[bytes, int] = {}
        for response in self._client.run(b"STATUS %b (MESSAGES UIDVALIDITY)" % _name(wire)):
            if response.name == "STATUS" and len(response.values) > 1:
                numbers = {key: value for key, value in pairs_of(response.values[-1]) if isinstance(value, int)}
        return numbers.get(b"MESSAGES", 0), numbers.get(b"UIDVALIDITY", 0)

    def _namespaces(self) -> tuple[list[bytes], list[bytes]]:
        """Prefixes of one's own folders, and of others'."""
        if not self._client.has("NAMESPACE"):
            return [], []
        for response in self._client.run(b"NAMESPACE"):
            if response.name == "NAMESPACE":
                spaces = [_prefixes(value) for value in response.values[:3]]
                spaces += [[]] * (3 - len(spaces))
                return [prefix for prefix in spaces[0] if prefix], [p for p in spaces[1] + spaces[2] if p]
        return [], []

    def _subscribed(self) -> set[bytes]:
        try:
            listed = self._client.run(b'LSUB "" "*"')
        except ImapError:
            return set()
        return {_bytes(one.values[2]) for one in listed if one.name == "LSUB" and len(one.values) > 2}

    # messages

    def items(self, folder: SourceFolder, known: Known) -> Iterator[Item | Unread]:
        given: set[str] = set()
        for attempt in range(TRIES + 1):
            try:
                for item in self._items(folder, lambda key, flags: key in given or known(key, flags)):
                    given.add(item.key)
                    yield item
                return
            except OSError:
                if attempt == TRIES:
                    raise
                time.sleep(2**attempt)
                self._again()

    def _again(self) -> None:
        with contextlib.suppress(OSError):
            self._client.close()
        self._client = self._connect()

    def _items(self, folder: SourceFolder, known: Known) -> Iterator[Item | Unread]:
        self._client.run(b"EXAMINE " + _name(folder.name.encode("latin-1")))
        sizes: dict[int, int] = {}
        everything: list[tuple[int, int]] = []
        for uid, pairs in self._fetch(self._client.start(b"UID FETCH 1:* (UID FLAGS RFC822.SIZE)")):
            said = pairs.get(b"RFC822.SIZE")
            size = said if isinstance(said, int) else 0
            everything.append((uid, size))
            if not known(str(uid), _flags(pairs)):
                sizes[uid] = size
        uidl_of = self._uidls(everything) if sizes and folder.path == "INBOX" else _no_uidl
        for uid in [uid for uid, size in sizes.items() if size > MAX_MESSAGE]:
            del sizes[uid]
            yield Unread(str(uid), f"{folder.path}/{uid}", f"larger than {MAX_MESSAGE >> 20} MiB")
        # The next group is asked for before this one is stored: the other server works meanwhile.
        groups = deque(_groups(sizes))
        under_way: deque[_Group] = deque()
        while groups or under_way:
            while groups and len(under_way) < 2:
                uids = groups.popleft()
                under_way.append(_Group(self._client.start(_ask(uids)), set(uids), len(uids) == 1))
            reason = "the server gave no content"
            try:
                for item in self._arriving(folder, under_way):
                    yield replace(item, uidl=uidl_of(item))
            except ImapError as error:
                reason = f"the server refuses it: {error}"
            group = under_way.popleft()
            if not group.alone:
                groups.extend([uid] for uid in sorted(group.missing))  # which of them is it? one by one
            else:
                for uid in group.missing:
                    yield Unread(str(uid), f"{folder.path}/{uid}", reason)

    def _uidls(self, everything: list[tuple[int, int]]) -> Callable[[Item], str]:
        """Which unique id the old server's POP3 shows for a message of its INBOX."""
        if self._pop3 is None:
            return _no_uidl
        ids = self._pop3()
        try:
            placed = by_place(ids.pairs(), sorted(everything))
            if placed is not None:
                return lambda item: placed.get(int(item.key), "")
            heads = ByHead(ids.heads())
            return lambda item: heads.take(item.data[:header_end(item.data)])
        finally:
            ids.close()

    def _arriving(self, folder: SourceFolder, under_way: deque[_Group]) -> Iterator[Item]:
        """What comes until the first group is answered; servers that work on both at once mix them."""
        for uid, pairs in self._fetch(under_way[0].tag):
            item = _item(folder, uid, pairs)
            group = next((one for one in under_way if uid in one.missing), None)
            if item is not None and group is not None:
                group.missing.discard(uid)
                yield item

    def _fetch(self, tag: bytes) -> Iterator[tuple[int, dict[bytes, Value]]]:
        for response in self._client.stream(tag):
            pairs = fetched(response)
            uid = pairs.get(b"UID") if pairs is not None else None
            if pairs is not None and isinstance(uid, int):
                yield uid, pairs


def _item(folder: SourceFolder, uid: int, pairs: dict[bytes, Value]) -> Item | None:
    data = pairs.get(b"BODY[]")
    if not isinstance(data, bytes) or not data:
        return None
    date = pairs.get(b"INTERNALDATE")
    return Item(
        str(uid),
        f"{folder.path}/{uid}",
        bytes(data),
        _flags(pairs),
        checked_date(bytes(date)) if isinstance(date, bytes) else b"",
    )


def _flags(pairs: dict[bytes, Value]) -> tuple[str, ...]:
    flags = pairs.get(b"FLAGS")
    named = [_bytes(flag).decode("ascii", "replace") for flag in flags] if isinstance(flags, list) else []
    return flags_of(named)


def _no_uidl(item: Item) -> str:
    return ""


def _bytes(value: Value) -> bytes:
    if isinstance(value, bytes):
        return bytes(value)
    return str(value).encode("ascii") if isinstance(value, int) else b""


def _prefixes(value: Value) -> list[bytes]:
    if not isinstance(value, list):
        return []
    return [_bytes(one[0]) for one in value if isinstance(one, list) and one]


def _name(wire: bytes) -> bytes:
    return b'"' + wire.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _ask(uids: list[int]) -> bytes:
    return b"UID FETCH " + uid_set(uids) + b" (UID FLAGS INTERNALDATE BODY.PEEK[])"


def _groups(sizes: dict[int, int]) -> Iterator[list[int]]:
    group: list[int] = []
    octets = 0
    for uid in sorted(sizes):
        if group and (len(group) >= GROUP or octets + sizes[uid] > GROUP_OCTETS):
            yield group
            group, octets = [], 0
        group.append(uid)
        octets += sizes[uid]
    if group:
        yield group
