"""admin.transfer.sinks -- a mailbox as files: Maildir++, mboxrd, EML.

In     items of a mailbox, folder by folder, into a directory that is new or empty.
Out    files that stay inside it, whatever the folders are called (attack row F001).
Spec   Maildir, Maildir++; RFC 4155 with mboxrd quoting, so a round trip is equal (F003); RFC 5322 files.
Fails  OSError of the file system.
Not    flags in mbox and EML: the formats have no place for them outside the message. EML has them in index.csv.
"""

from __future__ import annotations

import csv
import io
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from atoll.admin.transfer import names
from atoll.admin.transfer.files import Folder
from atoll.admin.transfer.message import MAILDIR_LETTERS, Item, seconds_of
from atoll.formats.mime import decoded, header_end, parse_addresses
from atoll.formats.mime.fields import parse_fields

_FROM = re.compile(rb"^(>*From )", re.MULTILINE)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class NotEmpty(Exception):
    """The directory has something in it already."""


class Sink(Protocol):
    """What the exporter needs of a place for mail."""

    def folder(self, path: str) -> None:
        """Items that follow are of this folder."""

    def write(self, item: Item) -> None:
        """Store one."""

    def close(self) -> None:
        """Complete."""


def new_root(path: Path) -> Folder:
    """The directory, made if it is not there."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = Folder.named(path)
    if not root.is_empty():
        root.close()
        raise NotEmpty(f"{path} is not empty")
    return root


def distinct(name: str, taken: set[str], most: int = names.MAX_COMPONENT) -> str:
    """The name, or the name with a number when it is taken (in any case of letters); it is taken afterwards."""
    name = base = name[:most]
    count = 1
    while name.casefold() in taken:
        count += 1
        name = f"{base}~{count}"
    taken.add(name.casefold())
    return name


class MaildirSink:
    """Maildir++: INBOX at the root, ".Archive.2025" beside. Line ends are LF, as Maildir programs keep them."""

    def __init__(self, path: Path) -> None:
        self._root = new_root(path)
        self._count = 0
        self._open: list[Folder] = []
        self._keywords: list[str] = []
        self._taken: set[str] = set()

    def folder(self, path: str) -> None:
        self._leave()
        place = self._root if path == "INBOX" else self._root.make(distinct(names.maildir_name(path), self._taken))
        if path != "INBOX":
            self._open.append(place)
            place.write("maildirfolder", b"")
        self._tmp, self._cur = place.make("tmp"), place.make("cur")
        place.make("new").close()
        self._open += [self._tmp, self._cur]
        self._place = place

    def _leave(self) -> None:
        if self._keywords:
            lines = "".join(f"{at} {keyword}\n" for at, keyword in enumerate(self._keywords))
            self._place.write("dovecot-keywords", lines.encode())
            self._keywords = []
        for one in self._open:
            one.close()
        self._open = []

    def _letters(self, item: Item) -> str:
        by_flag = {flag: letter for letter, flag in MAILDIR_LETTERS.items()}
        letters = []
        for flag in item.flags:
            if flag in by_flag:
                letters.append(by_flag[flag])
                continue
            if flag not in self._keywords and len(self._keywords) < 26:
                self._keywords.append(flag)
            if flag in self._keywords:
                letters.append(chr(ord("a") + self._keywords.index(flag)))
        return "".join(sorted(letters))

    def write(self, item: Item) -> None:
        self._count += 1
        seconds = seconds_of(item.date)
        data = item.data.replace(b"\r\n", b"\n")
        name = f"{seconds or 0}.M{self._count:06d}P{os.getpid()}.atoll,S={len(data)},W={len(item.data)}"
        self._tmp.write(name, data, seconds)
        self._tmp.rename(name, self._cur, f"{name}:2,{self._letters(item)}")

    def close(self) -> None:
        self._leave()
        self._root.close()


class _Tree:
    """Directories for folders: "Archive/2025" is Archive/2025, with safe and distinct names."""

    def __init__(self, root: Folder) -> None:
        self._root = root
        self._names: dict[tuple[str, ...], tuple[dict[str, str], set[str]]] = {}

    @contextmanager
    def at(self, levels: list[str]) -> Iterator[Folder]:
        """The directory of these levels."""
        opened: list[Folder] = []
        place = self._root
        try:
            for depth, level in enumerate(levels):
                place = place.make(self.name(levels[:depth], level))
                opened.append(place)
            yield place
        finally:
            for one in opened:
                one.close()

    def name(self, above: list[str], level: str) -> str:
        """A file name for one level; two levels never share one, not even on a file system that ignores case."""
        known, taken = self._names.setdefault(tuple(above), ({}, set()))
        if level not in known:
            known[level] = distinct(names.file_component(level), taken)
        return known[level]


class MboxSink:
    """One file for each folder: Archive/2025.mbox. Line ends are LF; "From " lines are quoted (mboxrd)."""

    def __init__(self, path: Path) -> None:
        self._root = new_root(path)
        self._tree = _Tree(self._root)
        self._file: BinaryIO | None = None

    def folder(self, path: str) -> None:
        self._leave()
        *above, last = path.split("/")
        with self._tree.at(above) as place:
            self._file = os.fdopen(place.create(self._tree.name(above, last + ".mbox")), "wb")

    def _leave(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, item: Item) -> None:
        assert self._file is not None
        seconds = seconds_of(item.date) or 0
        stamp = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(seconds)).encode("ascii")
        self._file.write(b"From %b %b\n" % (_sender(item.data), stamp))
        data = _FROM.sub(rb">\1", item.data.replace(b"\r\n", b"\n"))
        self._file.write(data if data.endswith(b"\n") else data + b"\n")
        self._file.write(b"\n")

    def close(self) -> None:
        self._leave()
        self._root.close()


class EmlSink:
    """One file for each message: Archive/2025/17.eml, byte for byte; index.csv lists them with flags and dates."""

    def __init__(self, path: Path) -> None:
        self._root = new_root(path)
        self._tree = _Tree(self._root)
        self._path = ""
        self._index = os.fdopen(self._root.create("index.csv"), "w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._index, quoting=csv.QUOTE_ALL)
        self._rows.writerow(("folder", "file", "date", "flags", "from", "subject"))

    def folder(self, path: str) -> None:
        self._path = path

    def write(self, item: Item) -> None:
        levels = self._path.split("/")
        with self._tree.at(levels) as place:
            place.write(f"{item.key}.eml", item.data, seconds_of(item.date))
        fields = parse_fields(item.data, 0, header_end(item.data), (b"from", b"subject"))
        file = "/".join([self._tree.name(levels[:at], level) for at, level in enumerate(levels)] + [f"{item.key}.eml"])
        row = (self._path, file, item.date.decode("ascii"), " ".join(item.flags),
               decoded(fields.get(b"from", b"")), decoded(fields.get(b"subject", b"")))  # fmt: skip
        self._rows.writerow([cell(value) for value in row])

    def close(self) -> None:
        self._index.close()
        self._root.close()


def cell(value: str) -> str:
    """A CSV cell that no spreadsheet takes for a formula (attack row F002)."""
    value = value.replace("\0", "")
    return "'" + value if value.startswith(_FORMULA) else value


def csv_text(rows: list[tuple[str, ...]]) -> str:
    """Rows as CSV, every cell quoted and harmless."""
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([[cell(value) for value in row] for row in rows])
    return out.getvalue()


def _sender(data: bytes) -> bytes:
    """The address of the From_ line: Return-Path's, else From's, else a stand-in."""
    fields = parse_fields(data, 0, header_end(data), (b"return-path", b"from"))
    for name in (b"return-path", b"from"):
        for address in parse_addresses(fields.get(name, b""), 1):
            text = (address.mailbox or b"") + b"@" + (address.host or b"")
            if re.fullmatch(rb"[!-~]{3,300}", text) and b"MISSING" not in text:
                return text
    return b"MAILER-DAEMON"
