"""admin.transfer.sources.eml -- single messages in files.

In     files and directories; in a directory every *.eml, folders by subdirectory.
Out    messages; the file's time as date if the message has none. Key: path, size and time.
Fails  what cannot be read is Unread, one by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from atoll.admin.transfer import names
from atoll.admin.transfer.files import Folder, Refused
from atoll.admin.transfer.message import Item, Unread, date_time
from atoll.admin.transfer.sources import Known, Skipped, SourceFolder
from atoll.formats.mime import header_end, parse_date
from atoll.formats.mime.fields import parse_fields

MAX_LEVELS = 20
SUFFIXES = (".eml", ".msg822", ".mail")


class EmlSource:
    """paths: what the operator named. folder: where files at the top go."""

    def __init__(self, paths: list[Path], folder: str = "INBOX") -> None:
        self.name = "eml:" + "\0".join(str(path.absolute()) for path in paths)
        self._paths = paths
        self._folder = folder
        self._files: dict[str, list[Path]] = {}
        self._skipped: list[Skipped] = []

    def close(self) -> None:
        """Files are open only while they are read."""

    def folders(self) -> list[SourceFolder | Skipped]:
        self._files.clear()
        self._skipped.clear()
        for path in self._paths:
            if path.is_dir():
                with Folder.named(path) as folder:
                    self._walk(folder, path, [])
            else:
                self._files.setdefault(self._folder, []).append(path.absolute())
        found: list[SourceFolder | Skipped] = [
            SourceFolder(path, path, use=names.special_use([], path), count=len(files))
            for path, files in self._files.items()
        ]
        return found + self._skipped

    def _walk(self, folder: Folder, base: Path, levels: list[str]) -> None:
        for name in folder.names():
            kind = folder.kind(name)
            if kind == "folder" and len(levels) < MAX_LEVELS:
                try:
                    with folder.folder(name) as child:
                        self._walk(child, base / name, [*levels, name])
                except Refused as refused:
                    self._skipped.append(Skipped(str(base / name), str(refused), wanted=True))
            elif name.lower().endswith(SUFFIXES):
                path = "/".join(names.component(level) for level in levels) or self._folder
                path = "INBOX" if path.upper() == "INBOX" else path
                self._files.setdefault(path, []).append((base / name).absolute())
            elif kind not in ("file", "folder"):
                self._skipped.append(Skipped(str(base / name), kind))

    def items(self, folder: SourceFolder, known: Known) -> Iterator[Item | Unread]:
        for path in self._files.get(folder.name, []):
            try:
                with Folder.named(path.parent) as parent:
                    data, status = parent.read(path.name)
            except (Refused, OSError) as error:
                yield Unread(str(path), str(path), str(error))
                continue
            words = f"{path}\0{status.st_size}\0{status.st_mtime_ns}"
            key = "e" + hashlib.blake2b(words.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
            if not known(key, None):
                yield Item(key, str(path), data, (), _date(data) or date_time(status.st_mtime))


def _date(data: bytes) -> bytes:
    value = parse_fields(data, 0, header_end(data), (b"date",)).get(b"date", b"")
    milliseconds = parse_date(value) if value else None
    return b"" if milliseconds is None else date_time(milliseconds / 1000)
