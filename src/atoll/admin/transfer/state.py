"""admin.transfer.state -- what was imported already: a journal beside the island's data.

In     keys of messages, by folder of the source and its generation (UIDVALIDITY).
Out    "is it done, where is it, with which flags was it last seen at the source?", also after a crash: an entry is on
       disk before its batch is sent (intent) and after it (done).
Spec   one JSON value a line; a torn last line is ignored. IMAP keys are kept as ranges, others as a set.
Fails  OSError of the file; a second import of the same source at the same time is refused (flock).
Not    a database: admin owns none.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO


class Busy(Exception):
    """Another import of this source into this mailbox is running."""


@dataclass(slots=True)
class Intent:
    """A batch that was sent, and of which no answer is known. uidnext: of the target folder before it."""

    folder: str
    generation: str
    keys: list[str]
    target: str
    uidvalidity: int
    uidnext: int
    sizes: list[int]
    flags: list[str] = field(default_factory=list)
    """Of each message, with spaces between them."""


class Known(NamedTuple):
    """A message that came in: where it stands, and the flags that the source last showed. uid 0: not known."""

    target: str = ""
    uidvalidity: int = 0
    uid: int = 0
    flags: str = ""


class State:
    """The journal of one source into one mailbox."""

    def __init__(self, folder: Path, source: str, target: str) -> None:
        name = hashlib.blake2b(f"{source}\0{target.lower()}".encode(), digest_size=10).hexdigest()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / f"{name}.journal"
        self._folders: dict[tuple[str, str], dict[str, Known]] = {}
        self.pending: Intent | None = None
        self._file: TextIO = open(self.path, "a+", encoding="utf-8", opener=_private)  # noqa: SIM115 - held open
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise Busy from None
        self._read()
        if not self._folders and self._file.tell() == 0:
            self._write({"source": source, "target": target})

    def _read(self) -> None:
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if not line.endswith("\n"):
                break
            try:
                entry = json.loads(line)
            except ValueError:
                break
            whole += len(line.encode("utf-8"))
            self._take(entry)
        self._file.seek(0, os.SEEK_END)
        if self._file.tell() > whole:  # a torn line: cut it off, so that the next one stands alone
            self._file.truncate(whole)
            self._file.seek(0, os.SEEK_END)

    def _take(self, entry: dict[str, Any]) -> None:
        if "intent" in entry:
            self.pending = Intent(**entry["intent"])
        elif "done" in entry:
            folder, generation, keys, *placed = entry["done"]
            self._note(folder, generation, _expand(keys), *(placed[:1]))
            self.pending = None
        elif "flags" in entry:
            folder, generation, changed = entry["flags"]
            done = self._done(folder, generation)
            for key, flags in changed:
                done[key] = done.get(key, Known())._replace(flags=flags)
        elif "dropped" in entry:
            self.pending = None

    def _done(self, folder: str, generation: str) -> dict[str, Known]:
        return self._folders.setdefault((folder, generation), {})

    def _note(self, folder: str, generation: str, keys: list[str], placed: dict[str, Any] | None = None) -> None:
        done = self._done(folder, generation)
        if placed is None:  # a journal of before, or a batch whose place is not known
            done.update(dict.fromkeys(keys, Known()))
            return
        target, validity = sys.intern(placed["in"]), placed["validity"]
        flags = [sys.intern(one) for one, count in placed["flags"] for _ in range(count)]
        for key, uid, one in zip(keys, _expand(placed["uids"]), flags, strict=True):
            done[key] = Known(target, validity, int(uid), one)

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, ensure_ascii=True, separators=(",", ":")) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def has(self, folder: str, generation: str, key: str) -> bool:
        """Is the message there?"""
        return key in self._done(folder, generation)

    def known(self, folder: str, generation: str, key: str) -> Known | None:
        """What is known of a message that is there."""
        return self._done(folder, generation).get(key)

    def intend(self, intent: Intent) -> None:
        """About to send this batch."""
        self.pending = intent
        self._write({"intent": {name: getattr(intent, name) for name in Intent.__slots__}})

    def done(self, intent: Intent, uids: list[int]) -> None:
        """The batch is committed in the mailbox. uids: of its messages there, in order; []: not known."""
        entry: list[Any] = [intent.folder, intent.generation, _compress(intent.keys)]
        placed = None
        if len(uids) == len(intent.keys) == len(intent.flags):
            placed = {"in": intent.target, "validity": intent.uidvalidity,
                      "uids": _compress([str(uid) for uid in uids]),
                      "flags": [(flags, len(list(same))) for flags, same in itertools.groupby(intent.flags)]}
            entry.append(placed)
        self._write({"done": entry})
        self._note(intent.folder, intent.generation, intent.keys, placed)
        self.pending = None

    def flagged(self, folder: str, generation: str, changed: list[tuple[str, str]]) -> None:
        """The source shows these flags now, and the mailbox has followed."""
        self._write({"flags": [folder, generation, changed]})
        done = self._done(folder, generation)
        for key, flags in changed:
            done[key] = done[key]._replace(flags=flags)

    def dropped(self) -> None:
        """The pending batch did not arrive."""
        self._write({"dropped": True})
        self.pending = None

    def close(self) -> None:
        """Give the journal free."""
        self._file.close()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _compress(keys: list[str]) -> list[str]:
    """Runs of numbers as "a:b"; everything else as it is."""
    out: list[str] = []
    start = last = -1
    for key in keys:
        number = int(key) if key.isascii() and key.isdigit() and key[0] != "0" else -1
        if number >= 0 and number == last + 1 and start >= 0:
            last = number
            out[-1] = f"{start}:{last}"
            continue
        out.append(key)
        start = last = number
    return out


def _expand(keys: list[str]) -> list[str]:
    out: list[str] = []
    for key in keys:
        first, colon, last = key.partition(":")
        if colon and first.isdigit() and last.isdigit():
            out.extend(str(number) for number in range(int(first), int(last) + 1))
        else:
            out.append(key)
    return out
