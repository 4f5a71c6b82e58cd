"""What a frontend says to transport: our own words, in one order, read by one expression each.

In     octets behind MAIL or RCPT, made by protocols.smtp.handoff from what it had parsed.
Out    InsideMail, RcptTo.
Spec   docs/seams.md 6. XATOLL: facts about the client, base64url; XID: the network message id, hexadecimal.
Fails  Refuse(501): not ours.
"""

from __future__ import annotations

import re

import msgspec

from atoll.formats.smtp import replies
from atoll.formats.smtp.commands import MailFrom, RcptTo, Refuse

WHOLE = re.compile(rb"MAIL (FROM:<[ -~]{0,400}>[ -~]{1,4500})\r\nRCPT (TO:<[ -~]{1,400}>[ -~]{0,600})\r\n"
                   rb"BDAT ([0-9]{1,9}) LAST\r\n")
"""The command lines of a message for one recipient: what stands behind MAIL, behind RCPT, the octets of the content."""
_MAIL = re.compile(rb"FROM:<([^\x00-\x1f]{0,400})>(?: BODY=([0-9A-Z]{4,10}))?( SMTPUTF8)?(?: RET=([A-Z]{4}))?"
                   rb"(?: ENVID=([!-~]{1,100}))? XATOLL=([A-Za-z0-9_=-]{0,4000}) XID=([0-9a-f]{32})")
_RCPT = re.compile(rb"TO:<([^\x00-\x1f]{1,400})>(?: NOTIFY=([A-Z,]{5,30}))?(?: ORCPT=([!-~]{1,500}))?")


class InsideMail(msgspec.Struct, frozen=True, gc=False):
    """MAIL of our own hop."""

    mail: MailFrom
    xatoll: bytes
    xid: bytes


def inside_mail(rest: bytes) -> InsideMail:
    """What stands behind "MAIL "."""
    found = _MAIL.fullmatch(rest)
    if found is None:
        raise Refuse(replies.SYNTAX)
    address, body, utf8, ret, envid, xatoll, xid = found.groups(b"")
    mail = MailFrom(_text(address), 0, body.decode() or "7BIT", bool(utf8), ret.decode(), envid.decode())
    return InsideMail(mail, xatoll, bytes.fromhex(xid.decode()))


def inside_rcpt(rest: bytes) -> RcptTo:
    """What stands behind "RCPT "."""
    found = _RCPT.fullmatch(rest)
    if found is None:
        raise Refuse(replies.SYNTAX)
    address, notify, orcpt = found.groups(b"")
    return RcptTo(_text(address), frozenset(notify.decode().split(",")) if notify else frozenset(), orcpt.decode())


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Refuse(replies.SYNTAX) from None
