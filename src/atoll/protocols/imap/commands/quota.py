"""GETQUOTA, GETQUOTAROOT, SETQUOTA [RFC 9208 §4.1]: one root a mailbox, STORAGE in units of 1024 octets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atoll.directory.client.model import FULL, NO_SENDING, WARNED, Quota
from atoll.mailbox import Access
from atoll.protocols.imap import names
from atoll.protocols.imap.command import Ok
from atoll.protocols.imap.errors import No
from atoll.protocols.imap.wire import response
from atoll.protocols.imap.wire.cursor import Cursor

if TYPE_CHECKING:
    from atoll.protocols.imap.session import Session

ROOT = "User quota"
_REACHED = {WARNED: "The mailbox is almost full", NO_SENDING: "The mailbox is full: no sending",
            FULL: "The mailbox is full: no sending or receiving"}


def parse_root(cur: Cursor) -> str:
    """SP quota-root"""
    cur.space()
    root = cur.text()
    cur.end()
    return root


def parse_set(cur: Cursor) -> str:
    """SP quota-root SP "(" ... ")": read for its form only."""
    cur.space()
    root = cur.text()
    cur.space()
    cur.expect(b"(")
    while not cur.skip(b")"):
        cur.skip(b" ")
        cur.atom()
        cur.space()
        cur.number(2**63 - 1)
    cur.end()
    return root


async def run(session: Session, root: str, tag: bytes) -> Ok:
    if root != ROOT:
        raise No("NONEXISTENT", "No such quota root")
    session.write(_line(session.mine))
    return Ok("Quota told")


async def run_root(session: Session, name: str, tag: bytes) -> Ok:
    access, _ = await names.open_folder(session, name)
    wire = response.mailbox(name, utf8=session.enabled.rev2)
    if not access.is_owner:
        session.write(b"* QUOTAROOT " + wire + b"\r\n")  # how full it is, is its owner's to know
        return Ok("No quota root of yours")
    session.write(b"* QUOTAROOT " + wire + b" " + response.quoted(ROOT.encode("ascii")) + b"\r\n" + _line(access))
    return Ok("Quota told")


async def run_set(session: Session, root: str, tag: bytes) -> Ok:
    raise No("NOPERM", "Quotas are set by an administrator")


def _line(access: Access) -> bytes:
    quota = access.quota()
    words = []
    limit = quota.receive or quota.send
    if limit:
        words.append(f"STORAGE {-(-quota.bytes // 1024)} {limit // 1024}")
    line = f'* QUOTA "{ROOT}" ({" ".join(words)})\r\n'
    reached = Quota(quota.warn, quota.send, quota.receive).step(quota.bytes)
    if reached:  # [RFC 9208 §4.3.1] a soft limit that is exceeded is told beside the figures
        line += f"* NO [OVERQUOTA] {_REACHED[reached]}\r\n"
    return line.encode("ascii")
