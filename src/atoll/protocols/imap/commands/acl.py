"""SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS [RFC 4314 §3]. Identifiers: addresses, or "anyone"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.base.ids import UserId
from atoll.mailbox import ANYONE, Access, Right
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


def _letters(rights: Right) -> bytes:
    """As clients read them; those that know RFC 2086 only go by "c" and "d" [RFC 4314 §2.1.1]."""
    letters = rights.letters + ("c" if rights & Right.of("c") else "") + ("d" if rights & Right.of("d") else "")
    return response.astring(letters.encode("ascii"))


async def _person(session: Session, identifier: str) -> tuple[UserId, str]:
    if identifier == "anyone":
        return ANYONE, identifier
    if identifier.startswith("-"):
        raise No("CANNOT", "Negative rights are not kept")  # [RFC 4314 §2]
    info = await session.server.people.mailbox_of(identifier)
    if info is None:
        raise No("CANNOT", "No such person")
    return UserId(info.user), info.address


async def _owner(session: Session, access: Access) -> str:
    return (await session.server.people.mailbox(access.mailbox)).address


async def run_set(session: Session, args: tuple[str, str, str], tag: bytes) -> Ok:
    name, identifier, text = args
    access, path = await names.resolve(session, name)
    held = access.acl(path)  # needs the right to administer
    try:
        rights = Right.of(text.lstrip("+-") if text[:1] in ("+", "-") else text)
    except ValueError:
        raise Bad("Unknown right") from None
    who, address = await _person(session, identifier)
    if text[:1] in ("+", "-"):
        had = held.get(address, Right.NONE)
        rights = had | rights if text[0] == "+" else had & ~rights
    if address == await _owner(session, access):
        return Ok("The owner has every right")  # LISTRIGHTS says so: always granted
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
    for address, rights in ({await _owner(session, access): Right.all()} | pairs).items():
        words += [response.astring(address.encode("utf-8")), _letters(rights)]
    session.write(b" ".join(words) + b"\r\n")
    return Ok("Rights listed")


async def run_list(session: Session, args: tuple[str, str], tag: bytes) -> Ok:
    name, identifier = args
    access, path = await names.resolve(session, name)
    access.acl(path)  # needs the right to administer
    _, address = await _person(session, identifier)
    letters = _letters(Right.all())
    if address == await _owner(session, access):
        always, optional = letters, b""
    else:
        always, optional = b'""', b" ".join(letters[at : at + 1] for at in range(len(letters)))
    words = [b"* LISTRIGHTS", response.mailbox(name, utf8=session.enabled.rev2),
             response.astring(identifier.encode("utf-8")), always]
    session.write(b" ".join(words + ([optional] if optional else [])) + b"\r\n")
    return Ok("Rights listed")


async def run_my(session: Session, name: str, tag: bytes) -> Ok:
    access, path = await names.resolve(session, name)
    session.write(b"* MYRIGHTS " + response.mailbox(name, utf8=session.enabled.rev2) + b" "
                  + _letters(access.my_rights(path)) + b"\r\n")
    return Ok("Rights told")
