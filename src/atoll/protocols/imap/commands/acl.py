"""SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS [RFC 4314 §3]. Identifiers: addresses, or "anyone"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.base.ids import UserId
from atoll.mailbox import ANYONE, Right
from atoll.protocols.imap import names
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.errors import Bad, No
from atoll.protocols.imap.wire import response
from atoll.protocols.imap.wire.cursor import Cursor

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session


def parse_set(cur: Cursor) -> tuple[str, str, str]:
    """SP mailbox SP identifier SP [+-]rights"""
    name, identifier = _two(cur)
    cur.space()
    rights = cur.text()
    cur.end()
    return name, identifier, rights


def parse_two(cur: Cursor) -> tuple[str, str]:
    """SP mailbox SP identifier"""
    pair = _two(cur)
    cur.end()
    return pair


def _two(cur: Cursor) -> tuple[str, str]:
    cur.space()
    name = cur.mailbox()
    cur.space()
    return name, cur.text()


async def _person(session: Session, identifier: str) -> tuple[UserId, str]:
    if identifier == "anyone":
        return ANYONE, identifier
    if identifier.startswith("-"):
        raise No("CANNOT", "Negative rights are not kept")  # [RFC 4314 §2]
    info = await session.server.people.mailbox_of(identifier)
    if info is None:
        raise No("CANNOT", "No such person")
    return UserId(info.user), info.address


async def run_set(session: Session, args: tuple[str, str, str], tag: bytes) -> Ok:
    name, identifier, text = args
    access, path = await names.resolve(session, name)
    access.folder(path)
    try:
        rights = Right.of(text.lstrip("+-") if text[:1] in ("+", "-") else text)
    except ValueError:
        raise Bad("Unknown right") from None
    who, address = await _person(session, identifier)
    if text[:1] in ("+", "-"):
        held = access.acl(path).get(address, Right.NONE)
        rights = held | rights if text[0] == "+" else held & ~rights
    await access.set_acl(path, who, address, rights)
    return Ok("Rights set")


async def run_delete(session: Session, args: tuple[str, str], tag: bytes) -> Ok:
    name, identifier = args
    access, path = await names.resolve(session, name)
    who, address = await _person(session, identifier)
    await access.set_acl(path, who, address, Right.NONE)
    return Ok("Rights removed")


async def run_get(session: Session, name: str, tag: bytes) -> Ok:
    access, path = await names.resolve(session, name)
    pairs = access.acl(path)
    words = [b"* ACL", response.mailbox(name, utf8=session.enabled.rev2)]
    info = await session.server.people.mailbox(access.mailbox)
    pairs = {info.address: Right.all()} | pairs
    for address, rights in pairs.items():
        words += [response.astring(address.encode("utf-8")), response.astring(rights.letters.encode("ascii"))]
    session.write(b" ".join(words) + b"\r\n")
    return Ok("Rights listed")


async def run_list(session: Session, args: tuple[str, str], tag: bytes) -> Ok:
    name, identifier = args
    access, path = await names.resolve(session, name)
    access.acl(path)  # needs the right to administer
    who, _ = await _person(session, identifier)
    info = await session.server.people.mailbox(access.mailbox)
    letters = Right.all().letters
    optional = b"" if who == info.user else " ".join(letters).encode("ascii")
    always = letters.encode("ascii") if who == info.user else b'""'
    words = [b"* LISTRIGHTS", response.mailbox(name, utf8=session.enabled.rev2),
             response.astring(identifier.encode("utf-8")), always]
    session.write(b" ".join(words + ([optional] if optional else [])) + b"\r\n")
    return Ok("Rights listed")


async def run_my(session: Session, name: str, tag: bytes) -> Ok:
    access, path = await names.resolve(session, name)
    letters = access.my_rights(path).letters.encode("ascii")
    session.write(b"* MYRIGHTS " + response.mailbox(name, utf8=session.enabled.rev2) + b" "
                  + response.astring(letters) + b"\r\n")
    return Ok("Rights told")
