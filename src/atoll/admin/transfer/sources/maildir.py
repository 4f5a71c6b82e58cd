"""admin.transfer.sources.maildir -- a Maildir, Maildir++ or a tree of Maildirs.

In     a directory. Names and files in it are nobody's word: see files.
Out    INBOX and folders; flags of the info part, keywords of Dovecot's dovecot-keywords, file times as dates.
       Key: the file name without its info part. Unique ids of POP3 from dovecot-uidlist.
Spec   Maildir (cr.yp.to/proto/maildir.html), Maildir++ (folders ".A.B").
Fails  what cannot be read is Unread or Skipped, one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from atoll.admin.transfer import names
from atoll.admin.transfer.files import Folder, Refused
from atoll.admin.transfer.message import MAILDIR_LETTERS, Item, Unread, date_time, flags_of
from atoll.admin.transfer.sources import Known, Skipped, SourceFolder
from atoll.admin.transfer.uidls import read_uidlist

MAX_LEVELS = 20
MAX_UIDLIST = 256 << 20
_INFO = re.compile(r"[:;!]2,([A-Za-z,]*)\Z")
_PARTS = ("cur", "new")


class MaildirSource:
    """path: the root of it."""

    def __init__(self, path: Path) -> None:
        self.name = f"maildir:{path.absolute()}"
        self._root = Folder.named(path)

    def close(self) -> None:
        self._root.close()

    def folders(self) -> list[SourceFolder | Skipped]:
        found: list[SourceFolder | Skipped] = []
        self._walk(self._root, [], found)
        if not any(isinstance(one, SourceFolder) for one in found):
            found.append(Skipped(self.name, "no Maildir here (no cur or new)", wanted=True))
        return found

    def _walk(self, folder: Folder, levels: list[str], found: list[SourceFolder | Skipped]) -> None:
        inside = folder.names()
        if any(part in inside for part in _PARTS):
            path = self._path(levels)
            count = sum(len(list(_part(folder, part))) for part in _PARTS)
            found.append(SourceFolder("/".join(levels), path, use=names.special_use([], path), count=count))
        if len(levels) >= MAX_LEVELS:
            return
        for name in inside:
            if name in ("cur", "new", "tmp", ".", ".."):
                continue
            kind = folder.kind(name)
            if kind == "file":
                continue
            if kind != "folder":
                found.append(Skipped("/".join([*levels, name]), kind))
                continue
            try:
                with folder.folder(name) as child:
                    self._walk(child, [*levels, name], found)
            except Refused as refused:
                found.append(Skipped("/".join([*levels, name]), str(refused), wanted=True))

    @staticmethod
    def _path(levels: list[str]) -> str:
        parts = []
        for level in levels:
            if level.startswith(".") and len(level) > 1:
                parts.append(names.from_maildir_name(level))
            else:
                parts.append(names.component(level))
        path = "/".join(parts) or "INBOX"
        return "INBOX" if path.upper() == "INBOX" else path

    def items(self, folder: SourceFolder, known: Known) -> Iterator[Item | Unread]:
        opened = [self._root]
        try:
            for level in filter(None, folder.name.split("/")):
                opened.append(opened[-1].folder(level))
            keywords = _keywords(opened[-1])
            uidls = _uidls(opened[-1]) if folder.path == "INBOX" else {}
            for part in _PARTS:
                for name in _part(opened[-1], part):
                    key, flags = _INFO.sub("", name), _flags(name, keywords)
                    if not known(key, flags):
                        yield self._item(opened[-1], part, name, flags, f"{folder.path}: {part}/{name}",
                                         uidls.get(key, ""))
        finally:
            for one in opened[1:]:
                one.close()

    @staticmethod
    def _item(folder: Folder, part: str, name: str, flags: tuple[str, ...], where: str, uidl: str) -> Item | Unread:
        key = _INFO.sub("", name)
        try:
            with folder.folder(part) as place:
                data, status = place.read(name)
        except Refused as refused:
            return Unread(key, where, str(refused))
        return Item(key, where, data, flags, date_time(status.st_mtime), uidl)


def _flags(name: str, keywords: dict[str, str]) -> tuple[str, ...]:
    info = _INFO.search(name)
    named = [MAILDIR_LETTERS.get(letter) or keywords.get(letter, "") for letter in (info.group(1) if info else "")]
    return flags_of([flag for flag in named if flag])


def _uidls(folder: Folder) -> Mapping[str, str]:
    """Unique ids of POP3 that Dovecot kept for these files."""
    try:
        return read_uidlist(folder.read("dovecot-uidlist", MAX_UIDLIST)[0].decode("utf-8", "replace"))
    except Refused:
        return {}


def _part(folder: Folder, part: str) -> list[str]:
    if folder.kind(part) != "folder":
        return []
    with folder.folder(part) as place:
        return [name for name in place.names() if not name.startswith(".")]


def _keywords(folder: Folder) -> dict[str, str]:
    """Letters a to z of this folder: "0 $Label1" is a."""
    try:
        text = folder.read("dovecot-keywords", 65_536)[0].decode("utf-8", "replace")
    except Refused:
        return {}
    found = {}
    for line in text.splitlines():
        number, _, keyword = line.partition(" ")
        if number.isdigit() and int(number) < 26 and keyword:
            found[chr(ord("a") + int(number))] = keyword
    return found
