"""admin.transfer.sources.mbox -- mbox files, and trees of them (Thunderbird's "X.sbd" too).

In     a file, or a directory with such files.
Out    one folder a file; ">From " is unquoted as mboxrd has it; the date of the From_ line; flags of Status and
       X-Status. Key: a digest of the message without these and how often it came before, so a grown file is read on.
Spec   RFC 4155; mboxrd (a line of ">"s and "From " loses one ">").
Fails  a file that does not begin with "From " is Skipped; a message beyond the limit is Unread.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from atoll.admin.transfer import names
from atoll.admin.transfer.files import MAX_MESSAGE, Folder, Refused, Unreadable
from atoll.admin.transfer.message import Item, Unread, checked_uidl, date_time, flags_of
from atoll.admin.transfer.sources import Known, Skipped, SourceFolder
from atoll.formats.mime import header_end, header_lines, parse_date

MAX_LEVELS = 20
_LINE = 1024 * 1024
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
_SEPARATOR = re.compile(rb"From .{0,900}\d\d:\d\d").match
_STATUS = {"R": "\\Seen", "A": "\\Answered", "F": "\\Flagged", "T": "\\Draft", "D": "\\Deleted"}


class MboxSource:
    """paths: files or directories that the operator named. folder: where single files go, "" = by their names."""

    def __init__(self, paths: list[Path], folder: str = "") -> None:
        self.name = "mbox:" + "\0".join(str(path.absolute()) for path in paths)
        self._paths = paths
        self._folder = folder

    def close(self) -> None:
        """Files are open only while they are read."""

    def folders(self) -> list[SourceFolder | Skipped]:
        found: list[SourceFolder | Skipped] = []
        for path in self._paths:
            if path.is_dir():
                with Folder.named(path) as folder:
                    self._walk(folder, path, [], found)
            else:
                with Folder.named(path.resolve().parent) as folder:
                    self._file(folder, path.resolve(), [], found, self._folder, named=True)
        return found

    def _walk(self, folder: Folder, base: Path, levels: list[str], found: list[SourceFolder | Skipped]) -> None:
        for name in folder.names():
            kind = folder.kind(name)
            if kind == "folder" and len(levels) < MAX_LEVELS:
                try:
                    with folder.folder(name) as child:
                        self._walk(child, base / name, [*levels, name.removesuffix(".sbd")], found)
                except Refused as refused:
                    found.append(Skipped(str(base / name), str(refused), wanted=True))
            else:
                self._file(folder, base / name, levels, found, "")

    @staticmethod
    def _file(folder: Folder, path: Path, levels: list[str], found: list[SourceFolder | Skipped], into: str, *,
              named: bool = False) -> None:
        try:
            fd, _ = folder.open(path.name)
        except Refused as refused:
            found.append(Skipped(str(path), str(refused), wanted=named or isinstance(refused, Unreadable)))
            return
        with os.fdopen(fd, "rb") as file:
            start = file.read(5)
        if start != b"From ":
            if start:
                found.append(Skipped(str(path), "not an mbox: it does not begin with a From_ line", named))
            return
        stem = path.name.removesuffix(".mbox").removesuffix(".mbx")
        own = into or "/".join(names.component(part) for part in [*levels, stem])
        if own.casefold() in ("inbox", "mbox"):
            own = "INBOX"
        found.append(SourceFolder(str(path), own, use=names.special_use([], own)))

    def items(self, folder: SourceFolder, known: Known) -> Iterator[Item | Unread]:
        path = Path(folder.name)
        seen: Counter[str] = Counter()
        with Folder.named(path.parent) as parent:
            try:
                fd, status = parent.open(path.name)
            except Refused as refused:
                yield Unread("", folder.name, str(refused))
                return
            with os.fdopen(fd, "rb") as file:
                for offset, head, data in split(file):
                    where = f"{folder.name} at octet {offset}"
                    if data is None:
                        yield Unread(f"at-{offset}", where, f"larger than {MAX_MESSAGE >> 20} MiB")
                        continue
                    digest, flags, uidl = _status(data)
                    seen[digest] += 1
                    key = f"{digest}-{seen[digest]}"
                    if not known(key, flags):
                        yield Item(key, where, data, flags, _date(head) or date_time(status.st_mtime), uidl)


def split(file: BinaryIO, limit: int = MAX_MESSAGE) -> Iterator[tuple[int, bytes, bytes | None]]:
    """(offset, From_ line, message) of each message, unquoted; the message is None when it is beyond the limit."""
    offset = start = 0
    head = b""
    lines: list[bytes] = []
    size = 0
    blank = whole = True
    while line := file.readline(_LINE):
        if whole and blank and line.startswith(b"From ") and (offset == 0 or _SEPARATOR(line)):
            if head:
                yield start, head, _message(lines) if size <= limit else None
            start, head, lines, size = offset, line, [], 0
        elif head:
            size += len(line)
            if size <= limit:
                lines.append(line)
            else:
                lines.clear()
        offset += len(line)
        blank = whole and line in (b"\n", b"\r\n")
        whole = line.endswith(b"\n")
    if head:
        yield start, head, _message(lines) if size <= limit else None


def _message(lines: list[bytes]) -> bytes:
    """What stands between two From_ lines: without the blank line that the format adds, and unquoted."""
    if lines and lines[-1] in (b"\n", b"\r\n"):
        lines.pop()
    return _QUOTED.sub(rb"\1", b"".join(lines))


def _date(head: bytes) -> bytes:
    """Of "From someone Tue Nov 24 11:42:16 2026"."""
    parts = head.strip().split(b" ", 2)
    milliseconds = parse_date(parts[2].strip()) if len(parts) == 3 else None
    return b"" if milliseconds is None else date_time(milliseconds / 1000)


def _status(data: bytes) -> tuple[str, tuple[str, ...], str]:
    """A digest without the fields in which readers keep state; flags; the unique id that a POP3 server kept."""
    named: list[str] = []
    uidl = ""
    digest = hashlib.blake2b(digest_size=12)
    for name, raw in header_lines(data):
        lowered = name.lower()
        if lowered in (b"status", b"x-status"):
            named += [
                _STATUS[letter] for letter in raw[len(name) + 1 :].decode("ascii", "replace") if letter in _STATUS
            ]
        elif lowered == b"x-keywords":
            named += raw[len(name) + 1 :].decode("ascii", "replace").replace(",", " ").split()
        elif lowered == b"x-uidl":
            uidl = checked_uidl(raw[len(name) + 1 :].decode("ascii", "replace").strip())
        else:
            digest.update(raw)
    digest.update(data[header_end(data) :])
    return digest.hexdigest(), flags_of(named), uidl
