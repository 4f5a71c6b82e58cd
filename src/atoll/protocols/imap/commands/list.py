"""LIST [RFC 9051 §6.3.9], LIST-EXTENDED [RFC 5258], LIST-STATUS [RFC 5819], SPECIAL-USE [RFC 6154], LSUB [RFC 3501].

Folders of recoverable items are hidden: they are listed for a pattern that begins with "Recoverable Items", or always
when the configuration says so.
Other people's folders are listed for a pattern that begins with "Other Users": of the person whom it names, or of all
who share something; for "*" as well, since most clients ask for nothing else ("complete hierarchy", [RFC 2342 §1]),
unless more people share than a client would want to see unasked; those that the client is subscribed to for every
pattern that they match. Other processes are asked to answer for theirs, each of them once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from atoll.base.ids import UserId
from atoll.mailbox import Folder, Right, StoreError
from atoll.protocols.imap import names
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.commands.status import line as status_line
from atoll.protocols.imap.commands.status import parse_items, reclaimable
from atoll.protocols.imap.errors import Bad, No
from atoll.protocols.imap.remote import Elsewhere
from atoll.protocols.imap.types import ListCommand
from atoll.protocols.imap.wire import response
from atoll.protocols.imap.wire.cursor import Cursor
from atoll.protocols.imap.wire.patterns import Pattern
from atoll.runtime.rpc import RpcError

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session

HIDDEN = "Recoverable Items"
MAX_PATTERNS = 100
MAX_UNASKED = 100
"""People whose folders are listed for "*". Of more, those that the client is subscribed to or asks for by name."""
SELECTS = frozenset({"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"})
RETURNS = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE"})


def parse(cur: Cursor) -> ListCommand:
    """SP [select-opts SP] mailbox SP patterns [SP RETURN (...)]"""
    cur.space()
    select: frozenset[str] = frozenset()
    extended = cur.skip(b"(")
    if extended:
        select = frozenset(_words(cur, SELECTS))
        cur.space()
        if "RECURSIVEMATCH" in select and "SUBSCRIBED" not in select:
            raise Bad("RECURSIVEMATCH needs another option")  # [RFC 5258 §3.1]
    reference = cur.mailbox()
    cur.space()
    patterns: list[str] = []
    if cur.skip(b"("):
        extended = True
        while not cur.skip(b")"):
            if patterns:
                cur.space()
            patterns.append(cur.list_mailbox())
            if len(patterns) > MAX_PATTERNS:
                raise Bad("Too many patterns")
    else:
        patterns.append(cur.list_mailbox())
    returns, status = set[str](), tuple[str, ...]()
    if cur.skip(b" RETURN ("):
        extended = True
        returns, status = _returns(cur)
    cur.end()
    return ListCommand(reference, tuple(patterns), select, frozenset(returns), status, extended)


def _words(cur: Cursor, known: frozenset[str]) -> Iterator[str]:
    first = True
    while not cur.skip(b")"):
        if not first:
            cur.space()
        first = False
        word = cur.word()
        if word not in known:
            raise Bad("Unknown LIST option")
        yield word


def _returns(cur: Cursor) -> tuple[set[str], tuple[str, ...]]:
    returns: set[str] = set()
    status: tuple[str, ...] = ()
    first = True
    while not cur.skip(b")"):
        if not first:
            cur.space()
        first = False
        word = cur.word()
        if word == "STATUS":
            cur.space()
            status = parse_items(cur)
        elif word in RETURNS:
            returns.add(word)
        else:
            raise Bad("Unknown LIST option")
    return returns, status


def parse_lsub(cur: Cursor) -> ListCommand:
    """SP mailbox SP pattern"""
    cur.space()
    reference = cur.mailbox()
    cur.space()
    pattern = cur.list_mailbox()
    cur.end()
    return ListCommand(reference, (pattern,), frozenset({"SUBSCRIBED"}))


async def run(session: Session, args: ListCommand, tag: bytes) -> Ok:
    if args.patterns == ("",) and not args.extended:
        session.write(b'* LIST (\\Noselect) "/" ""\r\n')  # [RFC 9051 §6.3.9] what separates levels here
        return Ok("Listed")
    if "HIGHESTMODSEQ" in args.status:
        session.use_condstore()
    patterns = [Pattern(args.reference + pattern) for pattern in args.patterns]
    found = await _candidates(session, patterns, subscribed="SUBSCRIBED" in args.select)
    recursive = "RECURSIVEMATCH" in args.select
    above = _subscribed_above(found) if recursive else frozenset()
    # [RFC 5258 §3.5] A name that is listed for what is below it only: not if all of that is listed anyway.
    needed = _subscribed_above(found, besides=patterns) if recursive else frozenset()
    out: list[bytes] = [] if args.select else list(_levels(session, patterns, found))
    for name, folder in found.folders:
        if not any(pattern.matches(name) for pattern in patterns):
            continue
        if not (_selected(args, folder) or name in needed):
            continue
        out.append(_line(session, args, name, folder, child_info=name in above))
        if args.status and _selected(args, folder) and folder.rights & Right.READ:
            out.append(await _status(session, name, folder, args.status))
        if len(out) >= 400:
            session.write(b"".join(out))
            out.clear()
            await session.breathe()
    if args.select >= {"SUBSCRIBED"} and "SPECIAL-USE" not in args.select:
        out += [b'* LIST (\\NonExistent \\Subscribed) "/" %b\r\n' % response.mailbox(name, utf8=session.enabled.rev2)
                for name in found.lost if any(pattern.matches(name) for pattern in patterns)]  # [RFC 5258 §3.4]
        out += [b'* LIST (\\NonExistent) "/" %b ("CHILDINFO" ("SUBSCRIBED"))\r\n'
                % response.mailbox(name, utf8=session.enabled.rev2)
                for name in sorted(needed - dict(found.folders).keys() - {names.OTHER_USERS})
                if any(pattern.matches(name) for pattern in patterns)]  # [RFC 5258 §3.5]
    if out:
        session.write(b"".join(out))
    return Ok("Listed")


async def run_lsub(session: Session, args: ListCommand, tag: bytes) -> Ok:
    pattern = Pattern(args.reference + args.patterns[0])
    found = await _candidates(session, [pattern], subscribed=True)
    lines: dict[str, bytes] = {}
    subscribed = [(name, b"") for name, folder in found.folders if folder.subscribed]
    for name, flags in [*subscribed, *((name, b"\\Noselect") for name in found.lost)]:
        if pattern.matches(name):
            lines[name] = b'* LSUB (%b) "/" ' % flags + response.mailbox(name, utf8=session.enabled.rev2)
        elif pattern.has_percent:  # [RFC 3501 §6.3.9] "%" shows the level above a subscribed one
            for parent in _parents(name):
                if pattern.matches(parent) and parent not in lines:
                    lines[parent] = b'* LSUB (\\Noselect) "/" ' + response.mailbox(parent, utf8=session.enabled.rev2)
    if lines:
        session.write(b"\r\n".join(lines.values()) + b"\r\n")
    return Ok("Listed")


@dataclass(slots=True)
class _Found:
    """Folders that a pattern could mean; names that the client is subscribed to and that are no folder any more."""

    folders: list[tuple[str, Folder]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    others: bool = False
    """Is there something of other people, here or elsewhere?"""


async def _candidates(session: Session, patterns: list[Pattern], *, subscribed: bool) -> _Found:
    """One's own folders, and those of the people whom a pattern names; other processes answer for theirs meanwhile.

    subscribed: of other people's, whatever a pattern can match is wanted.
    """
    found = _Found()
    if not session.is_delegate:
        hidden = session.server.limits.show_recoverable or any(
            pattern.literal.startswith(HIDDEN) for pattern in patterns)
        found.folders += [(folder.path, folder) for folder in session.mine.folders(hidden=hidden)]
        found.lost += session.mine.subscribed_names()
    asked: set[str] = set()
    people = await _people(session, patterns, subscribed=subscribed)
    found.others = any(people.values()) or (not session.is_delegate and any(
        pattern.ends_in_percent and pattern.matches(names.OTHER_USERS) for pattern in patterns)
        and bool(await _sharing(session)))
    for address, everybody in people.items():
        try:
            access = await names.other_user(session, address)
            prefix = f"{names.OTHER_USERS}/{address}/"
            found.folders += [(prefix + folder.path, folder) for folder in access.folders()]
            found.lost += [prefix + name for name in access.subscribed_names()]
        except Elsewhere as elsewhere:
            if everybody and elsewhere.info.backend in asked:
                continue  # it has answered for all who live there
            if everybody:
                asked.add(elsewhere.info.backend)
            with contextlib.suppress(No):
                await session.pass_on(elsewhere.info)
        except (No, StoreError):
            continue  # not there, or not for this person: nothing to list either way
    return found


async def _people(session: Session, patterns: list[Pattern], *, subscribed: bool) -> dict[str, bool]:
    """Addresses that the patterns name; of all who share something (True) when a wildcard stands in its place."""
    people: dict[str, bool] = {}
    for pattern in patterns:
        reaches = (pattern.is_deep or (subscribed and pattern.has_wildcard)) and names.OTHER_USERS.startswith(
            pattern.literal)
        if not reaches and not f"{pattern.literal}/".startswith(f"{names.OTHER_USERS}/"):
            continue
        address, slash, _ = pattern.literal.removeprefix(names.OTHER_USERS).removeprefix("/").partition("/")
        if address and not reaches and (slash or not pattern.has_wildcard):
            people.setdefault(address, False)
        elif pattern.has_wildcard:
            sharing = await _sharing(session)
            if len(sharing) <= MAX_UNASKED or subscribed or pattern.literal.startswith(names.OTHER_USERS):
                people.update(dict.fromkeys(sharing, True))
    return people


async def _sharing(session: Session) -> list[str]:
    """Addresses of those who share something with this person; for another process, of those who live here."""
    assert session.claims is not None
    people, found = session.server.people, dict[bytes, str]()
    try:
        for mailbox in session.server.store.shared_with(UserId(session.claims.sub)):
            found[mailbox] = (await people.mailbox(mailbox)).address
        if not session.is_delegate:
            found |= {info.mailbox: info.address for info in await people.shared_with(session.claims.sid)}
    except RpcError:
        pass  # the directory is away: what is known without it
    return [address for mailbox, address in sorted(found.items())
            if session.is_delegate or mailbox != session.mine.mailbox]


def _levels(session: Session, patterns: list[Pattern], found: _Found) -> Iterator[bytes]:
    """Levels of "Other Users" that are no mailboxes and match a pattern that ends in "%" [RFC 9051 §6.3.9]."""
    if not any(pattern.ends_in_percent for pattern in patterns):
        return
    known = dict(found.folders)
    levels = {parent for name in known if name.startswith(f"{names.OTHER_USERS}/") for parent in _parents(name)}
    levels.discard(names.OTHER_USERS)
    if found.others and not session.is_delegate:
        levels.add(names.OTHER_USERS)
    for name in sorted(levels):
        if name not in known and any(pattern.ends_in_percent and pattern.matches(name) for pattern in patterns):
            yield (b'* LIST (\\Noselect \\HasChildren) "/" '
                   + response.mailbox(name, utf8=session.enabled.rev2) + b"\r\n")


async def _status(session: Session, name: str, folder: Folder, items: tuple[str, ...]) -> bytes:
    space = 0
    if "DELETED-STORAGE" in items:
        access, _ = await names.open_folder(session, name)
        space = await reclaimable(access, folder)
    return status_line(session, name, folder, items, space)


def _selected(args: ListCommand, folder: Folder) -> bool:
    if "SUBSCRIBED" in args.select and not folder.subscribed:
        return False
    return "SPECIAL-USE" not in args.select or folder.wellknown in names.SPECIAL_USE


def _parents(name: str) -> Iterator[str]:
    at = name.rfind(names.DELIMITER)
    while at > 0:
        name = name[:at]
        yield name
        at = name.rfind(names.DELIMITER)


def _subscribed_above(found: _Found, besides: Sequence[Pattern] = ()) -> frozenset[str]:
    """Names above a subscribed one; besides: above one that matches none of these."""
    names = [*(name for name, folder in found.folders if folder.subscribed), *found.lost]
    return frozenset(parent for name in names if not any(pattern.matches(name) for pattern in besides)
                     for parent in _parents(name))


def _line(session: Session, args: ListCommand, name: str, folder: Folder, *, child_info: bool) -> bytes:
    words = ["\\HasChildren" if folder.has_children else "\\HasNoChildren"]
    if folder.subscribed and ("SUBSCRIBED" in args.returns or "SUBSCRIBED" in args.select):
        words.append("\\Subscribed")
    use = names.SPECIAL_USE.get(folder.wellknown)
    if use:
        words.append(use)
    line = f'* LIST ({" ".join(words)}) "/" '.encode("ascii") + response.mailbox(name, utf8=session.enabled.rev2)
    return line + (b' ("CHILDINFO" ("SUBSCRIBED"))\r\n' if child_info else b"\r\n")
