"""admin.transfer.importer -- from a source into a mailbox, once each, whatever breaks in between.

In     a Source, a Mailbox, a State, somebody who shows progress.
Out    Report.
Spec   docs/adr/0002. A batch is written to the journal before it is sent and after it is committed; in doubt the
       mailbox is asked. So a message comes in once, also over crashes on either side.
Fails  ImapError when the mailbox takes nothing more (OVERQUOTA); OSError when it stays away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from atoll.admin.transfer import names
from atoll.admin.transfer.files import MAX_MESSAGE
from atoll.admin.transfer.imap_client import ImapError
from atoll.admin.transfer.message import Item, Unread, crlf
from atoll.admin.transfer.sources import Skipped, Source, SourceFolder
from atoll.admin.transfer.state import Intent, Known, State
from atoll.admin.transfer.target import Mailbox

BATCH = 200
BATCH_OCTETS = 8 * 1024 * 1024
TRIES = 6
_FULL = ("OVERQUOTA",)


class Progress(Protocol):
    """Who shows how far it is."""

    def total(self, messages: int) -> None: ...

    def add(self, messages: int, octets: int) -> None: ...


@dataclass(slots=True)
class Report:
    """What came of it. failed: (where, why) of each message or folder that could not be read or stored."""

    source: str
    target: str
    folders: int = 0
    messages: int = 0
    octets: int = 0
    already: int = 0
    reflagged: int = 0
    """Messages of earlier runs whose flags changed at the source."""
    mended: int = 0
    """Messages whose line ends were made CRLF."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Folders and files that were left out, and why."""
    seconds: float = 0.0


class Importer:
    """One source into one mailbox."""

    def __init__(self, source: Source, mailbox: Mailbox, state: State, report: Report, progress: Progress) -> None:
        self._source = source
        self._mailbox = mailbox
        self._state = state
        self.report = report
        self._progress = progress
        self._batch: list[Item] = []
        self._octets = 0
        self._changed: dict[str, tuple[Known, str]] = {}

    def run(self, into: str = "") -> Report:
        """Bring everything in. into: a folder of the mailbox under which all of it is put."""
        started = time.monotonic()
        try:
            self._settle()
            folders = []
            for one in self._source.folders():
                if isinstance(one, Skipped):
                    (self.report.failed if one.wanted else self.report.skipped).append((one.where, one.reason))
                else:
                    folders.append(one)
            self._progress.total(sum(folder.count for folder in folders))
            for folder in folders:
                self._folder(folder, into)
        finally:
            self.report.seconds = time.monotonic() - started
        return self.report

    def _settle(self) -> None:
        """A batch of an earlier run, of which no answer is known."""
        pending = self._state.pending
        if pending is None:
            return
        uids = self._mailbox.arrived(pending)
        if uids is not None:
            self._state.done(pending, uids)
        else:
            self._state.dropped()

    def _folder(self, folder: SourceFolder, into: str) -> None:
        path = self._mailbox.uses.get(folder.use, folder.path) if not into else f"{into}/{folder.path}"
        try:
            self._mailbox.ensure(path, subscribe=folder.subscribed)
        except ImapError as error:
            self.report.failed.append((path, f"the folder cannot be made: {error}"))
            return
        self.report.folders += 1

        def known(key: str, flags: tuple[str, ...] | None) -> bool:
            there = self._state.known(folder.name, folder.generation, key)
            if there is None:
                return False
            self.report.already += 1
            self._progress.add(1, 0)
            if there.uid and flags is not None and there.flags != (now := " ".join(sorted(flags))):
                self._changed[key] = (there, now)
            return True

        for item in self._source.items(folder, known):
            if isinstance(item, Unread):
                self.report.failed.append((item.where, item.reason))
                self._progress.add(1, 0)
                continue
            self._add(folder, path, item)
        self._flush(folder, path)
        self._follow(folder)

    def _follow(self, folder: SourceFolder) -> None:
        """Flags that changed at the source change here; what was changed here only stays."""
        changed, self._changed = self._changed, {}
        groups: dict[tuple[str, int, str, str], list[tuple[str, Known]]] = {}
        for key, (there, now) in changed.items():
            groups.setdefault((there.target, there.uidvalidity, there.flags, now), []).append((key, there))
        for (path, validity, before, now), messages in groups.items():
            add, remove = set(now.split()) - set(before.split()), set(before.split()) - set(now.split())
            uids = sorted(there.uid for _, there in messages)
            try:
                if not self._again(lambda path=path, validity=validity, uids=uids, add=add, remove=remove: (  # type: ignore[misc]
                        self._flags(path, validity, uids, sorted(add), sorted(remove)))):
                    continue
            except ImapError as error:
                self.report.skipped.append((path, f"flags do not follow: {error}"))
                continue
            self._state.flagged(folder.name, folder.generation, [(key, now) for key, _ in messages])
            self.report.reflagged += len(messages)

    def _flags(self, path: str, validity: int, uids: list[int], add: list[str], remove: list[str]) -> bool:
        """False: the folder that they came into is not there any more."""
        if self._mailbox.status(path)[0] != validity:
            return False
        self._mailbox.flags(path, uids, add, remove)
        return True

    def _again(self, work: Callable[[], bool]) -> bool:
        """Something that may be repeated, over lost connections."""
        for attempt in range(TRIES + 1):
            try:
                if attempt:
                    self._mailbox.reconnect()
                return work()
            except OSError:
                if attempt == TRIES:
                    raise
                time.sleep(min(0.5 * 2**attempt, 10))
        raise AssertionError

    def _add(self, folder: SourceFolder, path: str, item: Item) -> None:
        data, mended = crlf(item.data)
        if not data or len(data) > MAX_MESSAGE:
            self.report.failed.append((item.where, f"larger than {MAX_MESSAGE >> 20} MiB" if data else "empty"))
            self._progress.add(1, 0)
            return
        if mended:
            item = replace(item, data=data)
            self.report.mended += 1
        if self._batch and (len(self._batch) >= BATCH or self._octets + len(data) > BATCH_OCTETS):
            self._flush(folder, path)
        self._batch.append(item)
        self._octets += len(data)

    def _flush(self, folder: SourceFolder, path: str) -> None:
        batch, octets = self._batch, self._octets
        self._batch, self._octets = [], 0
        if not batch:
            return
        try:
            self._store(folder, path, batch)
        except ImapError as error:
            if error.code in _FULL:
                raise
            if len(batch) == 1:
                self._refused(batch[0], error)
                return
            for item in batch:  # all or none: find the one that the mailbox does not take
                self._one(folder, path, item)
            return
        self.report.messages += len(batch)
        self.report.octets += octets
        self._progress.add(len(batch), octets)

    def _one(self, folder: SourceFolder, path: str, item: Item) -> None:
        try:
            self._store(folder, path, [item])
        except ImapError as error:
            if error.code in _FULL:
                raise
            self._refused(item, error)
            return
        self.report.messages += 1
        self.report.octets += len(item.data)
        self._progress.add(1, len(item.data))

    def _refused(self, item: Item, error: ImapError) -> None:
        self.report.failed.append((item.where, f"the mailbox refuses it: {error}"))
        self._progress.add(1, 0)

    def _store(self, folder: SourceFolder, path: str, batch: list[Item]) -> None:
        """Committed when it returns; ImapError: refused, nothing of it is there."""
        keys = [item.key for item in batch]
        flags = [" ".join(sorted(item.flags)) for item in batch]
        uids: list[int] = []
        for attempt in range(TRIES + 1):
            try:
                if attempt:
                    self._mailbox.reconnect()
                    if self._state.pending is not None:
                        arrived = self._mailbox.arrived(self._state.pending)
                        if arrived is not None:
                            intent, uids = self._state.pending, arrived
                            break
                validity, following = self._mailbox.status(path)
                intent = Intent(folder.name, folder.generation, keys, path, validity, following,
                                [len(item.data) for item in batch], flags)
                self._state.intend(intent)
                uids = self._mailbox.append(path, batch)
                break
            except ImapError:
                self._state.dropped()
                raise
            except OSError:
                if attempt == TRIES:
                    raise
                time.sleep(min(0.5 * 2**attempt, 10))
        self._state.done(intent, uids)


def checked_into(into: str) -> str:
    """A folder path that the operator typed."""
    return "/".join(names.component(part) for part in into.split("/") if part)
